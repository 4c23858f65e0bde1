"""Predictions of artifacts: from plates, folders of masks or probabilities, or a model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import EvaluateConfig, ShippedUNet
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.campaign_file import CAMPAIGN_FILE
from artifact_mask.io.label_images import list_labels, read_label_image
from artifact_mask.io.mask_files import MASK_SUFFIXES, PIXEL_SUFFIXES, list_masks, read_mask, read_pixels
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.kernels.truth import ARTIFACT
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.nn.model_card import UNetCard, find_unet, read_card
from artifact_mask.workflows.planes import predict_planes, scale_between
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.segmented_fields import SegmentedField, is_image_folder, listed, match_masks

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

_OF_ZARR = ("zarr.json", ".zgroup", ".zattrs", CAMPAIGN_FILE)

_FieldName = tuple[str, str, int]
"""Plate, well and index."""


class Prediction(NamedTuple):
    """What is predicted of a field: a mask ``(y, x)``, and the probability that it was cut from, if it was."""

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32] | None


def cut_of_files(config: EvaluateConfig) -> Cut:
    """How files of probabilities become objects: as configured, else by the shipped model's card."""
    card = read_card(find_unet(), UNetCard)
    return Cut(config.threshold or card.threshold, config.min_object_px or card.min_object_px)


class Source(Protocol):
    """Where predictions come from."""

    def predict(self, field: SegmentedField) -> Prediction | None:
        """Give the prediction for a field; None if there is none."""


def is_mask_folder(place: str | Location) -> bool:
    """Whether a place is a folder with masks in it, and no plate or folder of plates."""
    if not isinstance(place, Path) or not place.is_dir():
        return False
    names = [path.name for path in place.iterdir()]
    if any(name in _OF_ZARR or name.endswith(".zarr") for name in names):
        return False
    return any(Path(name).suffix.lower() in MASK_SUFFIXES for name in names)


def find_model(prediction: ShippedUNet | Location) -> Path | None:
    """File of the model that predicts; None if it is something else."""
    if isinstance(prediction, str):
        return find_unet(prediction)
    return prediction if isinstance(prediction, Path) and prediction.suffix == ".safetensors" else None


def open_source(config: EvaluateConfig, truth: Sequence[SegmentedField], progress: Progress) -> Source:
    """Open what predicts the fields of a truth.

    Raises
    ------
    ConfigError
        If no prediction belongs to a field, or one could belong to several.
    PlateError
        If a plate is not there or not complete.
    ModelError
        If the model's file is not one.
    """
    model, place = find_model(config.prediction), config.prediction
    if model:
        return _Model(config, model)
    assert not isinstance(place, str)
    if isinstance(place, Path) and is_mask_folder(place):
        return _open_files(config, place, truth, progress)
    return _Plates(place, config.prediction_label, truth)


class _Model:
    """A network that is applied to the images."""

    def __init__(self, config: EvaluateConfig, path: Path) -> None:
        self._config, self._path = config, path
        self._card = read_card(self._path, UNetCard)
        self._lock = Lock()
        self._loaded: Segmenter | None = None

    def predict(self, field: SegmentedField) -> Prediction:
        """Predict a field at the model's own pixel size."""
        pixels = retry(field.read)
        unit = self._card.normalisation.contrast_unit
        contrast = normalise_by_background(pixels, estimate_background(pixels), contrast_unit=unit)
        scale = scale_between(field.pixel_size_um, self._card.pixel_size_um)
        with self._lock:
            (probability,) = predict_planes([contrast], scale, self._segmenter())
        cut = self._card.cut(scale, threshold=self._config.threshold, min_object_px=self._config.min_object_px)
        return Prediction(label_artifacts(probability, contrast, cut) > 0, probability)

    def _segmenter(self) -> "Segmenter":
        # Imported here, so that torch is paid for only where a model is given.
        from artifact_mask.nn.predict import Segmenter

        if self._loaded is None:
            self._loaded = Segmenter.load(self._path)
        return self._loaded


class _Plates:
    """Label images of plates."""

    def __init__(self, place: Location, label: str, truth: Sequence[SegmentedField]) -> None:
        self._label = label
        self._plates: dict[str, tuple[Location, Plate]] = {}
        for root in find_plates([place]):
            plate = read_plate(root).plate
            if plate.name in self._plates:
                raise ConfigError(
                    f"{self._plates[plate.name][0]} and {root} are both called {plate.name!r}: it is not clear which "
                    "one predicts. Give one of them."
                )
            self._plates[plate.name] = (root, plate)
        if not any(field.plate in self._plates for field in truth):
            names = sorted({field.plate or field.file for field in truth})
            raise ConfigError(
                f"{place} has the plates {listed(sorted(self._plates))}, the truth speaks of "
                f"{listed(names)}. Give predictions for these, or masks of the plates' fields as the truth."
            )

    def predict(self, field: SegmentedField) -> Prediction | None:
        """Read the label image."""
        root, plate = self._plates.get(field.plate, (None, None))
        if root is None or plate is None:
            return None
        well = next((well for well in plate.wells if well.name == field.well), None)
        key = (well.path, field.field) if well else ("", -1)
        if key not in plate.acquisition_of:
            return None
        folder = root / key[0] / str(key[1])
        if self._label not in retry(partial(list_labels, folder)):
            return None
        n_z = plate.acquisitions[plate.acquisition_of[key]].shape[2]
        return Prediction(retry(partial(read_label_image, folder, self._label, (0, n_z // 2))) != 0, None)


@dataclass(frozen=True)
class _Files:
    """Files with masks or probabilities, by the place that each belongs to."""

    files: Mapping[_FieldName | str, Path]
    cut: Cut

    def predict(self, field: SegmentedField) -> Prediction | None:
        """Read the file."""
        key = Path(field.file).stem if field.file else (field.plate, field.well, field.field)
        path = self.files.get(key)
        return None if path is None else retry(partial(read_prediction, path, field.shape, self.cut))


def _open_files(config: EvaluateConfig, folder: Path, truth: Sequence[SegmentedField], progress: Progress) -> Source:
    stems = {Path(field.file).stem for field in truth if field.file}
    files: dict[_FieldName | str, Path] = {}
    if stems:
        files.update(pick_predictions(folder, stems, progress))
    if len(stems) < len(truth):
        places = [place for place in config.truth if not is_image_folder(place)]
        plates = {root: read_plate(root).plate for root in find_plates(places)}
        for (root, key), path in match_masks(list(plates.items()), folder, progress).items():
            files[_name_field(plates[root], key)] = path
    return _Files(files, cut_of_files(config))


def _name_field(plate: Plate, key: FieldKey) -> _FieldName:
    well = next(well for well in plate.wells if well.path == key[0])
    return plate.name, well.name, key[1]


def pick_predictions(folder: Path, stems: Collection[str], progress: Progress) -> dict[str, Path]:
    """Predictions of a folder that are named as the truth; others are told.

    Raises
    ------
    ConfigError
        If there is none.
    """
    files = list_masks(folder)
    strangers = sorted(files.keys() - set(stems))
    if len(strangers) == len(files):
        raise ConfigError(
            f"No prediction in {folder} has the name of a truth; found {listed(strangers)}, expected names such as "
            f"{listed(sorted(stems)[:2])}. Give them equal names."
        )
    if strangers:
        progress.note(f"{len(strangers)} predictions belong to no truth and are left out: {listed(strangers)}.")
    return {stem: path for stem, path in files.items() if stem in stems}


def is_outline(path: Path) -> bool:
    """Whether a file has outlines, which do not know how large the image is."""
    return path.suffix.lower() not in PIXEL_SUFFIXES


def read_prediction(path: Path, shape: tuple[int, int] | None, cut: Cut) -> Prediction:
    """Read a predicted mask, or probabilities, which are cut.

    Parameters
    ----------
    path
        Mask, outlines, or an array of floating-point numbers (TIFF, NPY): probabilities.
    shape
        ``(y, x)`` of the image; outlines cannot do without.
    cut
        How probabilities become objects.

    Raises
    ------
    ImageError
        If the file is missing, damaged, or neither.
    ConfigError
        If the shape is missing.
    """
    if is_outline(path):
        return Prediction(read_mask(path, shape, ignore=None) == ARTIFACT, None)
    pixels = read_pixels(path)
    if pixels.dtype.kind != "f":
        return Prediction(pixels != 0, None)
    # NaN is neither.
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise ImageError(
            f"{path.name} has values from {np.nanmin(pixels):.3g} to {np.nanmax(pixels):.3g}, or none; expected "
            "probabilities from 0 to 1, or a mask of whole numbers."
        )
    probability = pixels.astype(np.float32)
    return Prediction(label_artifacts(probability, None, cut) > 0, probability)

"""Bring predicted and true masks of fields together."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import EvaluateConfig
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.mask_files import list_masks, read_mask
from artifact_mask.io.tiff_folders import find_place, list_tiffs
from artifact_mask.kernels.labels import Cut
from artifact_mask.workflows.predictions import (
    Prediction,
    Source,
    cut_of_files,
    find_model,
    is_mask_folder,
    is_outline,
    open_source,
    pick_predictions,
    read_prediction,
)
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.segmented_fields import (
    IMAGES,
    MASKS,
    SegmentedField,
    find_segmented_fields,
    is_image_folder,
    listed,
)


class Compared(NamedTuple):
    """The truth of a field ``(y, x)`` (0 background, 1 artifact, 255 leave out) and the prediction."""

    truth: NDArray[np.uint8]
    prediction: Prediction


@dataclass(frozen=True)
class EvaluatedField:
    """A field with a truth.

    Attributes
    ----------
    plate, well, field, file
        Where it is; ``file`` is empty for a field of a plate.
    read
        Gives truth and prediction; None if there is no prediction.
    read_image
        Gives the pixels ``(y, x)``; None if there is no image.
    """

    plate: str
    well: str
    field: int
    file: str
    read: Callable[[], Compared | None]
    read_image: Callable[[], NDArray[np.uint16]] | None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.file or f"{self.plate} {self.well} field {self.field}"


def find_evaluated_fields(config: EvaluateConfig, progress: Progress) -> tuple[list[EvaluatedField], dict[str, str]]:
    """Find all fields with a truth, and their predictions; no pixels are read.

    Returns
    -------
    fields
        Also those without a prediction.
    left_out
        Fields of the truth that cannot be read, by name, with the reason.

    Raises
    ------
    ConfigError
        If no field has a truth, no prediction belongs to one, or what is given is ambiguous.
    PlateError
        If a plate is not there, is not complete, or lacks the channel.
    ModelError
        If the model's file is not one.
    """
    masks = _find_bare_masks(config)
    if masks and isinstance(config.prediction, Path) and is_mask_folder(config.prediction):
        return _pair_files(config, masks, config.prediction, progress), {}
    truth = _find_truth(config, masks, progress)
    source = open_source(config, truth, progress)
    fields = [
        EvaluatedField(field.plate, field.well, field.field, field.file, partial(_compare, field, source), field.read)
        for field in truth
    ]
    return fields, {} if masks else _find_unreadable(config, truth)


def _find_bare_masks(config: EvaluateConfig) -> Path | None:
    """Find the folder of masks if the truth is nothing else, or if its images are those of the predicted plates."""
    place = config.truth[0]
    if len(config.truth) > 1 or not isinstance(place, Path):
        return None
    model = find_model(config.prediction)
    if is_image_folder(place):
        of_plates = not model and not is_mask_folder(config.prediction)
        return place / MASKS if of_plates else None
    if not is_mask_folder(place):
        return None
    if model:
        raise ConfigError(
            f"{place} has masks alone, but a model needs images. Give a folder with {IMAGES}/ and {MASKS}/, or a "
            "plate, with the masks as --masks."
        )
    return place


def _find_truth(config: EvaluateConfig, masks: Path | None, progress: Progress) -> list[SegmentedField]:
    """Fields with a truth; ``masks`` without images are those of the predicted plates' fields."""
    places = config.truth if masks is None or isinstance(config.prediction, str) else (config.prediction,)
    found = find_segmented_fields(
        places,
        labels=(config.truth_label,),
        masks=masks or config.masks,
        channel=config.channel,
        # Masks are compared pixel by pixel, whatever their size.
        pixel_size_um=config.pixel_size_um or (None if find_model(config.prediction) else 1.0),
        ignore=config.ignore,
        progress=progress,
    )
    twice = [name for name, n in Counter(field.name for field in found).items() if n > 1]
    if twice:
        raise ConfigError(
            f"The truth has {listed(twice)} more than once: predictions could not be told apart. Give the places one "
            "by one."
        )
    return found


def _find_unreadable(config: EvaluateConfig, truth: Sequence[SegmentedField]) -> dict[str, str]:
    """Images with a mask that are no field, since they cannot be opened."""
    known = {field.file for field in truth}
    unreadable = {}
    for folder in config.truth:
        if isinstance(folder, Path) and is_image_folder(folder):
            masks = list_masks(folder / MASKS)
            for image in list_tiffs(folder / IMAGES):
                if image.stem in masks and image.name not in known:
                    unreadable[image.name] = "the image cannot be read"
    return unreadable


def _compare(field: SegmentedField, source: Source) -> Compared | None:
    prediction = source.predict(field)
    return None if prediction is None else _check(Compared(retry(field.read_mask), prediction))


def _check(compared: Compared) -> Compared:
    truth, found = compared.truth.shape, compared.prediction.mask.shape
    if truth != found:
        raise ImageError(
            f"the prediction has {found[0]} x {found[1]} pixels, the truth {truth[0]} x {truth[1]}; expected the same. "
            "Export both at full resolution."
        )
    return compared


def _pair_files(config: EvaluateConfig, truth: Path, prediction: Path, progress: Progress) -> list[EvaluatedField]:
    """Masks and predictions of the same name."""
    true = list_masks(truth)
    predicted = pick_predictions(prediction, true, progress)
    cut = cut_of_files(config)
    return [
        EvaluatedField(
            *find_place(stem), path.name, partial(_compare_files, path, predicted.get(stem), config.ignore, cut), None
        )
        for stem, path in true.items()
    ]


def _compare_files(true: Path, predicted: Path | None, ignore: int | None, cut: Cut) -> Compared | None:
    if predicted is None:
        return None
    if is_outline(true):
        prediction = read_prediction(predicted, None, cut)
        return _check(Compared(read_mask(true, _shape_of(prediction.mask), ignore=ignore), prediction))
    truth = read_mask(true, None, ignore=ignore)
    return _check(Compared(truth, read_prediction(predicted, _shape_of(truth), cut)))


def _shape_of(plane: NDArray[np.generic]) -> tuple[int, int]:
    return plane.shape[0], plane.shape[1]

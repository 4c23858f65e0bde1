"""`artmask run`: find the artifacts of a plate, mask them, measure."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.transform import resize

from artifact_mask import __version__
from artifact_mask.config import RunConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit
from artifact_mask.engine.pipeline import overlap
from artifact_mask.engine.placement import worker_model, worker_threads
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import read_image_plane, read_missing_planes, write_labels, write_masked
from artifact_mask.io.ome_zarr_plate import find_plates
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_objects, object_areas
from artifact_mask.kernels.masking import fill_with_median
from artifact_mask.kernels.staining import stained_fractions
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion, Plate
from artifact_mask.nn.model_card import UNetCard, default_model_path, model_digest, read_card
from artifact_mask.workflows.campaign import Model, PlannedStage, Stage, process_campaign
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import tabulate_fields, tabulate_wells
from artifact_mask.workflows.unit import Receipt, Row, plan_plate, process_unit, retry_writing

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

LABEL_NAME = "artifacts"
PIXEL_SIZE_TOLERANCE = 1.25
"""Up to this ratio a plate's pixels are taken for the model's: what a camera and an objective differ by."""
_DEVICE = Lock()
"""A worker's tasks read, measure and write beside each other, but take turns on its device."""


@dataclass(frozen=True)
class _Parameters:
    """What determines a field's result, beside the pixels and the model."""

    channel: int
    scale: float
    threshold: float
    min_object_px: int
    stain_threshold_od: float
    ngff: NgffVersion


def run(config: RunConfig, progress: Progress | None = None) -> Summary:
    """Segment, mask and measure every field of some plates on Dask.

    Writes ``labels/artifacts`` and ``masked`` into each field, ``tables/fields`` and ``tables/wells`` into each plate.
    Run again, it does only what is missing.

    Raises
    ------
    PlateError
        If there is no such plate, or the only one is not complete or has no such channel; of several plates, such a one
        is left out and named in the summary.
    LeaseError
        If another run is at work on the only plate.
    ModelError
        If the model file is not one.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    plates = find_plates(config.plates)
    model = config.model or default_model_path()
    card, digest = read_card(model, UNetCard), model_digest(model)
    placed = Model(f"{digest}-{uuid.uuid4().hex}", partial(_load_segmenter, config.model))
    progress.begin(RunStage.name, sum(plates.values()))
    return process_campaign(
        [
            PlannedStage(plate, n_fields, partial(_open_stage, plate, config, card, digest, placed.name, progress))
            for plate, n_fields in plates.items()
        ],
        config=config.model_dump(mode="json"),
        cluster=config.cluster,
        progress=progress,
        model=placed,
        use_gpus=True,
    )


@dataclass(frozen=True)
class RunStage(Stage):
    """Run on one plate."""

    name = "run"
    plate: Location
    content: Plate
    ngff: NgffVersion
    ingested: Mapping[FieldKey, FieldRecord]
    ingest_digest: str
    model_digest: str
    model_name: str
    parameters: Mapping[int, _Parameters]
    fields_per_unit: int | None

    @property
    def settings(self) -> dict[str, object]:
        """What determines labels, masked images and measurements."""
        given = {"software": __version__, "ingest": self.ingest_digest, "model": self.model_digest}
        several = len(self.parameters) > 1
        return given | {
            f"{name} of acquisition {number}" if several else name: value
            for number, parameters in self.parameters.items()
            for name, value in vars(parameters).items()
        }

    def units(self) -> list[Unit]:
        """Fields of one well each, of the acquisitions that have the channel."""
        return plan_plate(self.content, self.parameters, fields_per_unit=self.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the description of a unit's own well."""
        number = self.content.acquisition_of[unit.well, unit.fields[0]]
        acquisition = self.content.acquisitions[number].only(unit.well)
        return partial(_run_unit, journal, acquisition, self.parameters[number], self.model_name, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Labels and masked image."""
        return _owned(self.plate, key)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields and wells, with what the ingest said of them."""
        skipped = {
            key: FieldRecord({}, {})
            for key, number in self.content.acquisition_of.items()
            if number not in self.parameters
        }
        fields = tabulate_fields(self.content, self.ingested, {**records, **skipped})
        return {"fields": fields, "wells": tabulate_wells(self.content, fields)}


def _open_stage(
    root: Location, config: RunConfig, card: UNetCard, digest: str, model_name: str, progress: Progress
) -> RunStage:
    stored, ingested = read_ingest(root)
    plate = stored.plate
    parameters: dict[int, _Parameters] = {}
    problems = []
    for number, acquisition in enumerate(plate.acquisitions):
        try:
            channel = find_channel(acquisition, config.channel)
        except PlateError as error:
            problems.append(f"{plate.name} {error}")
            continue
        scale = acquisition.pixel_size_um / card.pixel_size_um
        if 1 / PIXEL_SIZE_TOLERANCE <= scale <= PIXEL_SIZE_TOLERANCE:
            scale = 1.0
        else:
            progress.note(
                f"Warning: {plate.name} has {acquisition.pixel_size_um:.3g} um a pixel, the model was trained at "
                f"{card.pixel_size_um:.3g} um. Fields are resampled by {scale:.2f} for it: look at the labels before "
                "you trust them."
            )
        parameters[number] = _Parameters(
            channel=channel,
            scale=scale,
            threshold=config.threshold or card.threshold,
            min_object_px=config.min_object_px or max(1, round(card.min_object_px / scale**2)),
            stain_threshold_od=config.stain_threshold_od,
            ngff=stored.ngff,
        )
    if not parameters:
        raise PlateError(problems[0])
    for problem in problems:
        progress.note(f"An acquisition is skipped: {problem}")
    return RunStage(
        root,
        plate,
        stored.ngff,
        ingested,
        stored.ingest_digest,
        digest,
        model_name,
        parameters,
        config.fields_per_unit,
    )


def find_channel(acquisition: Acquisition, name: str | None) -> int:
    """Index of the channel of a name; without one, of the only brightfield channel.

    Raises
    ------
    PlateError
        If there is none, or more than one.
    """
    names = ", ".join(repr(channel.name) for channel in acquisition.channels)
    if name is not None:
        found = [c for c, channel in enumerate(acquisition.channels) if channel.name == name]
        wanted = f"channel named {name!r}"
    else:
        found = [c for c, channel in enumerate(acquisition.channels) if channel.kind == "brightfield"]
        wanted = "brightfield channel"
    if len(found) != 1:
        raise PlateError(f"has {len(found)} {wanted}s, expected one. Name one of {names} with --channel.")
    return found[0]


def _load_segmenter(model: Path | None) -> "Segmenter":
    # Imported here, so that only workers pay for torch. The default model is that of the worker's own installation.
    from artifact_mask.nn.predict import Segmenter

    return Segmenter.load(model)


class _Planes(NamedTuple):
    """The planes of a field's channel, by ``(t, z)``, and what is derived from each."""

    tz: list[tuple[int, int]]
    pixels: list[NDArray[np.uint16]]
    background: list[NDArray[np.float32]]
    contrast: list[NDArray[np.float32]]


def _owned(root: Location, key: FieldKey) -> list[Location]:
    folder = root / key[0] / str(key[1])
    return [folder / "labels" / LABEL_NAME, folder / "masked"]


def _run_unit(journal: Journal, acquisition: Acquisition, parameters: _Parameters, model: str, unit: Unit) -> Receipt:
    segmenter: Segmenter = worker_model(model)
    (well,) = acquisition.wells
    fields = {field.index: field for field in well.fields}
    planes_per_field = acquisition.shape[0] * acquisition.shape[2]

    def folder(index: int) -> Location:
        return journal.plate / unit.well / str(index)

    def compute(batch: list[_Planes]) -> list[list[NDArray[np.float32]]]:
        contrasts = [contrast for planes in batch for contrast in planes.contrast]
        with _DEVICE:
            probabilities = _predict(contrasts, parameters.scale, segmenter)
        starts = range(0, len(probabilities), planes_per_field)
        return [probabilities[start : start + planes_per_field] for start in starts]

    def process(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
        def read(index: int) -> _Planes:
            return retry(partial(_read_planes, folder(index), acquisition, parameters, segmenter.card))

        def write(index: int, planes: _Planes, probabilities: list[NDArray[np.float32]]) -> Row:
            place = (staged[index], folder(index), acquisition, fields[index])
            return retry_writing(staged[index], partial(_write_results, *place, parameters, planes, probabilities))

        batch = max(1, segmenter.planes_per_batch(acquisition.shape[-2:]) // planes_per_field)
        # On a GPU, what is around the network decides; on a CPU, a second thread waits for the disk.
        threads = max(2, worker_threads())
        return overlap(staged, read=read, compute=compute, write=write, batch=batch, threads=threads)

    return process_unit(
        journal,
        unit,
        process,
        partial(_owned, journal.plate),
        field_bytes=planes_per_field * acquisition.plane_bytes,
    )


def _read_planes(folder: Location, acquisition: Acquisition, parameters: _Parameters, card: UNetCard) -> _Planes:
    channel = parameters.channel
    gaps = [reason for (_, c, _), reason in read_missing_planes(folder).items() if c == channel]
    if gaps:
        raise ImageError(f"{acquisition.channels[channel].name} is missing: {gaps[0]}")
    planes = _Planes([], [], [], [])
    for t, z in np.ndindex(acquisition.shape[0], acquisition.shape[2]):
        pixels = read_image_plane(folder, acquisition, (t, channel, z))
        background = estimate_background(pixels)
        planes.tz.append((t, z))
        planes.pixels.append(pixels)
        planes.background.append(background)
        planes.contrast.append(
            normalise_by_background(pixels, background, contrast_unit=card.normalisation.contrast_unit)
        )
    return planes


def _write_results(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
    field: Field,
    parameters: _Parameters,
    planes: _Planes,
    probabilities: list[NDArray[np.float32]],
) -> Row:
    """Label, mask and measure the planes of a field, and write the images; return its row for the tables."""
    labelled, masked, measured = [], [], []
    for (t, z), pixels, background, probability in zip(
        planes.tz, planes.pixels, planes.background, probabilities, strict=True
    ):
        labels = label_objects(probability, threshold=parameters.threshold, min_object_px=parameters.min_object_px)
        mask = labels > 0
        areas = object_areas(labels)
        stained_raw, stained = stained_fractions(pixels, background, mask, threshold=parameters.stain_threshold_od)
        measured.append(
            {
                "background": float(background.mean()),
                "artifact_fraction": float(areas.sum()) / labels.size,
                "n_artifacts": int(areas.size),
                "artifact_area_um2": float(areas.sum()) * acquisition.pixel_size_um**2,
                "largest_artifact_um2": float(areas.max(initial=0)) * acquisition.pixel_size_um**2,
                "stained_fraction_raw": stained_raw,
                "stained_fraction": stained,
            }
        )
        labelled.append(((t, z), labels))
        masked.append(((t, 0, z), fill_with_median(pixels, mask)))
    write_labels(files, folder, acquisition, field, labelled, name=LABEL_NAME, ngff=parameters.ngff)
    write_masked(files, folder, acquisition, field, parameters.channel, masked, ngff=parameters.ngff)
    return _combine(measured)


def _predict(contrasts: list[NDArray[np.float32]], scale: float, segmenter: "Segmenter") -> list[NDArray[np.float32]]:
    """Predict planes ``(y, x)`` at the model's own pixel size, ``scale`` times finer than theirs."""
    if scale == 1:
        planes = contrasts[0][np.newaxis] if len(contrasts) == 1 else np.stack(contrasts)
        return list(segmenter.predict(planes))
    shape = contrasts[0].shape
    finer = tuple(max(1, round(n * scale)) for n in shape)
    resampled = [resize(c, finer, order=1, anti_aliasing=scale < 1, preserve_range=True) for c in contrasts]
    probabilities = segmenter.predict(np.asarray(resampled, np.float32))
    return [np.asarray(resize(p, shape, order=1, anti_aliasing=scale > 1), np.float32) for p in probabilities]


def _combine(planes: list[dict[str, float]]) -> dict[str, float]:
    """One row from the planes of a field: areas and counts summed, the largest taken, the rest averaged."""
    row = {}
    for key in planes[0]:
        values = [plane[key] for plane in planes]
        if key in ("n_artifacts", "artifact_area_um2"):
            row[key] = sum(values)
        elif key == "largest_artifact_um2":
            row[key] = max(values)
        else:
            row[key] = sum(values) / len(values)
    return row

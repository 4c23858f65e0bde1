"""`artmask run`: find the artifacts of a plate, mask them, measure."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from artifact_mask import __version__
from artifact_mask.config import RunConfig
from artifact_mask.engine.journal import Journal, Unit, digest_of, plan_units
from artifact_mask.engine.placement import worker_model
from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.ome_zarr import open_level, read_missing_planes, write_labels, write_masked
from artifact_mask.io.tables import write_tables
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_objects, object_areas
from artifact_mask.kernels.masking import fill_with_median
from artifact_mask.kernels.staining import optical_density, stained_fraction
from artifact_mask.metadata import Field, Plate
from artifact_mask.nn.model_card import default_model_path, model_digest, read_card
from artifact_mask.workflows.campaign import Receipt, naming_a_full_disk, process_unit, process_units
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import list_failures, tabulate_fields, tabulate_wells

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

STAGE = "run"
LABEL_NAME = "artifacts"
PIXEL_SIZE_TOLERANCE = 1.25
"""Up to this ratio a plate's pixels are taken for the model's: what a camera and an objective differ by."""
_DEVICE = Lock()
"""A worker's tasks read, measure and write beside each other, but take turns on its device."""


@dataclass(frozen=True)
class _Settings:
    """What determines a field's result, beside the pixels and the model."""

    channel: int
    scale: float
    threshold: float
    min_object_px: int
    stain_threshold_od: float


def run(config: RunConfig, progress: Progress | None = None) -> Summary:
    """Segment, mask and measure every field of a plate on Dask.

    Writes ``labels/artifacts`` and ``masked`` into each field, ``tables/fields`` and ``tables/wells`` into the plate.
    Run again, it does only what is missing.

    Raises
    ------
    PlateError
        If the store is not a complete plate, or has no such channel.
    ModelError
        If the model file is not one.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    plate, ingest_digest, ingested = read_ingest(config.plate)
    channel = find_channel(plate, config.channel)
    model = config.model or default_model_path()
    card = read_card(model)
    scale = plate.pixel_size_um / card.pixel_size_um
    if 1 / PIXEL_SIZE_TOLERANCE <= scale <= PIXEL_SIZE_TOLERANCE:
        scale = 1.0
    else:
        progress.note(
            f"Warning: the plate has {plate.pixel_size_um:.3g} um a pixel, the model was trained at "
            f"{card.pixel_size_um:.3g} um. Fields are resampled by {scale:.2f} for it: look at the labels before you "
            "trust them."
        )
    settings = _Settings(
        channel=channel,
        scale=scale,
        threshold=config.threshold or card.threshold,
        min_object_px=config.min_object_px or max(1, round(card.min_object_px / scale**2)),
        stain_threshold_od=config.stain_threshold_od,
    )
    digest = digest_of(STAGE, __version__, ingest_digest, settings, model_digest(model))
    journal = Journal(config.plate, STAGE, digest)
    units = plan_units(ingested, fields_per_unit=config.fields_per_unit)
    wells = {well.path: well for well in plate.wells}

    def bind(unit: Unit) -> partial[Receipt]:
        return partial(_run_unit, journal, replace(plate, wells=(wells[unit.well],)), settings, unit)

    with naming_a_full_disk(config.plate):
        if journal.start(config.model_dump(mode="json")):
            progress.note("The configuration, the model or the plate has changed since the last run: all is redone.")
        n_resumed = process_units(
            journal, units, bind, cluster=config.cluster, progress=progress, load_model=partial(_load_segmenter, model)
        )
        fields = tabulate_fields(plate, ingested, journal.read())
        tables = write_tables(config.plate, {"fields": fields, "wells": tabulate_wells(fields)})
    return Summary(
        n_fields=plate.n_fields,
        n_resumed=n_resumed,
        failures=list_failures(fields),
        outputs={"plate": config.plate, "fields table": tables["fields"], "wells table": tables["wells"]},
        seconds=time.perf_counter() - start,
    )


def find_channel(plate: Plate, name: str | None) -> int:
    """Index of the channel of a name; without one, of the only brightfield channel.

    Raises
    ------
    PlateError
        If there is none, or more than one.
    """
    names = ", ".join(repr(channel.name) for channel in plate.channels)
    if name is not None:
        found = [c for c, channel in enumerate(plate.channels) if channel.name == name]
        wanted = f"channel named {name!r}"
    else:
        found = [c for c, channel in enumerate(plate.channels) if channel.kind == "brightfield"]
        wanted = "brightfield channel"
    if len(found) != 1:
        raise PlateError(f"{plate.name} has {len(found)} {wanted}s, expected one. Name one of {names} with --channel.")
    return found[0]


def _load_segmenter(model: Path) -> "Segmenter":
    # Imported here, so that only workers pay for torch.
    from artifact_mask.nn.predict import Segmenter

    return Segmenter.load(model)


def _run_unit(journal: Journal, plate: Plate, settings: _Settings, unit: Unit) -> Receipt:
    segmenter: Segmenter = worker_model()
    (well,) = plate.wells
    fields = {field.index: field for field in well.fields}

    def folder(index: int) -> Path:
        return journal.plate / unit.well / str(index)

    def process(index: int) -> Mapping[str, Any]:
        return _run_field(folder(index), plate, fields[index], settings, segmenter)

    def owned(index: int) -> list[Path]:
        return [folder(index) / "labels" / LABEL_NAME, folder(index) / "masked"]

    return process_unit(journal, unit, process, owned)


def _run_field(folder: Path, plate: Plate, field: Field, settings: _Settings, segmenter: "Segmenter") -> dict[str, Any]:
    channel = settings.channel
    gaps = [reason for (_, c, _), reason in read_missing_planes(folder).items() if c == channel]
    if gaps:
        raise ImageError(f"{plate.channels[channel].name} is missing: {gaps[0]}")
    image = open_level(folder)
    labelled, masked, measured = [], [], []
    for t, z in np.ndindex(plate.shape[0], plate.shape[2]):
        plane = np.asarray(image[t, channel, z])
        background = estimate_background(plane)
        contrast = normalise_by_background(plane, background, contrast_unit=segmenter.card.normalisation.contrast_unit)
        with _DEVICE:
            probability = _predict(contrast, settings.scale, segmenter)
        labels = label_objects(probability, threshold=settings.threshold, min_object_px=settings.min_object_px)
        mask = labels > 0
        density = optical_density(plane, background)
        areas = object_areas(labels)
        measured.append(
            {
                "background": float(background.mean()),
                "artifact_fraction": float(mask.mean()),
                "n_artifacts": int(areas.size),
                "artifact_area_um2": float(areas.sum()) * plate.pixel_size_um**2,
                "largest_artifact_um2": float(areas.max(initial=0)) * plate.pixel_size_um**2,
                "stained_fraction_raw": stained_fraction(
                    density, np.zeros_like(mask), threshold=settings.stain_threshold_od
                ),
                "stained_fraction": stained_fraction(density, mask, threshold=settings.stain_threshold_od),
            }
        )
        labelled.append(((t, z), labels))
        masked.append(((t, 0, z), fill_with_median(plane, mask)))
    write_labels(folder, plate, field, labelled, name=LABEL_NAME)
    write_masked(folder, plate, field, channel, masked)
    return _combine(measured)


def _predict(contrast: NDArray[np.float32], scale: float, segmenter: "Segmenter") -> NDArray[np.float32]:
    """Predict a field ``(y, x)`` at the model's own pixel size, ``scale`` times finer than the field's."""
    if scale == 1:
        whole: NDArray[np.float32] = segmenter.predict(contrast[np.newaxis])[0]
        return whole
    shape = tuple(max(1, round(n * scale)) for n in contrast.shape)
    resampled = resize(contrast, shape, order=1, anti_aliasing=scale < 1, preserve_range=True)
    probability = segmenter.predict(np.asarray(resampled, np.float32)[np.newaxis])[0]
    return np.asarray(resize(probability, contrast.shape, order=1, anti_aliasing=scale > 1), np.float32)


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

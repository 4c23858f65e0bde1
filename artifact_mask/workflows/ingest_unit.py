"""What a task of `artmask ingest` does: read, check and correct the planes of its fields, and write them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.engine.journal import Journal, Unit
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ImageError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import folders_of_field, keep_own_labels, write_field
from artifact_mask.io.operetta_fields import Source, Sources
from artifact_mask.io.operetta_folder import resolve_image
from artifact_mask.io.tiff import read_tiff_plane
from artifact_mask.kernels.flat_field import Polynomial, correct_flat_field, evaluate_polynomial
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion, PlaneIndex
from artifact_mask.workflows.unit import Receipt, Row, process_unit, write_each

_N_PROFILES = 8
"""Flat fields that a worker keeps: a plate's channels."""


@dataclass(frozen=True)
class IngestTask:
    """What it needs to know of the fields of its unit.

    Attributes
    ----------
    acquisition
        With one well alone.
    images
        Folder of the images.
    sources
        Of the unit's fields.
    flat_fields
        By which a channel's planes are divided, by its index.
    ngff
        Version of the store.
    strict
        Whether a missing plane fails its field.
    """

    acquisition: Acquisition
    images: Location
    sources: Sources
    flat_fields: Mapping[int, Polynomial]
    ngff: NgffVersion
    strict: bool


_evaluated = lru_cache(_N_PROFILES)(evaluate_polynomial)


def ingest_unit(journal: Journal, task: IngestTask, unit: Unit) -> Receipt:
    """Write the fields of a unit and record them; runs on a worker."""
    (well,) = task.acquisition.wells
    fields = {field.index: field for field in well.fields}

    def folder(key: FieldKey) -> Location:
        return journal.plate / key[0] / str(key[1])

    def write(files: StagedFiles, index: int) -> Row:
        key = (unit.well, index)
        return _ingest_field(files, folder(key), task, key, fields[index])

    field_bytes = task.acquisition.n_planes * task.acquisition.plane_bytes

    def owned(key: FieldKey) -> list[Location]:
        return folders_of_field(folder(key), ngff=task.ngff)

    return process_unit(journal, unit, partial(write_each, write=write), owned, field_bytes=field_bytes)


def _ingest_field(
    files: StagedFiles, folder: Location, task: IngestTask, key: FieldKey, field: Field
) -> dict[str, Any]:
    acquisition, sources = task.acquisition, task.sources[key]
    missing: dict[PlaneIndex, str] = {
        index: "the export lists no image for it"
        for index in np.ndindex(*acquisition.shape[:3])
        if index not in sources
    }

    def planes() -> Iterator[tuple[PlaneIndex, NDArray[np.uint16]]]:
        for index, source in sources.items():
            try:
                yield index, _read_plane(task, source, index[1])
            except ImageError as error:
                missing[index] = str(error)

    # The metadata is written after the last plane, when `missing` is complete.
    write_field(files, folder, acquisition, field, planes(), missing, ngff=task.ngff)
    keep_own_labels(files, folder, ngff=task.ngff)
    row: dict[str, Any] = {"n_missing_planes": len(missing)}
    if missing:
        row["error"] = f"{len(missing)} of {acquisition.n_planes} planes missing: " + "; ".join(
            f"{acquisition.channels[c].name} (t {t}, z {z}): {reason}" for (t, c, z), reason in missing.items()
        )
        if task.strict:
            raise ImageError(row["error"])
    return row


def _read_plane(task: IngestTask, source: Source, channel: int) -> NDArray[np.uint16]:
    shape = task.acquisition.shape[-2:]
    if source.problem:
        raise ImageError(source.problem)
    file = resolve_image(task.images, source.url)
    try:
        plane = retry(partial(read_tiff_plane, file, shape, page=source.page))
    except OSError as error:
        raise ImageError(f"{source.url} cannot be read: {error}") from error
    flat_field = task.flat_fields.get(channel)
    return plane if flat_field is None else correct_flat_field(plane, _evaluated(flat_field, shape))

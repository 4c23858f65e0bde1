"""What a task of `artmask cells` does with its unit: find the cells of each field, measure them, write them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.engine.journal import Journal, Unit
from artifact_mask.engine.pipeline import overlap
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.cell_tables import MEASURE, write_cell_part
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.label_images import read_label_image
from artifact_mask.io.ome_zarr import is_own_label, read_missing_planes, write_labels
from artifact_mask.kernels.cell_measurements import CellFigures, measure_cells
from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.kernels.nuclei import NucleusSearch, expand_to_cells, segment_nuclei
from artifact_mask.kernels.staining import DensityHistogram, optical_density
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion
from artifact_mask.workflows.cell_figures import CELL_DENSITIES
from artifact_mask.workflows.planes import read_corrected_plane
from artifact_mask.workflows.unit import Receipt, Row, process_unit, retry_writing

STAGE = "cells"
NUCLEI, CELLS, ARTIFACTS = "nuclei", "cells", "artifacts"
_THREADS = 2


@dataclass(frozen=True)
class Channel:
    """A channel to read: its index, and what it is divided by."""

    index: int
    flat_field: StoredFlatField | None


@dataclass(frozen=True)
class CellParameters:
    """What determines the cells of an acquisition, beside the pixels and the masks.

    Attributes
    ----------
    stained, nuclear
        Channels; the latter None where there is none, or where nuclei are brought.
    plane
        Of each stack.
    own_nuclei, own_cells
        Label images that are brought.
    search
        What counts as a nucleus.
    reach_um
        How far a cell reaches from its nucleus.
    max_artifact_fraction
        Of a cell, from which on it is excluded.
    """

    stained: Channel
    nuclear: Channel | None
    plane: int
    own_nuclei: str | None
    own_cells: str | None
    search: NucleusSearch
    reach_um: float
    max_artifact_fraction: float

    @property
    def written(self) -> tuple[str, ...]:
        """Label images that the stage writes."""
        nuclei = (NUCLEI,) if self.nuclear and not self.own_nuclei else ()
        return nuclei if self.own_cells else (*nuclei, CELLS)


@dataclass(frozen=True)
class CellTask:
    """What a unit needs to know; the acquisition has its well alone.

    Attributes
    ----------
    place
        Columns that all cells of the unit share.
    without_mask
        Fields that `run` has found nothing in, with the reason.
    """

    acquisition: Acquisition
    parameters: CellParameters
    place: Mapping[str, Any]
    without_mask: Mapping[int, str]
    ngff: NgffVersion


class _Pixels(NamedTuple):
    """What a timepoint of a field is measured from, each ``(y, x)``."""

    stained: NDArray[np.uint16]
    artifacts: NDArray[np.bool_]
    nuclear: NDArray[np.uint16] | None
    nuclei: NDArray[np.int32] | None
    cells: NDArray[np.int32] | None


class _Found(NamedTuple):
    """What is found at a timepoint of a field."""

    nuclei: NDArray[np.int32] | None
    cells: NDArray[np.int32]
    figures: CellFigures


def measure_unit(journal: Journal, task: CellTask, unit: Unit) -> Receipt:
    """Find and measure the cells of a unit; runs on a worker."""
    (well,) = task.acquisition.wells
    fields = {field.index: field for field in well.fields}

    def read(index: int) -> list[_Pixels]:
        if index in task.without_mask:
            raise PlateError(task.without_mask[index])
        folder = journal.plate / unit.well / str(index)
        return list(retry(partial(_read_field, journal.plate, folder, task)))

    def compute(batch: list[list[_Pixels]]) -> list[list[_Found]]:
        return [list(_find_cells(pixels, task)) for pixels in batch]

    def run(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
        def write(index: int, _: list[_Pixels], found: list[_Found]) -> Row:
            folder = journal.plate / unit.well / str(index)
            writing = partial(_write_field, staged[index], folder, task, fields[index], found)
            return retry_writing(staged[index], writing)

        return overlap(staged, read=read, compute=compute, write=write, batch=1, threads=_THREADS)

    n_channels = 2 if task.parameters.nuclear else 1
    field_bytes = task.acquisition.shape[0] * n_channels * task.acquisition.plane_bytes
    own = (task.parameters.own_nuclei, task.parameters.own_cells)
    owned = partial(owned_by_cells, journal.plate, brought=own, ngff=task.ngff)
    return process_unit(journal, unit, run, owned, field_bytes=field_bytes)


def owned_by_cells(
    root: Location, key: FieldKey, *, brought: tuple[str | None, ...], ngff: NgffVersion
) -> list[Location]:
    """Folders of a field that the stage alone writes into: never a label image that is brought, or a person's."""
    folder = root / key[0] / str(key[1])
    labels = [
        folder / "labels" / name
        for name in (NUCLEI, CELLS)
        if name not in brought and not is_own_label(folder, name, ngff=ngff)
    ]
    return [*labels, folder / "tables" / "cells"]


def require_free(folder: Location, names: tuple[str, ...], *, ngff: NgffVersion) -> None:
    """Refuse to write over a label image of a person.

    Raises
    ------
    PlateError
        If a field has one of such a name.
    """
    for name in names:
        if is_own_label(folder, name, ngff=ngff):
            raise PlateError(
                f"{folder / 'labels' / name} was not made by `artmask cells`, which would write over it. Use it "
                f"(--{name} {name}), or give it another name."
            )


def _read_field(root: Location, folder: Location, task: CellTask) -> Iterator[_Pixels]:
    parameters, acquisition = task.parameters, task.acquisition
    require_free(folder, parameters.written, ngff=task.ngff)
    missing = read_missing_planes(folder)

    def read(channel: Channel, t: int) -> NDArray[np.uint16]:
        index = (t, channel.index, parameters.plane)
        if index in missing:
            raise ImageError(f"{acquisition.channels[channel.index].name} is missing: {missing[index]}")
        flat_field = load_flat_field(root, channel.flat_field) if channel.flat_field else None
        return read_corrected_plane(folder, acquisition, index, flat_field)

    def read_own(name: str | None, t: int) -> NDArray[np.int32] | None:
        return _read_instances(folder, name, (t, parameters.plane), acquisition.shape[-2:]) if name else None

    for t in range(acquisition.shape[0]):
        yield _Pixels(
            stained=read(parameters.stained, t),
            artifacts=read_label_image(folder, ARTIFACTS, (t, parameters.plane)) > 0,
            nuclear=read(parameters.nuclear, t) if parameters.nuclear else None,
            nuclei=read_own(parameters.own_nuclei, t),
            cells=read_own(parameters.own_cells, t),
        )


def _read_instances(folder: Location, name: str, tz: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.int32]:
    labels = read_label_image(folder, name, tz)
    if labels.shape != shape or labels.dtype.kind == "b":
        raise ImageError(
            f"the label image {name!r} is {labels.dtype} of {labels.shape}; expected a number for each object, "
            f"and the shape {shape} of the image."
        )
    if labels.size and labels.max() > np.iinfo(np.int32).max:
        raise ImageError(f"the label image {name!r} has numbers above 2147483647. Number its objects from 1.")
    return labels.astype(np.int32)


def _find_cells(timepoints: list[_Pixels], task: CellTask) -> Iterator[_Found]:
    parameters, pixel_size_um = task.parameters, task.acquisition.pixel_size_um
    n_before = 0
    for pixels in timepoints:
        nuclei = pixels.nuclei
        if nuclei is None and pixels.nuclear is not None:
            nuclei = segment_nuclei(pixels.nuclear, pixel_size_um=pixel_size_um, search=parameters.search)
            # Numbers are those of the field, whatever the timepoint.
            nuclei[nuclei > 0] += n_before
            n_before = max(n_before, int(nuclei.max()))
        cells = pixels.cells
        if cells is None:
            assert nuclei is not None  # the stage looks at no acquisition that has neither
            cells = expand_to_cells(nuclei, pixel_size_um=pixel_size_um, reach_um=parameters.reach_um)
        density = optical_density(pixels.stained, estimate_background(pixels.stained))
        figures = measure_cells(cells, nuclei, nuclear=pixels.nuclear, density=density, is_artifact=pixels.artifacts)
        yield _Found(nuclei, cells, figures)


def _write_field(files: StagedFiles, folder: Location, task: CellTask, field: Field, found: list[_Found]) -> Row:
    """Write labels and table of a field; return its row for the plate's tables."""
    parameters, acquisition = task.parameters, task.acquisition
    for name in parameters.written:
        planes = [
            ((t, parameters.plane), labels)
            for t, one in enumerate(found)
            if (labels := one.nuclei if name == NUCLEI else one.cells) is not None
        ]
        write_labels(
            files,
            folder,
            acquisition,
            field,
            planes,
            name=name,
            ngff=task.ngff,
            made_by=STAGE,
            beside=parameters.written,
        )
    values = tabulate_cells([one.figures for one in found], field, task)
    write_cell_part(files, folder, values, labels=parameters.own_cells or CELLS, ngff=task.ngff)
    kept = ~values["excluded"]
    return {
        "n_cells": int(kept.sum()),
        "n_excluded_cells": int((~kept).sum()),
        CELL_DENSITIES: DensityHistogram.of(values[MEASURE][kept]).pack(),
    }


def tabulate_cells(figures: list[CellFigures], field: Field, task: CellTask) -> dict[str, Any]:
    """Columns of a field's cells, of all timepoints.

    Parameters
    ----------
    figures
        By timepoint.
    field, task
        Where they are.
    """
    parameters, pixel_um = task.parameters, task.acquisition.pixel_size_um
    joined = {name: np.concatenate([getattr(one, name) for one in figures]) for name in CellFigures._fields}
    has_nuclei = parameters.nuclear is not None or parameters.own_nuclei is not None
    nucleus_um2 = joined["nucleus_area_px"] * pixel_um**2
    # In the precision of the table: a cell must not be counted otherwise than it is written.
    mean, fraction = joined["cell_mean_od"].astype(np.float32), joined["artifact_fraction"].astype(np.float32)
    return {
        **task.place,
        "field": field.index,
        "field_id": field.field_id,
        "t": np.repeat(np.arange(len(figures)), [len(one.label) for one in figures]),
        "z": parameters.plane,
        "label": joined["label"],
        "y_um": field.y_um + joined["y_px"] * pixel_um,
        "x_um": field.x_um + joined["x_px"] * pixel_um,
        "nucleus_area_um2": nucleus_um2 if has_nuclei else np.full(len(nucleus_um2), np.nan),
        "nucleus_mean_intensity": joined["nucleus_mean_intensity"],
        "cell_area_um2": joined["cell_area_px"] * pixel_um**2,
        MEASURE: mean,
        "cell_integrated_od_um2": joined["cell_integrated_od_px"] * pixel_um**2,
        "artifact_fraction": fraction,
        "touches_border": joined["touches_border"],
        "excluded": (fraction > np.float32(parameters.max_artifact_fraction)) | np.isnan(mean),
    }

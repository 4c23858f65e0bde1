"""Write a synthetic screening campaign as an Operetta would export it, with the truth about every field."""

import csv
import io
import math
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.config import SimulateConfig
from artifact_mask.errors import StorageError
from artifact_mask.io.files import write_atomically
from artifact_mask.io.harmony_index_writer import GENERATIONS, image_name, stack_name, write_index
from artifact_mask.io.label_list import Box, Label, LabelledPlace, write_label_list
from artifact_mask.io.operetta_writer import (
    Layer,
    write_assay_layout,
    write_ffc_profile,
    write_pages,
    write_plane,
    write_truth,
)
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.scene_optics import FLUORESCENCE_SHADING, draw_illumination, retake
from artifact_mask.kernels.tiles import plan_tiles
from artifact_mask.metadata import PIXEL_BYTES, Acquisition, Channel, Field, Harmony, PlaneIndex, Plate, Well
from artifact_mask.workflows.progress import Progress, Silent

TOP_CONCENTRATION_UM = 10.0
"""Concentration, in micromolar, of the wells of dose 1."""

Z_STEP_UM, T_STEP_S = 2.0, 600.0
"""Between planes and timepoints."""
FOCUS_UM = {2: 3.0, 3: 3.0, 4: 4.0, 5: 4.0}
"""Height of a channel's focus above brightfield's, by channel number, as a microscope's index tells it of a stack."""
PLATE_SHADING = (0.15, 0.3)
"""Range of the shading that the fields of a plate have in common, brightest less darkest."""
BLUR_PER_UM = 0.25
"""Standard deviation of the blur, in micrometre, for each micrometre out of focus."""

STARTED = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""Of the first measurement; each further one begins a day later."""

COMPOUND, CONTROL = "Compound A", "DMSO"

CHANNELS = (
    Channel(1, "Brightfield", "brightfield", 740.0, None),
    Channel(2, "HOECHST 33342", "fluorescence", 375.0, 456.0),
    Channel(3, "Alexa 488", "fluorescence", 475.0, 525.0),
    Channel(4, "Alexa 568", "fluorescence", 550.0, 610.0),
    Channel(5, "Alexa 647", "fluorescence", 630.0, 708.0),
)

# Rows, columns, and the wells left free on each side: the rim of a plate dries out.
_FORMATS = ((8, 12, 1), (16, 24, 1), (16, 24, 0))

_WITH_PROFILES = ("v7",)
"""Generations whose flat fields are written beside the index too."""

_MAX_THREADS = 8
"""Each needs up to 160 MB for a field of 1080 x 1080 while it draws."""

TILE_UM = 81.0
"""Side of the tiles that the truth labels, at most; 270 pixels of 0.3 um."""
FEWEST_ARTIFACT_UM2 = 2.52
"""Area from which on a tile shows an artifact, 28 pixels of 0.3 um; with less, it is unsure."""

_Row = tuple[int, int, int, float, float, float, int]
_COLUMNS = ("row", "column", "field_id", "dose", "stained_fraction", "artifact_fraction", "n_artifacts")


@dataclass(frozen=True, slots=True)
class _Task:
    """One field to draw."""

    folder: Path
    config: SimulateConfig
    plate_number: int
    measurement: int
    well: Well
    field_id: int
    dose: float


def simulate(config: SimulateConfig, progress: Progress | None = None) -> list[Path]:
    """Write a synthetic campaign.

    Parameters
    ----------
    config
        How much to draw, and where to.
    progress
        Listener.

    Returns
    -------
    list[Path]
        Folder of each measurement, ``<dest>/Plate01`` and so on, each with ``Images`` and ``Assaylayout`` as Harmony
        exports them (and the one of Harmony 7 with ``FFC_Profile``), and with ``Truth``: per field the artifact classes
        and the stain, and the nuclei where a channel shows them (PNG), the shading of the brightfield image (every 8th
        pixel, float32 TIFF), and a line of ``fields.csv``; and ``tiles.csv``, the labels of all tiles as a person would
        give them for `artmask train classifier`. Several measurements of a plate are
        ``<dest>/Plate01__2026-01-05T09_00_00-Measurement 1`` and so on: a day apart, of the same objects, with noise of
        their own.

    Raises
    ------
    StorageError
        If the folder of a plate is there already and not empty (nothing is written then), or if the disk is full or
        refuses to be written.

    Notes
    -----
    The wells fill the plate from B02. The first column is the control (dose 0), the others are a dilution series up to
    dose 1; rows are replicates. The same configuration writes the same bytes on the same kind of machine and versions
    of NumPy and SciPy. The index is written last: a measurement that has one is whole. The truth is that of the plane
    in focus. Harmony 4 has a camera of 14 bits: its pixels are a quarter of those of the others.
    """
    measured = {
        config.dest / _folder_name(config, number, measurement): (number, measurement)
        for number in range(1, config.plates + 1)
        for measurement in range(1, config.measurements + 1)
    }
    for folder in measured:
        _refuse_if_used(folder)
    wells, doses, size = _layout(config)
    total = len(measured) * len(wells) * config.fields
    progress = progress or Silent()
    progress.begin("simulate", total)
    # Threads, because NumPy and SciPy let go of the interpreter for most of a field: as fast as processes where it was
    # measured, and a script that calls this needs no guard against being imported again.
    with ThreadPoolExecutor(min(_cores(), total, _MAX_THREADS)) as pool:
        for folder, (number, measurement) in measured.items():
            plate = _plate(config, number, measurement, wells, size)
            tasks = [
                _Task(folder, config, number, measurement, well, of_well.field_id, doses[well.row, well.column])
                for well in wells
                for of_well in well.fields
            ]
            rows, tiles = [], []
            try:
                for row, labels in pool.map(_draw_field, tasks):
                    rows.append(row)
                    tiles.append(labels)
                    progress.advance(1, 0, plate.acquisitions[0].n_planes * config.size**2 * PIXEL_BYTES)
                write_label_list(folder / "Truth" / "tiles.csv", chain.from_iterable(tiles))
                _finish(folder, plate, doses, rows, harmony=config.harmony, measurement=measurement)
            except OSError as error:
                raise StorageError(
                    f"{folder} cannot be written: {error}. Make room, or give another destination; then remove the "
                    "folder and simulate again."
                ) from error
    return list(measured)


def _finish(
    folder: Path,
    plate: Plate,
    doses: dict[tuple[int, int], float],
    rows: list[_Row],
    *,
    harmony: Harmony,
    measurement: int,
) -> None:
    """Write what describes the images, the index last."""
    focus_um = FOCUS_UM if plate.acquisitions[0].shape[2] > 1 else None
    _write_table(folder / "Truth" / "fields.csv", rows)
    write_assay_layout(folder, plate, _layers(doses))
    profiles = {channel.channel_id: FLUORESCENCE_SHADING for channel in plate.acquisitions[0].channels[1:]}
    if harmony in _WITH_PROFILES:
        write_ffc_profile(folder, plate, number=measurement, profiles=profiles)
    write_index(folder, plate, harmony=harmony, profiles=profiles, focus_um=focus_um)


def _draw_field(task: _Task) -> tuple[_Row, list[LabelledPlace]]:
    """Draw one field, write its images and its truth, and measure and label the truth."""
    config = task.config
    well, field_id = task.well, task.field_id
    scene = draw_scene(
        (config.size, config.size),
        # Seeded by its place alone: neither the order of drawing nor the number of fields matters.
        seed=(config.seed, task.plate_number, well.row, well.column, field_id),
        dose=task.dose,
        n_channels=config.channels,
        pixel_size_um=config.pixel_size_um,
        illumination=_plate_shading(config, task.plate_number) if config.shading == "plate" else None,
    )
    planes = _take(task, scene.image)
    if GENERATIONS[config.harmony].stacked:
        pages = (plane for _, plane in planes)
        write_pages(task.folder, stack_name(well, field_id), pages, config.pixel_size_um)
    else:
        for (t, c, z), plane in planes:
            name = image_name(well, field_id, CHANNELS[c].channel_id, t=t, z=z)
            write_plane(task.folder, name, plane, config.pixel_size_um)
    write_truth(
        task.folder,
        Path(image_name(well, field_id, CHANNELS[0].channel_id)).stem,
        artifacts=scene.artifacts,
        stain=scene.stain,
        illumination=scene.illumination,
        nuclei=scene.nuclei if config.channels > 1 else None,
    )
    row = (
        well.row,
        well.column,
        field_id,
        round(task.dose, 6),
        round(float(np.mean(scene.stain)), 8),
        round(float(np.mean(scene.artifacts > 0)), 8),
        int(sum(ndimage.label(scene.artifacts == kind)[1] for kind in (1, 2, 3))),
    )
    return row, _label_tiles(task, scene.artifacts > 0)


@lru_cache(1)
def _plate_shading(config: SimulateConfig, plate_number: int) -> NDArray[np.float32]:
    rng = np.random.default_rng((config.seed, plate_number))
    return draw_illumination((config.size, config.size), rng, strength=rng.uniform(*PLATE_SHADING))


def _label_tiles(task: _Task, is_artifact: NDArray[np.bool_]) -> list[LabelledPlace]:
    """Label the tiles of a field by the area of the artifacts in them."""
    pixel_size_um = task.config.pixel_size_um
    (index,) = (field.index for field in task.well.fields if field.field_id == task.field_id)
    places = []
    for tile in plan_tiles(is_artifact.shape, core_px=max(1, round(TILE_UM / pixel_size_um)), halo_px=0):
        n_px, (rows, columns) = int(is_artifact[tile.core].sum()), tile.core
        # Rounded, because 2.52 um2 are 28 pixels of 0.3 um in decimals alone.
        enough = n_px >= round(FEWEST_ARTIFACT_UM2 / pixel_size_um**2, 6)
        label: Label = "clean" if not n_px else "artifact" if enough else "unsure"
        box = Box(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        places.append(LabelledPlace(_plate_name(task.plate_number), task.well.name, index, label, box))
    return places


def _take(task: _Task, images: NDArray[np.uint16]) -> Iterator[tuple[PlaneIndex, NDArray[np.uint16]]]:
    """Planes of a field in the order of time, depth and channel; the drawn one is the middle plane of the first."""
    config, middle = task.config, task.config.planes // 2
    counts = np.uint16(_counts_per_unit(GENERATIONS[config.harmony].max_intensity))
    again = (task.measurement,) if task.measurement > 1 else ()
    for t, z, c in np.ndindex(config.timepoints, config.planes, config.channels):
        plane = images[c]
        if again or (t, z) != (0, middle):
            place = (task.plate_number, task.well.row, task.well.column, task.field_id)
            rng = np.random.default_rng((config.seed, *place, 1 + t, z, c, *again))
            defocus_px = abs(z - middle) * Z_STEP_UM * BLUR_PER_UM / config.pixel_size_um
            plane = retake(plane, rng, defocus_px=defocus_px)
        yield (t, c, z), plane if counts == 1 else plane // counts


def _counts_per_unit(max_intensity: int) -> int:
    """Drawn counts that make one of a camera's.

    Examples
    --------
    >>> [_counts_per_unit(largest) for largest in (16383, 65535, 65536)]
    [4, 1, 1]
    """
    return max(1, 2**16 // (max_intensity + 1))


def _layout(config: SimulateConfig) -> tuple[tuple[Well, ...], dict[tuple[int, int], float], tuple[int, int]]:
    """Wells with their fields, doses by ``(row, column)``, and the size ``(rows, columns)`` of the plate."""
    n_rows, n_columns, rim = next(f for f in _FORMATS if config.wells <= (f[0] - 2 * f[2]) * (f[1] - 2 * f[2]))
    replicates = 1 if config.wells < 4 else 2 if config.wells < 12 else 3
    replicates = max(replicates, math.ceil(config.wells / (n_columns - 2 * rim)))
    columns = math.ceil(config.wells / replicates)
    series = _dilution_series(columns)
    fields = _fields(config)
    places = [divmod(i, columns) for i in range(config.wells)]
    wells = tuple(Well(rim + 1 + row, rim + 1 + column, fields) for row, column in places)
    doses = {(rim + 1 + row, rim + 1 + column): series[column] for row, column in places}
    return wells, doses, (n_rows, n_columns)


def _dilution_series(columns: int) -> list[float]:
    """Dose of each column: 0 for the control, then rising to 1 by a constant factor of at most 2.

    Examples
    --------
    >>> _dilution_series(4)
    [0.0, 0.25, 0.5, 1.0]
    """
    if columns == 1:
        return [1.0]
    steps = columns - 2
    # With many columns, halving would make most of the series indistinguishable from the control.
    factor = min(2.0, 64 ** (1 / max(steps, 1)))
    return [0.0, *(factor ** (i - steps) for i in range(steps + 1))]


def _fields(config: SimulateConfig) -> tuple[Field, ...]:
    """Fields side by side around the middle of the well, numbered along a snake from the top left."""
    side = math.ceil(math.sqrt(config.fields))
    rows = math.ceil(config.fields / side)
    step = config.size * config.pixel_size_um
    fields = []
    for i in range(config.fields):
        row, column = divmod(i, side)
        column = side - 1 - column if row % 2 else column
        y, x = (row - (rows - 1) / 2) * step, (column - (side - 1) / 2) * step
        fields.append(Field(index=i, field_id=i + 1, y_um=round(y, 6), x_um=round(x, 6)))
    return tuple(fields)


def _plate_name(number: int) -> str:
    return f"Plate{number:02d}"


def _started(measurement: int) -> datetime:
    return STARTED + timedelta(days=measurement - 1)


def _folder_name(config: SimulateConfig, number: int, measurement: int) -> str:
    if config.measurements == 1:
        return _plate_name(number)
    return f"{_plate_name(number)}__{_started(measurement):%Y-%m-%dT%H_%M_%S}-Measurement {measurement}"


def _plate(
    config: SimulateConfig, number: int, measurement: int, wells: tuple[Well, ...], size: tuple[int, int]
) -> Plate:
    # What has been added since is left out where it is as it was, so that the same plate stays the same.
    added = {"planes": 1, "timepoints": 1, "harmony": "v5", "shading": "field"}
    as_it_was = {name for name, default in added.items() if getattr(config, name) == default}
    described = config.model_dump_json(exclude={"dest", "measurements", *as_it_was})
    identity = f"artmask-simulation/{described}/{number}" + (f"/{measurement}" if measurement > 1 else "")
    acquisition = Acquisition(
        measurement_id=str(uuid.uuid5(uuid.NAMESPACE_URL, identity)),
        shape=(config.timepoints, config.channels, config.planes, config.size, config.size),
        pixel_size_um=config.pixel_size_um,
        z_step_um=Z_STEP_UM,
        t_step_s=T_STEP_S,
        channels=CHANNELS[: config.channels],
        wells=wells,
        started=_started(measurement).isoformat(),
    )
    return Plate(_plate_name(number), *size, (acquisition,))


def _layers(doses: dict[tuple[int, int], float]) -> tuple[Layer, Layer]:
    compounds = {place: COMPOUND if dose else CONTROL for place, dose in doses.items()}
    concentrations = {place: f"{dose * TOP_CONCENTRATION_UM:.6g}" for place, dose in doses.items()}
    return Layer("Compound", "string", compounds), Layer("Concentration", "double", concentrations)


def _write_table(path: Path, rows: list[_Row]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode("utf-8"))


def _refuse_if_used(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        found = "a file" if folder.is_file() else f"{sum(1 for _ in folder.iterdir())} entries in it"
        raise StorageError(
            f"{folder} is there already ({found}); expected an empty or missing folder. "
            "Give another destination, or remove the folder."
        )


def _cores() -> int:
    """Cores that this process may use; fewer than the machine's under a scheduler."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1

"""`artmask label-sheet`: show fields to a person, who says which are clean."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from artifact_mask.config import LabelSheetConfig
from artifact_mask.errors import ArtmaskError, ImageError, PlateError
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.label_list import Box
from artifact_mask.io.label_sheet import SheetField, save_label_sheet
from artifact_mask.io.ome_zarr import read_missing_planes
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.io.page import encode_jpeg
from artifact_mask.kernels.display import display, shrink, to_grey
from artifact_mask.kernels.tiles import plan_tiles
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, Plate, Well
from artifact_mask.workflows.planes import Illumination, find_channel, read_corrected_plane, stored_flat_fields
from artifact_mask.workflows.progress import Progress, Silent

FIELD_PX = 720
"""Longest side of the picture of a field that is judged as a whole."""
TILED_FIELD_PX = 1080
"""Longest side of the picture of a field that is judged tile by tile."""
THUMBNAIL_PX = 160

_THREADS = 4
"""Each holds one plane; a network disk answers several questions in the time of one."""
_NAMED = 5
"""Fields left out that are named; there may be thousands."""

Item = TypeVar("Item")


class _Candidate(NamedTuple):
    """A field that could be shown."""

    root: Location
    plate: Plate
    acquisition: Acquisition
    channel: int
    well: Well
    field: Field
    flat_field: StoredFlatField | None

    @property
    def name(self) -> str:
        return f"{self.plate.name} {self.well.name} field {self.field.index}"


def write_label_sheet(config: LabelSheetConfig, progress: Progress | None = None) -> Path:
    """Write a page that shows fields, spread evenly over plates and wells, and takes a person's labels.

    Plates take turns, in each its wells, in each its fields, all in an order that the seed decides. The first timepoint
    and the middle plane are shown. The same plates and configuration give the same fields in the same order; whoever
    labels only the first of them has looked at all wells alike.

    Parameters
    ----------
    config
        Which plates, how many fields, and whether their tiles are judged.
    progress
        Listener; it is told which fields are left out, and why.

    Returns
    -------
    Path
        The page: one file that any browser opens.

    Raises
    ------
    PlateError
        If a place is no plate, two plates have the same name, or no plate has a field with the channel.
    StorageError
        If a store cannot be reached.
    OSError
        If the page cannot be written.

    Notes
    -----
    Beside the pictures, which are compressed, a few planes are in memory. Of a campaign with more plates than fields
    are asked for, only so many plates are opened.
    """
    progress = progress or Silent()
    plates = find_plates(config.plates)
    progress.begin("label-sheet", min(config.fields, sum(plates.values())))
    candidates = _candidates(list(plates), config, progress)
    fields: list[SheetField] = []
    left_out: list[str] = []
    window: deque[tuple[_Candidate, Future[SheetField]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        while True:
            # Never more than can be used, so that which fields are chosen depends on no thread's speed.
            while len(window) < min(2 * _THREADS, config.fields - len(fields)):
                candidate = next(candidates, None)
                if candidate is None:
                    break
                window.append((candidate, pool.submit(_draw, candidate, config.tile_px)))
            if not window:
                break
            candidate, drawn = window.popleft()
            try:
                fields.append(drawn.result())
            except (ArtmaskError, OSError) as error:
                left_out.append(f"{candidate.name}: {error}")
                continue
            progress.advance(1, 0, candidate.acquisition.plane_bytes)
    _note_left_out(left_out, progress)
    if not fields:
        why = f": {left_out[0]}" if left_out else ", since there is none"
        raise PlateError(f"No field can be shown{why}. See `artmask info`.")
    if len(fields) < config.fields:
        progress.note(f"The plates have {len(fields)} fields to show, fewer than the {config.fields} asked for.")
    save_label_sheet(config.dest, fields)
    return config.dest


def _note_left_out(left_out: list[str], progress: Progress) -> None:
    if left_out:
        number = "1 field is" if len(left_out) == 1 else f"{len(left_out)} fields are"
        more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        progress.note(f"{number} left out: {'; '.join(left_out[:_NAMED])}{more}.")


def _candidates(roots: list[Location], config: LabelSheetConfig, progress: Progress) -> Iterator[_Candidate]:
    names: dict[str, Location] = {}

    def of_plate(number: int, root: Location) -> Iterator[_Candidate]:
        try:
            stored = read_plate(root)
            plate, illumination = stored.plate, stored_flat_fields(root, stored.ingest_digest)
            channels = _find_channels(plate, config.channel, progress)
        except PlateError as error:
            if len(roots) == 1:
                raise
            progress.note(f"A plate is left out: {error}")
            return
        other = names.setdefault(plate.name, root)
        if other != root:
            raise PlateError(
                f"{other} and {root} are both named {plate.name}, and a table of labels tells plates apart by their "
                "names. Make a sheet for each."
            )
        # A plate's order is its own, whatever other plates are beside it and when it is opened.
        rng = np.random.default_rng([config.seed, number])
        yield from _fields_in_turn(root, plate, channels, illumination, rng)

    order = np.random.default_rng(config.seed).permutation(len(roots))
    return _in_turn([of_plate(int(number), roots[number]) for number in order])


def _find_channels(plate: Plate, name: str | None, progress: Progress) -> dict[int, int]:
    """Index of the channel by the number of the acquisition, for those that have it."""
    channels, problems = {}, []
    for number, acquisition in enumerate(plate.acquisitions):
        try:
            channels[number] = find_channel(acquisition, name)
        except PlateError as error:
            problems.append(f"{plate.name} {error}")
    if not channels:
        raise PlateError(problems[0])
    for problem in problems:
        progress.note(f"An acquisition is left out: {problem}")
    return channels


def _fields_in_turn(
    root: Location, plate: Plate, channels: dict[int, int], illumination: Illumination, rng: np.random.Generator
) -> Iterator[_Candidate]:
    of_wells: dict[str, list[_Candidate]] = {}
    for number, channel in channels.items():
        acquisition, flat_field = plate.acquisitions[number], illumination.get((number, channel))
        for well in acquisition.wells:
            of_well = of_wells.setdefault(well.path, [])
            of_well += [_Candidate(root, plate, acquisition, channel, well, field, flat_field) for field in well.fields]
    wells = list(of_wells.values())
    shuffled = [wells[i] for i in rng.permutation(len(wells))]
    return _in_turn([iter([well[i] for i in rng.permutation(len(well))]) for well in shuffled])


def _in_turn(sources: list[Iterator[Item]]) -> Iterator[Item]:
    """One of each in turn, until all are empty."""
    waiting = deque(sources)
    while waiting:
        source = waiting.popleft()
        for item in source:
            yield item
            waiting.append(source)
            break


def _draw(candidate: _Candidate, tile_px: int | None) -> SheetField:
    """Read a field's plane and draw it.

    Raises
    ------
    ImageError
        If the plane is missing.
    PlateError
        If the field is not in the store, or damaged.
    """
    root, plate, acquisition, channel, well, field, stored = candidate
    folder = root / well.path / str(field.index)
    index = (0, channel, acquisition.shape[2] // 2)
    reason = read_missing_planes(folder).get(index)
    if reason is not None:
        raise ImageError(f"{acquisition.channels[channel].name} is missing: {reason}")
    pixels = read_corrected_plane(folder, acquisition, index, load_flat_field(root, stored) if stored else None)
    shown = display(pixels, dark=acquisition.channels[channel].kind == "fluorescence")
    picture = shrink(shown, FIELD_PX if tile_px is None else TILED_FIELD_PX)
    return SheetField(
        plate=plate.name,
        well=well.name,
        field=field.index,
        shape=(pixels.shape[0], pixels.shape[1]),
        picture=encode_jpeg(to_grey(picture)),
        thumbnail=encode_jpeg(to_grey(shrink(picture, THUMBNAIL_PX))),
        boxes=() if tile_px is None else _boxes(pixels.shape, tile_px),
    )


def _boxes(shape: tuple[int, ...], tile_px: int) -> tuple[Box, ...]:
    tiles = plan_tiles((shape[0], shape[1]), core_px=tile_px, halo_px=0)
    return tuple(Box(y.start, x.start, y.stop - y.start, x.stop - x.start) for y, x in (tile.core for tile in tiles))

"""Find the fields that labels speak of: in plates, by a table, or in folders of TIFFs."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import TrainClassifierConfig
from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.label_list import Box, LabelledPlace, read_label_list
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.io.tiff import read_tiff_plane, read_tiff_shape
from artifact_mask.io.tiff_folders import LabelledTiff, list_labelled_tiffs
from artifact_mask.location import Location
from artifact_mask.metadata import Plate, Well
from artifact_mask.workflows.planes import Illumination, stored_flat_fields
from artifact_mask.workflows.plate_fields import open_field
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.training import N_THREADS

_MOST_LISTED = 12


@dataclass(frozen=True)
class LabelledField:
    """One field, or one TIFF, and what was said of it.

    Attributes
    ----------
    plate, well, field
        Where it is.
    file
        Name of the TIFF; empty for a field of a plate.
    shape
        ``(y, x)`` in pixels.
    pixel_size_um
        Side of a pixel in micrometre.
    read
        Gives the pixels ``(y, x)`` uint16.
    boxes, labels
        The labelled tiles, None for the whole field, and for each 0 (clean) or 1 (artifact).
    """

    plate: str
    well: str
    field: int
    file: str
    shape: tuple[int, int]
    pixel_size_um: float
    read: Callable[[], NDArray[np.uint16]]
    boxes: list[Box | None]
    labels: list[int]

    @property
    def name(self) -> str:
        """What people call it."""
        return self.file or f"{self.plate} {self.well} field {self.field}"

    @property
    def group(self) -> tuple[str, str]:
        """Plate and well."""
        return self.plate, self.well


def find_labelled_fields(config: TrainClassifierConfig, progress: Progress) -> list[LabelledField]:
    """Find all fields with labels, in the order of the labels; pixels are not read.

    Raises
    ------
    ConfigError
        If the labels cannot be understood, name what is not there, or whole fields and tiles are mixed.
    PlateError
        If a plate is not there, is not complete, or lacks the channel.
    """
    if config.labels.is_dir():
        return _of_folder(config, progress)
    places = read_label_list(config.labels)
    if not config.plates:
        raise ConfigError(f"{config.labels} is a table of labels, but no plate was given. Name the plates after it.")
    known = [place for place in places if place.label != "unsure"]
    if len(known) < len(places):
        progress.note(f"{len(places) - len(known)} places that are marked unsure are left out.")
    _refuse_mix(known, config)
    plates = _open_plates(config, {place.plate for place in known})
    fields: dict[tuple[str, str, int], LabelledField] = {}
    for place in known:
        key = (place.plate, place.well, place.field)
        if key not in fields:
            fields[key] = plates[place.plate].find(place)
        fields[key].boxes.append(_check_box(place, fields[key].shape))
        fields[key].labels.append(int(place.label == "artifact"))
    return list(fields.values())


@dataclass(frozen=True)
class _OpenPlate:
    """A plate whose fields can be looked up."""

    root: Location
    content: Plate
    wells: dict[str, Well]
    channel: str | None
    illumination: Illumination

    def find(self, place: LabelledPlace) -> LabelledField:
        """Find the field of a label."""
        well = self.wells.get(place.well)
        if well is None:
            raise ConfigError(
                f"{place.plate} has no well {place.well}. It has {_listed(list(self.wells))}. Correct the table."
            )
        indices = [of_well.index for of_well in well.fields]
        if place.field not in indices:
            raise ConfigError(
                f"{place.plate} {place.well} has no field {place.field}. It has {_listed(list(map(str, indices)))}, "
                "counted from 0 as in the plate's tables. Correct the table."
            )
        key = (well.path, place.field)
        found = open_field(self.root, self.content, key, self.channel, illumination=self.illumination)
        return LabelledField(
            plate=place.plate,
            well=place.well,
            field=place.field,
            file="",
            shape=found.shape,
            pixel_size_um=found.pixel_size_um,
            read=found.read,
            boxes=[],
            labels=[],
        )


def _open_plates(config: TrainClassifierConfig, wanted: set[str]) -> dict[str, _OpenPlate]:
    found: dict[str, _OpenPlate] = {}
    for root in find_plates(config.plates):
        stored = read_plate(root)
        plate = stored.plate
        if plate.name in found and plate.name in wanted:
            raise ConfigError(
                f"{found[plate.name].root} and {root} are both called {plate.name!r}: the table does not say which is "
                "meant. Train with one of them."
            )
        wells = {well.name: well for well in plate.wells}
        illumination = stored_flat_fields(root, stored.ingest_digest)
        found[plate.name] = _OpenPlate(root, plate, wells, config.channel, illumination)
    unknown = sorted(wanted - found.keys())
    if unknown:
        raise ConfigError(
            f"{config.labels} speaks of {_listed(unknown)}; the plates that were given are called "
            f"{_listed(sorted(found))}. Give the plates that are missing, or correct the names."
        )
    return found


def _refuse_mix(places: list[LabelledPlace], config: TrainClassifierConfig) -> None:
    n_whole = sum(place.box is None for place in places)
    if 0 < n_whole < len(places):
        raise ConfigError(
            f"{config.labels} has labels of {n_whole} whole fields and of {len(places) - n_whole} tiles; expected one "
            "kind, since a classifier looks at one scale. Make two tables, and train with one of them."
        )


def _check_box(place: LabelledPlace, shape: tuple[int, int]) -> Box | None:
    box = place.box
    if box and (box.y0 + box.height > shape[0] or box.x0 + box.width > shape[1]):
        raise ConfigError(
            f"{place.plate} {place.well} field {place.field}: the tile at y0={box.y0}, x0={box.x0} of {box.height} x "
            f"{box.width} pixels reaches beyond the field of {shape[0]} x {shape[1]}. Correct the table."
        )
    return box


def _of_folder(config: TrainClassifierConfig, progress: Progress) -> list[LabelledField]:
    if config.plates:
        raise ConfigError(
            f"{config.labels} is a folder of TIFFs, which belong to no plate; found {len(config.plates)} plates beside "
            "it. Give a table of labels (CSV) with the plates, or the folder alone."
        )
    if config.pixel_size_um is None:
        raise ConfigError("TIFFs do not say how large a pixel is. Give it with --pixel-size-um, such as 0.3.")
    listed = list_labelled_tiffs(config.labels)
    with ThreadPoolExecutor(N_THREADS) as pool:
        fields = list(pool.map(partial(_open_tiff, config.pixel_size_um), listed))
    for tiff, opened in zip(listed, fields, strict=True):
        if isinstance(opened, str):
            progress.note(f"{tiff.name} is left out: {opened}")
    return [opened for opened in fields if not isinstance(opened, str)]


def _open_tiff(pixel_size_um: float, tiff: LabelledTiff) -> LabelledField | str:
    """Look at a TIFF; what is wrong with it, if it cannot be read."""
    try:
        shape = read_tiff_shape(tiff.path)
    except (ImageError, OSError) as error:
        return str(error)
    read = partial(read_tiff_plane, tiff.path, shape)
    place = (tiff.plate, tiff.well, tiff.field, tiff.name)
    return LabelledField(*place, shape, pixel_size_um, read, [None], [int(tiff.label == "artifact")])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return (", ".join(names[:_MOST_LISTED]) or "none") + more

"""Fields of plates: found by their names, and as pictures: the middle plane of the first time, in one channel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import ImageError, PlateError, did_you_mean
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.ome_zarr import read_missing_planes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, FieldKey, PlaneIndex, Plate, Well
from artifact_mask.workflows.planes import Illumination, find_channel, read_corrected_plane

_NAMED = 8
"""Wells or fields that an error names; there may be hundreds."""


@dataclass(frozen=True)
class PlateField:
    """One field of a plate.

    Attributes
    ----------
    folder
        Its group.
    shape
        ``(y, x)`` in pixels.
    pixel_size_um
        Side of a pixel in micrometre.
    tz
        Which plane is read: of a stack the middle one, which is in focus, at the first time.
    read
        Gives the pixels ``(y, x)`` uint16.
    """

    folder: Location
    shape: tuple[int, int]
    pixel_size_um: float
    tz: tuple[int, int]
    read: Callable[[], NDArray[np.uint16]]


def find_fields(plate: Plate, well: str | None, field: int | None) -> tuple[Well, list[int]]:
    """Find a well by its name, the first one without, and its fields, or the one that is asked for.

    Raises
    ------
    PlateError
        If there is none; the message says what there is.
    """
    named = {known.name.casefold(): known for known in plate.wells}
    found = plate.wells[0] if well is None else named.get(well.casefold())
    if found is None:
        names = [known.name for known in plate.wells]
        raise PlateError(f"{plate.name} has no well {well!r}. Its wells are {_some(names)}.{did_you_mean(well, names)}")
    indices = [known.index for known in found.fields]
    if field is None:
        return found, indices
    if field not in indices:
        raise PlateError(f"Well {found.name} of {plate.name} has no field {field}. Its fields are {_some(indices)}.")
    return found, [field]


def open_field(
    root: Location, plate: Plate, key: FieldKey, channel: str | None, *, illumination: Illumination
) -> PlateField:
    """Open a field of a plate; pixels are not read. When they are, they are divided by the plate's flat field.

    Raises
    ------
    PlateError
        If there is no such channel.
    """
    number = plate.acquisition_of[key]
    acquisition = plate.acquisitions[number]
    try:
        c = find_channel(acquisition, channel)
    except PlateError as error:
        raise PlateError(f"{plate.name} {error}") from error
    plane = (0, c, acquisition.shape[2] // 2)
    folder = root / key[0] / str(key[1])
    return PlateField(
        folder=folder,
        shape=acquisition.shape[-2:],
        pixel_size_um=acquisition.pixel_size_um,
        tz=(plane[0], plane[2]),
        read=partial(_read_field, root, folder, acquisition.only(key[0]), plane, illumination.get((number, c))),
    )


def _read_field(
    root: Location, folder: Location, acquisition: Acquisition, plane: PlaneIndex, stored: StoredFlatField | None
) -> NDArray[np.uint16]:
    missing = read_missing_planes(folder).get(plane)
    if missing:
        raise ImageError(f"{acquisition.channels[plane[1]].name} is missing: {missing}")
    flat_field = load_flat_field(root, stored) if stored else None
    return read_corrected_plane(folder, acquisition, plane, flat_field)


def _some(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:_NAMED])) + (" ..." if len(values) > _NAMED else "")

"""Fields of plates as pictures: the middle plane of the first time, in one channel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.ome_zarr import read_missing_planes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, FieldKey, PlaneIndex, Plate
from artifact_mask.workflows.planes import Illumination, find_channel, read_corrected_plane


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

"""Fields of plates as pictures: the middle plane of the first time, in one channel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.ome_zarr import read_image_plane, read_missing_planes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, FieldKey, PlaneIndex, Plate
from artifact_mask.workflows.planes import find_channel


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


def open_field(root: Location, plate: Plate, key: FieldKey, channel: str | None) -> PlateField:
    """Open a field of a plate; pixels are not read.

    Raises
    ------
    PlateError
        If there is no such channel.
    """
    acquisition = plate.acquisitions[plate.acquisition_of[key]]
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
        read=partial(_read_field, folder, acquisition.only(key[0]), plane),
    )


def _read_field(folder: Location, acquisition: Acquisition, plane: PlaneIndex) -> NDArray[np.uint16]:
    missing = read_missing_planes(folder).get(plane)
    if missing:
        raise ImageError(f"{acquisition.channels[plane[1]].name} is missing: {missing}")
    return read_image_plane(folder, acquisition, plane)

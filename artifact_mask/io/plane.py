"""Planes of arrays in a store, one file each.

Zarr-python defines the arrays, and reads those that others wrote; planes of our own go by it, whose machinery takes
several times longer than compressing or decompressing (`benchmarks/shard.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import PlateError
from artifact_mask.io.chunk import PlaneCodec, has_signal
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.location import Location, read_bytes

_DEFAULT = LAYOUTS["0.5"]


def create_array(
    files: StagedFiles,
    folder: Location,
    shape: Sequence[int],
    chunk: tuple[int, int],
    axes: str,
    codec: PlaneCodec,
    *,
    layout: Layout = _DEFAULT,
) -> None:
    """Write the metadata of an array ``(..., y, x)`` whose files are whole planes, cut into chunks ``(y, x)``.

    Notes
    -----
    The fill value is 0, and a plane of zeros writes no file.
    """
    files.write(folder / layout.array_file, layout.describe_array(tuple(shape), chunk, axes, codec))


def write_plane(
    files: StagedFiles,
    folder: Location,
    index: Sequence[int],
    plane: NDArray[Any],
    chunk: tuple[int, int],
    codec: PlaneCodec,
    *,
    layout: Layout = _DEFAULT,
) -> None:
    """Write one plane ``(y, x)`` of an array that :func:`create_array` made."""
    if has_signal(plane):
        files.write(folder / layout.plane_file(index), layout.encode(plane, chunk, codec))


def read_plane(
    folder: Location,
    shape: Sequence[int],
    index: Sequence[int],
    chunk: tuple[int, int],
    axes: str,
    codec: PlaneCodec,
    *,
    layout: Layout = _DEFAULT,
) -> NDArray[Any] | None:
    """Read one plane ``(y, x)`` of an array, or None if it is not one that :func:`create_array` made like this.

    Raises
    ------
    PlateError
        If the plane is damaged.
    """
    try:
        if read_bytes(folder / layout.array_file) != layout.describe_array(tuple(shape), chunk, axes, codec):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    y, x = shape[-2:]
    file = folder / layout.plane_file(index)
    try:
        content = read_bytes(file)
    except FileNotFoundError:
        return np.zeros((y, x), codec.dtype)
    try:
        return layout.decode(content, (y, x), chunk, codec)
    except (ValueError, RuntimeError) as error:
        raise PlateError(f"{file} is damaged: {error}. Remove it and run `artmask ingest` again.") from error

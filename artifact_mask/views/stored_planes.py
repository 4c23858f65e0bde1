"""The planes of a whole plate as Dask arrays: one chunk a plane, read when it is asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from artifact_mask.engine.retry import retry
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.label_images import list_labels, read_label_image
from artifact_mask.io.ome_zarr import read_image_plane, read_label_plane, read_masked_plane
from artifact_mask.kernels.flat_field import correct_flat_field
from artifact_mask.kernels.masking import fill_artifacts
from artifact_mask.kernels.pyramid import build_pyramid, downsample_known, pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, ArtifactFill

UNKNOWN = -1
"""Label of every pixel of a field that has no such label image: a missing mask never means clean."""


@dataclass(frozen=True)
class StoredFields:
    """The fields of a plate as a grid, some of whose places may be empty.

    Attributes
    ----------
    root
        Store of the plate.
    acquisition
        Shape, channels and pixel size of every field; its wells are not looked at.
    wells
        Paths of the wells, in the order of the grid's rows.
    fields
        Indices of the fields, in the order of its columns.
    present
        ``(well, field)``: which fields the plate has.
    level
        Of the pyramid.
    """

    root: Location
    acquisition: Acquisition
    wells: tuple[str, ...]
    fields: tuple[int, ...]
    present: NDArray[np.bool_]
    level: int

    @cached_property
    def plane_shape(self) -> tuple[int, int]:
        """``(y, x)`` of every plane."""
        return pyramid_shapes((self.acquisition.shape[-2], self.acquisition.shape[-1]))[self.level]

    def folder(self, well: int, field: int) -> Location | None:
        """Group of the field at a place of the grid; None where there is none."""
        if not self.present[well, field]:
            return None
        return self.root / self.wells[well] / str(self.fields[field])


@dataclass(frozen=True)
class _PlaneGrid:
    """What Dask takes for an array ``(well, field, ..., y, x)``, and indexes with a tuple of slices.

    Attributes
    ----------
    fields
        Whose planes they are.
    axes
        Between field and y, each one of t, c and z.
    dtype
        Of every plane.
    empty
        What the pixels of a plane are that does not exist.
    read
        Reads a plane ``(y, x)``, of a field's group and its index along the axes; None where it does not exist.
    """

    fields: StoredFields
    axes: str
    dtype: np.dtype[Any]
    empty: float
    read: Callable[[Location, tuple[int, ...]], NDArray[Any] | None]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        sizes = dict(zip("tcz", self.fields.acquisition.shape, strict=False))
        return (*self.fields.present.shape, *(sizes[axis] for axis in self.axes), *self.fields.plane_shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        # Integers come where Dask has merged a selection into the reading.
        *leading, ys, xs = index
        chosen = [np.arange(n)[one] for n, one in zip(self.shape, leading, strict=False)]
        planes = np.empty([part.size for part in chosen] + list(self.fields.plane_shape), self.dtype)
        for place in np.ndindex(planes.shape[:-2]):
            planes[place] = self._read_or_empty(*(int(np.ravel(p)[i]) for p, i in zip(chosen, place, strict=True)))
        return planes.reshape(*(n for part in chosen for n in part.shape), *self.fields.plane_shape)[..., ys, xs]

    def _read_or_empty(self, well: int, field: int, *index: int) -> NDArray[Any] | float:
        folder = self.fields.folder(well, field)
        plane = retry(partial(self.read, folder, index)) if folder is not None else None
        return self.empty if plane is None else plane


def _open(grid: _PlaneGrid) -> da.Array:
    """Open planes as a Dask array with one chunk a plane; nothing is read."""
    chunks = (*(1,) * (grid.ndim - 2), -1, -1)
    opened: da.Array = da.from_array(grid, chunks=chunks, name=False, meta=np.empty((0,) * grid.ndim, grid.dtype))
    return opened


def open_image(fields: StoredFields) -> da.Array:
    """Open the images ``(well, field, t, c, z, y, x)`` uint16 as they were ingested; 0 where there are none."""
    return _open(_PlaneGrid(fields, "tcz", np.dtype(np.uint16), 0, partial(_read_image, fields)))


def open_labels(fields: StoredFields, name: str) -> da.Array:
    """Open a label image ``(well, field, t, z, y, x)`` int32; :data:`UNKNOWN` where a field has none."""
    return _open(_PlaneGrid(fields, "tz", np.dtype(np.int32), UNKNOWN, partial(_read_labels, fields, name)))


def open_masked(
    fields: StoredFields, channel: int, fill: ArtifactFill, label: str, flat_field: StoredFlatField | None
) -> da.Array:
    """Open masked images ``(well, field, t, z, y, x)``: as stored, else made of image and label.

    Parameters
    ----------
    fields
        Of the plate.
    channel
        Index of the masked channel.
    fill
        What artifact pixels became: float32 with NaN for ``nan``, else uint16.
    label
        Name of the label image that says where artifacts are.
    flat_field
        That images are divided by where the masked ones are not stored; None for none.

    Returns
    -------
    dask.array.Array
        Without a label, NaN or 0: an image that nobody has looked at is not passed off as masked.
    """
    dtype, empty = (np.float32, math.nan) if fill == "nan" else (np.uint16, 0)
    read = partial(_read_masked, fields, channel, fill, label, flat_field)
    return _open(_PlaneGrid(fields, "tz", np.dtype(dtype), empty, read))


def open_flat_fields(fields: StoredFields, stored: Sequence[StoredFlatField | None]) -> da.Array:
    """Open the flat fields ``(c, y, x)`` float32 of the channels; 1 for a channel without one."""
    shape = fields.plane_shape
    planes = [
        da.ones(shape, np.float32, chunks=-1)
        if one is None
        else da.from_delayed(delayed(_read_flat_field)(fields.root, one, fields.level), shape, np.float32)
        for one in stored
    ]
    opened: da.Array = da.stack(planes)
    return opened


def _read_image(fields: StoredFields, folder: Location, index: tuple[int, ...]) -> NDArray[np.uint16]:
    t, c, z = index
    return read_image_plane(folder, fields.acquisition, (t, c, z), fields.level)


def _read_labels(fields: StoredFields, name: str, folder: Location, index: tuple[int, ...]) -> NDArray[Any] | None:
    t, z = index
    own = read_label_plane(folder, fields.acquisition, name, (t, z), fields.level)
    if own is not None or name not in list_labels(folder):
        return own
    # Of another tool: its levels may be others.
    step = 2**fields.level
    return read_label_image(folder, name, (t, z))[::step, ::step]


def _read_masked(
    fields: StoredFields,
    channel: int,
    fill: ArtifactFill,
    label: str,
    flat_field: StoredFlatField | None,
    folder: Location,
    index: tuple[int, ...],
) -> NDArray[Any] | None:
    t, z = index
    stored = read_masked_plane(folder, fields.acquisition, (t, z), fields.level)
    if stored is not None:
        return stored
    labels = _read_labels(fields, label, folder, index)
    if labels is None:
        return None
    pixels = _read_image(fields, folder, (t, channel, z))
    if flat_field is not None:
        pixels = correct_flat_field(pixels, _read_flat_field(fields.root, flat_field, fields.level))
    return fill_artifacts(fill, pixels, labels > 0, None)


def _read_flat_field(root: Location, stored: StoredFlatField, level: int) -> NDArray[np.float32]:
    return build_pyramid(load_flat_field(root, stored), level + 1, downsample_known)[-1]

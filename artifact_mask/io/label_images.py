"""Label images of a field, whichever NGFF tool wrote them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import ImageError, PlateError, did_you_mean
from artifact_mask.io.ome_zarr import find_array
from artifact_mask.io.zarr_group import read_group
from artifact_mask.location import Location

if TYPE_CHECKING:
    import zarr


def list_labels(folder: Location) -> list[str]:
    """Names of the label images of a field, as its metadata lists them.

    Parameters
    ----------
    folder
        Group of the field.

    Raises
    ------
    PlateError
        If the metadata is damaged.
    """
    group = read_group(folder / "labels")
    return [str(name) for name in group.ome.get("labels", [])] if group else []


def read_label_image(folder: Location, name: str, tz: tuple[int, int]) -> NDArray[Any]:
    """Read one plane of a label image at full resolution.

    Parameters
    ----------
    folder
        Group of the field.
    name
        Of the label image.
    tz
        Time and depth. A label image with one of them, or without such an axis, is that of all.

    Returns
    -------
    NDArray
        ``(y, x)`` of some integer type, or bool; 0 is background.

    Raises
    ------
    PlateError
        If there is no such label image, or its metadata is damaged.
    ImageError
        If its pixels are damaged, or are no labels.
    """
    place = folder / "labels" / name
    group = read_group(place)
    if group is None:
        known = list_labels(folder)
        raise PlateError(
            f"there is no label image {name!r}; found {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
        )
    try:
        multiscale = group.ome["multiscales"][0]
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in multiscale["axes"]]
        path = str(multiscale["datasets"][0]["path"])
    except (KeyError, IndexError, TypeError) as error:
        raise PlateError(
            f"the label image {name!r} does not say where its levels are; expected `multiscales` with axes and "
            "datasets. Write it again with a tool for OME-Zarr 0.4 or 0.5."
        ) from error
    array = find_array(place / path)
    if array is None:
        raise PlateError(f"the label image {name!r} has no array {path!r}. Write it again.")
    index = _index(name, array, axes, tz)
    try:
        return np.asarray(array[index])
    except Exception as error:  # each codec raises errors of its own
        raise ImageError(f"the label image {name!r} is damaged ({error}). Write it again.") from error


def _index(name: str, array: "zarr.Array[Any]", axes: list[str], tz: tuple[int, int]) -> tuple[int | slice, ...]:
    """Where a plane lies."""
    if array.dtype.kind not in "bui":
        raise ImageError(f"the label image {name!r} is of {array.dtype}; expected integers. Write it again.")
    if len(axes) != array.ndim or axes != [axis for axis in "tczyx" if axis in axes] or axes[-2:] != ["y", "x"]:
        raise PlateError(
            f"the label image {name!r} has the axes {', '.join(axes)} and the shape {array.shape}; expected one size "
            "for each axis, of t, c, z, y, x in this order. Write it again."
        )
    wanted = {"t": tz[0], "c": 0, "z": tz[1]}
    places: list[int | slice] = []
    for axis, size in zip(axes[:-2], array.shape[:-2], strict=True):
        place = 0 if size == 1 else wanted[axis]
        if place >= size or (axis == "c" and size > 1):
            raise PlateError(
                f"the label image {name!r} has {size} of {axis}; expected one, or as many as the image. Write it again."
            )
        places.append(place)
    return (*places, slice(None), slice(None))

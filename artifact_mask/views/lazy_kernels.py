"""What `artmask run` does to planes, over lazy arrays: each plane as a whole, whatever the chunks are."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from artifact_mask.config import ShippedUNet
from artifact_mask.errors import ConfigError
from artifact_mask.kernels import edges
from artifact_mask.kernels.flat_field import correct_flat_field
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.nn.model_card import UNetCard, find_unet, read_card
from artifact_mask.views.stored_planes import UNKNOWN
from artifact_mask.workflows.planes import predict_planes, scale_between

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

_PLANE = ["y", "x"]
_predicting = Lock()
"""Calls on one device must not overlap."""


def correct_illumination(image: xr.DataArray, flat_field: xr.DataArray) -> xr.DataArray:
    """Divide images by their flat field, as `artmask run` does before it looks at them.

    Parameters
    ----------
    image
        ``(..., y, x)`` uint16.
    flat_field
        ``(y, x)`` or ``(c, y, x)`` float32, 1 where the light is as bright as on average.

    Returns
    -------
    xarray.DataArray
        As ``image``: uint16, rounded, and clipped at 65535.
    """
    return _over_planes(correct_flat_field, image, flat_field, dtype=np.uint16)


def edge_map(image: xr.DataArray, *, dilation_px: int = 5, saturated: float = 0.001) -> xr.DataArray:
    """Map the edges of fields: :func:`artifact_mask.kernels.edges.edge_map` of each plane as a whole.

    Parameters
    ----------
    image
        ``(..., y, x)``.
    dilation_px, saturated
        See there.

    Returns
    -------
    xarray.DataArray
        ``(..., y, x)`` float32, 0..1.
    """
    kernel = partial(edges.edge_map, dilation_px=dilation_px, saturated=saturated)
    mapped = _over_planes(kernel, image, dtype=np.float32)
    mapped.attrs = {"long_name": "edge map"}
    return mapped.rename("edge_map")


def segment(
    image: xr.DataArray,
    model: ShippedUNet | Path | None = None,
    *,
    threshold: float | None = None,
    min_object_px: int | None = None,
    reach_um: float | None = None,
) -> xr.DataArray:
    """Find the artifacts of fields: the labels that `artmask run` writes for these pixels.

    Parameters
    ----------
    image
        ``(..., y, x)`` of the channel that the model was taught, in grey values. The coordinate ``y`` is in um.
    model
        Model file, or ``weak`` or ``supervised`` for one that artmask ships; by default the better of these.
    threshold, min_object_px, reach_um
        In the place of the model's own.

    Returns
    -------
    xarray.DataArray
        ``(..., y, x)`` int32; 0 is background, objects are 1, 2 ... in each plane. A plane of zeros, which is none, is
        :data:`artifact_mask.views.stored_planes.UNKNOWN`.

    Raises
    ------
    ConfigError
        If the pixel size is not known.
    ModelError
        If the file is not a model.

    Notes
    -----
    Background, network and objects need the whole field: of a part that was cut out, labels differ near its border.
    """
    path = find_unet(Path(model) if model and model not in get_args(ShippedUNet) else model)
    card = read_card(path, UNetCard)
    scale = scale_between(_pixel_size_um(image), card.pixel_size_um)
    cut = card.cut(scale, threshold=threshold, min_object_px=min_object_px, reach_um=reach_um)
    labels = _over_planes(partial(_segment_plane, str(path), scale, cut), image, dtype=np.int32)
    labels.attrs = {"long_name": "artifacts", "model": card.name}
    return labels.rename("artifacts")


def _segment_plane(model: str, scale: float, cut: Cut, pixels: NDArray[Any]) -> NDArray[np.int32]:
    if not pixels.any():
        return np.full(pixels.shape, UNKNOWN, np.int32)
    with _predicting:
        segmenter = _load_segmenter(model)
    contrast_unit = segmenter.card.normalisation.contrast_unit
    contrast = normalise_by_background(pixels, estimate_background(pixels), contrast_unit=contrast_unit)
    with _predicting:
        (probability,) = predict_planes([contrast], scale, segmenter)
    return label_artifacts(probability, contrast, cut)


@lru_cache(2)
def _load_segmenter(model: str) -> "Segmenter":
    # Imported here: who looks at a plate needs no torch.
    from artifact_mask.nn.predict import Segmenter

    return Segmenter.load(model)


def _over_planes(kernel: Callable[..., NDArray[Any]], *arrays: xr.DataArray, dtype: DTypeLike) -> xr.DataArray:
    """Apply a kernel of planes ``(y, x)`` to each plane of arrays, lazily where these are."""
    first, *others = (_with_whole_planes(array) for array in arrays)
    applied: xr.DataArray = xr.apply_ufunc(
        kernel,
        first,
        *others,
        input_core_dims=[_PLANE for _ in arrays],
        output_core_dims=[_PLANE],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[dtype],
        keep_attrs="override",  # those of the coordinates, above all
    )
    return applied.transpose(*first.dims)


def _with_whole_planes(array: xr.DataArray) -> xr.DataArray:
    # The array's own method would make its coordinates lazy, too.
    return array.copy(data=array.variable.chunk({"y": -1, "x": -1}).data) if array.chunks else array


def _pixel_size_um(image: xr.DataArray) -> float:
    size: float | None = image["y"].attrs.get("pixel_size_um") if "y" in image.coords else None
    if size is None:
        raise ConfigError(
            "The pixel size is not known: the image has no coordinate y with the attribute pixel_size_um. Open it with "
            "artifact_mask.open_plate, or set image.y.attrs['pixel_size_um']."
        )
    return size

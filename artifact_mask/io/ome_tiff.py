"""Fields as OME-TIFF, with all their channels, planes and times in one file."""

import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.kernels.pyramid import pyramid_shapes

_SMALLEST_PX = 512
"""Side of the coarsest level, at most; viewers read it first."""
_LONGEST_CLASSIC_BYTES = 2**31


class ImageDescription(NamedTuple):
    """What an OME-TIFF says of its image.

    Attributes
    ----------
    name
        Of the image.
    channels
        Their names.
    pixel_size_um, z_step_um
        Sampling in micrometre.
    y_um, x_um, z_um
        Position of the field in its well in micrometre, y growing downwards; z of the lowest plane.
    annotations
        All else, as text by name.
    """

    name: str
    channels: Sequence[str]
    pixel_size_um: float
    z_step_um: float
    y_um: float
    x_um: float
    z_um: float
    annotations: Mapping[str, str]


def encode_ome_tiff(
    pixels: NDArray[Any], described: ImageDescription, downsample: Callable[[NDArray[Any]], NDArray[Any]]
) -> bytes:
    """Encode an image ``(t, c, z, y, x)`` as OME-TIFF with a pyramid.

    Parameters
    ----------
    pixels
        uint16 or float32.
    described
        What it is.
    downsample
        Halves a plane ``(y, x)``.

    Notes
    -----
    The same image gives the same bytes: its identifier is made from its name and annotations.
    """
    levels = [pixels]
    for _ in pyramid_shapes(pixels.shape[-2:], smallest=_SMALLEST_PX)[1:]:
        planes = [downsample(plane) for plane in levels[-1].reshape(-1, *levels[-1].shape[-2:])]
        levels.append(np.stack(planes).reshape(*pixels.shape[:3], *planes[0].shape))
    content = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "tile": (256, 256)}
    with tifffile.TiffWriter(content, ome=True, bigtiff=pixels.nbytes > _LONGEST_CLASSIC_BYTES) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata=_to_metadata(pixels, described), **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **options)
    return content.getvalue()


def _to_metadata(pixels: NDArray[Any], described: ImageDescription) -> dict[str, Any]:
    n_t, n_c, n_z = pixels.shape[:3]
    n_planes = n_t * n_c * n_z
    identity = "\n".join((described.name, *(f"{name}={value}" for name, value in described.annotations.items())))
    depths = [described.z_um + z * described.z_step_um for _ in range(n_t * n_c) for z in range(n_z)]
    positions = {"X": [described.x_um] * n_planes, "Y": [described.y_um] * n_planes, "Z": depths}
    return {
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}",
        "axes": "TCZYX",
        "Name": described.name,
        "Channel": {"Name": list(described.channels)},
        "PhysicalSizeX": described.pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": described.pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": described.z_step_um,
        "PhysicalSizeZUnit": "µm",
        "Plane": {f"Position{axis}": values for axis, values in positions.items()}
        | {f"Position{axis}Unit": ["µm"] * n_planes for axis in positions},
        "MapAnnotation": dict(described.annotations),
    }

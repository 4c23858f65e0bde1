"""Files for other programs: their names, TIFFs, and regions for QuPath."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.errors import ImageError
from artifact_mask.kernels.outlines import trace_outlines
from artifact_mask.location import Location
from artifact_mask.metadata import Field, Well

_COLOUR = [255, 64, 64]
_MAX_UINT16 = 65535


def field_stem(well: Well, field: Field) -> str:
    """Name of a field as Harmony begins it.

    Examples
    --------
    >>> field_stem(Well(2, 3, ()), Field(0, 7, 0.0, 0.0))
    'r02c03f07'
    """
    return f"r{well.row:02d}c{well.column:02d}f{field.field_id:02d}"


def label_name(well: Well, field: Field, label: str, *, t: int, z: int) -> str:
    """Name of the file of a plane's labels, but for its ending.

    Examples
    --------
    >>> label_name(Well(2, 3, ()), Field(0, 7, 0.0, 0.0), "artifacts", t=0, z=0)
    'r02c03f07p01-sk1fk1fl1-artifacts'
    """
    return f"{field_stem(well, field)}p{z + 1:02d}-sk{t + 1}fk1fl1-{label}"


def encode_tiff(plane: NDArray[Any], pixel_size_um: float) -> bytes:
    """Encode one plane ``(y, x)`` as TIFF, compressed with LZW, with its pixel size."""
    content = io.BytesIO()
    per_cm = 1e4 / pixel_size_um
    tifffile.imwrite(
        content,
        plane,
        photometric="minisblack",
        compression="lzw",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    return content.getvalue()


def as_objects(labels: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Labels ``(y, x)`` as CellProfiler reads objects: uint16.

    Raises
    ------
    ImageError
        If there are too many.
    """
    if labels.size and labels.max() > _MAX_UINT16:
        raise ImageError(f"it has {labels.max()} objects, and a TIFF of 16 bits holds {_MAX_UINT16}; use --as zarr")
    return labels.astype(np.uint16)


def encode_regions(labels: NDArray[np.int32], *, name: str, pixel_size_um: float) -> bytes:
    """Encode labelled objects ``(y, x)`` as annotations of QuPath (GeoJSON), in pixels."""
    areas = np.bincount(labels.ravel())
    features = []
    for number, polygons in trace_outlines(labels).items():
        rings = [[ring.round(2).tolist() for ring in polygon] for polygon in polygons]
        geometry = (
            {"type": "Polygon", "coordinates": rings[0]}
            if len(rings) == 1
            else {"type": "MultiPolygon", "coordinates": rings}
        )
        properties = {
            "objectType": "annotation",
            "name": f"{name} {number}",
            "classification": {"name": name, "color": _COLOUR},
            "measurements": {"label": number, "area_um2": round(float(areas[number]) * pixel_size_um**2, 3)},
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def remove_files(root: Location, names: Iterable[str]) -> None:
    """Remove files of a folder by their paths in it, those that are there."""
    if isinstance(root, Path):
        for name in names:
            (root / name).unlink(missing_ok=True)
    else:
        start = len(root.path) + 1
        wanted = set(names)
        found = [path for path in root.fs.find(root.path) if path[start:] in wanted]
        if found:
            root.fs.rm(found)

"""Masks of artifacts that other tools made: pictures of them, or outlines of ImageJ and QuPath."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import roifile
import tifffile
from numpy.typing import NDArray

from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.kernels.outlines import ellipse, fill_outline
from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE

PIXEL_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
_ROI_SUFFIXES = (".zip", ".roi")
_GEOJSON_SUFFIXES = (".geojson", ".json")
MASK_SUFFIXES = (*PIXEL_SUFFIXES, *_ROI_SUFFIXES, *_GEOJSON_SUFFIXES)

_Ring = NDArray[np.float64]


class _Outline(NamedTuple):
    """What a person drew around: its name, and polygons ``(n, 2)`` of x and y."""

    name: str
    rings: list[_Ring]


def list_masks(folder: Path) -> dict[str, Path]:
    """Masks of a folder by their names without ending, sorted.

    Raises
    ------
    ConfigError
        If the folder cannot be listed, has no mask, or two masks of one name.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed ({error.strerror or error}). Give a folder of masks.") from error
    found: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() not in MASK_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ConfigError(
                f"{folder} has {found[path.stem].name} and {path.name}; expected one mask of a name. Move one of them."
            )
        found[path.stem] = path
    if not found:
        raise ConfigError(f"{folder} has no mask; expected files that end in {', '.join(MASK_SUFFIXES)}.")
    return found


def read_mask(path: Path, shape: tuple[int, int] | None, *, ignore: int | None) -> NDArray[np.uint8]:
    """Read a mask.

    Parameters
    ----------
    path
        Pixels (PNG, TIFF, NPY), ImageJ's ROIs (.roi, .zip), or QuPath's GeoJSON.
    shape
        ``(y, x)`` that is expected; outlines cannot do without.
    ignore
        Value of the pixels to leave out. Outlines are left out if their name or class begins with "ignore".

    Returns
    -------
    NDArray[np.uint8]
        ``(y, x)``: 0 background, 1 artifact, 255 leave out.

    Raises
    ------
    ImageError
        If the file is missing, damaged, of another size, or not a mask.
    ConfigError
        If it has pixels of 255 beside others and it is not said what they mean, or ``shape`` is missing.
    """
    suffix = path.suffix.lower()
    if suffix in PIXEL_SUFFIXES:
        mask = _of_pixels(path, read_pixels(path), ignore)
    else:
        if shape is None:
            raise ConfigError(f"{path} has outlines, which do not say how large the image is. Give the images as well.")
        outlines = _read_rois(path) if suffix in _ROI_SUFFIXES else _read_geojson(path)
        mask = _fill(outlines, shape)
    if shape is not None and mask.shape != shape:
        raise ImageError(
            f"{path.name} has {mask.shape[0]} x {mask.shape[1]} pixels, the image {shape[0]} x {shape[1]}; expected "
            "the same. Export the mask at full resolution."
        )
    return mask


def read_pixels(path: Path) -> NDArray[Any]:
    """Read an array ``(y, x)`` of a PNG, TIFF or NPY, whatever its values mean.

    Raises
    ------
    ImageError
        If the file is missing, damaged, or has more than one plane.
    """
    content = _read(path)
    pixels: NDArray[Any]
    try:
        if path.suffix.lower() == ".npy":
            pixels = np.load(io.BytesIO(content), allow_pickle=False)
        elif path.suffix.lower() == ".png":
            pixels = imagecodecs.png_decode(content)
        else:
            pixels = tifffile.imread(io.BytesIO(content))
    except Exception as error:  # each decoder raises errors of its own
        raise ImageError(f"{path.name} is damaged, or not what its name says ({error}). Export it again.") from error
    pixels = _without_colours(pixels)
    while pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 2 or pixels.dtype.kind not in "buif":
        raise ImageError(
            f"{path.name} is an array of shape {pixels.shape} of {pixels.dtype}; expected one plane (y, x) of numbers. "
            "Save it as greyscale, one file a field."
        )
    return pixels


def _without_colours(pixels: NDArray[Any]) -> NDArray[Any]:
    """Make a plane of one with colours, if all of these are grey."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (2, 3, 4):
        return pixels
    colours = pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels
    return colours[..., 0] if (colours == colours[..., :1]).all() else pixels


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path.name} is missing") from error


def _of_pixels(path: Path, pixels: NDArray[Any], ignore: int | None) -> NDArray[np.uint8]:
    if pixels.dtype.kind == "f" and not (pixels == np.round(pixels)).all():
        raise ImageError(
            f"{path.name} has fractions, such as probabilities; a mask has whole numbers, 0 for the background. "
            "Apply a threshold first."
        )
    if ignore is None and pixels.dtype != bool and (others := _beside_255(pixels)):
        raise ConfigError(
            f"{path.name} has pixels of 255 beside others of {others}: are they to be left out? Say --ignore 255, or "
            "--ignore -1 if they are artifacts as well."
        )
    mask = np.where(pixels != BACKGROUND, np.uint8(ARTIFACT), np.uint8(BACKGROUND))
    if ignore is not None:
        mask[pixels == ignore] = IGNORE
    return mask


def _beside_255(pixels: NDArray[Any]) -> str:
    """Values that a mask has beside 0 and 255, if 255 is its largest; empty if there is no doubt what it means."""
    if not pixels.size or pixels.max() != IGNORE:
        return ""
    values = np.unique(pixels)
    others = [f"{value:g}" for value in values if value not in (BACKGROUND, IGNORE)]
    return ", ".join(others[:4]) + (" ..." if len(others) > 4 else "")


def _fill(outlines: Sequence[_Outline], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw outlines; what is to be left out lies above."""
    mask = np.zeros(shape, np.uint8)
    for outline in sorted(outlines, key=lambda outline: _is_ignored(outline.name)):
        mask[fill_outline(outline.rings, shape)] = IGNORE if _is_ignored(outline.name) else ARTIFACT
    return mask


def _is_ignored(name: str) -> bool:
    return name.strip().casefold().startswith("ignore")


def _read_rois(path: Path) -> list[_Outline]:
    content = _read(path)
    try:
        found = list(_unzip(content)) if path.suffix.lower() == ".zip" else [content]
        rois = [roifile.ImagejRoi.frombytes(one) for one in found]
        outlines = [_Outline(roi.name or "", _rings_of_roi(roi)) for roi in rois]
    except Exception as error:  # roifile raises whatever damaged bytes trip over
        raise ImageError(f"{path.name} is damaged, or no file of ImageJ's ROIs ({error}). Save it again.") from error
    if not outlines:
        raise ImageError(f"{path.name} has no ROI (*.roi). Save the ROIs with ImageJ's ROI Manager.")
    _refuse_empty(path, outlines)
    return outlines


def _unzip(content: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            # A Mac puts files of its own beside them.
            if name.lower().endswith(".roi") and not name.rpartition("/")[2].startswith("."):
                yield archive.read(name)


def _rings_of_roi(roi: roifile.ImagejRoi) -> list[_Ring]:
    kind = roi.roitype
    if kind in (roifile.ROI_TYPE.RECT, roifile.ROI_TYPE.OVAL) and roi.multi_coordinates is None:
        x, y, width, height = (
            (roi.xd, roi.yd, roi.widthd, roi.heightd)
            if roi.subpixelrect
            else (roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top)
        )
        if kind == roifile.ROI_TYPE.OVAL:
            return [ellipse(x, y, width, height)]
        return [np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], float)]
    if kind in (roifile.ROI_TYPE.POLYGON, roifile.ROI_TYPE.FREEHAND, roifile.ROI_TYPE.TRACED, roifile.ROI_TYPE.RECT):
        return [np.asarray(ring, float) for ring in roi.coordinates(multi=True)]
    return []


def _refuse_empty(path: Path, outlines: Sequence[_Outline]) -> None:
    empty = [outline.name or "without a name" for outline in outlines if not outline.rings]
    if empty:
        raise ImageError(
            f"{path.name} has {len(empty)} lines or points ({', '.join(empty[:4])}), which surround nothing; expected "
            "areas. Remove them, or draw around the artifacts."
        )


def _read_geojson(path: Path) -> list[_Outline]:
    content = _read(path)
    try:
        outlines = [outline for feature in _features(json.loads(content)) for outline in _outlines_of(feature)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ImageError(
            f"{path.name} is damaged, or no GeoJSON ({type(error).__name__}: {error}). Export the annotations from "
            "QuPath again."
        ) from error
    _refuse_empty(path, outlines)
    return outlines


def _features(document: Any) -> list[Any]:
    """Features of a collection, of a list as older versions of QuPath write it, or of a single one."""
    if isinstance(document, list):
        return document
    if document["type"] == "FeatureCollection":
        return list(document["features"])
    if document["type"] == "Feature":
        return [document]
    raise ValueError(f"type {document['type']!r} instead of FeatureCollection")


def _outlines_of(feature: Mapping[str, Any]) -> Iterator[_Outline]:
    """Outlines of a feature, one for each polygon."""
    if feature["type"] != "Feature":
        raise ValueError(f"type {feature['type']!r} instead of Feature")
    properties = feature.get("properties") or {}
    names = [properties.get("name") or "", _class_of(properties.get("classification"))]
    name = next((name for name in names if _is_ignored(name)), names[0] or names[1])
    for rings in _polygons(feature["geometry"]):
        yield _Outline(name, rings)


def _class_of(classification: Any) -> str:
    """Name of a class, which QuPath has written in several ways."""
    if isinstance(classification, Mapping):
        return str(classification.get("name") or next(iter(classification.get("names", ())), ""))
    return str(classification or "")


def _polygons(geometry: Mapping[str, Any]) -> Iterator[list[_Ring]]:
    """Rings of each polygon; none for what is not an area."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif kind in ("Polygon", "MultiPolygon"):
        for polygon in [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]:
            yield [_ring(ring) for ring in polygon]
    else:
        yield []


def _ring(points: Sequence[Sequence[float]]) -> _Ring:
    ring = np.array([point[:2] for point in points], float).reshape(-1, 2)
    if not np.isfinite(ring).all():
        raise ValueError("a point that is not finite")
    return ring

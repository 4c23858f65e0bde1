"""Fields as small pictures with the outlines of their artifacts, read from the coarse levels of the pyramids."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.errors import ArtmaskError, ImageError, PlateError
from artifact_mask.io.illumination_profiles import load_flat_field
from artifact_mask.io.ome_zarr import read_image_plane, read_label_plane, read_masked_plane, read_missing_planes
from artifact_mask.io.page import JPEG_QUALITY, encode_jpeg
from artifact_mask.io.report_fields import Outline, Picture
from artifact_mask.kernels.display import display_range, shade, shrink, to_grey
from artifact_mask.kernels.flat_field import correct_flat_field
from artifact_mask.kernels.outline_paths import draw_path
from artifact_mask.kernels.outlines import Polygon, trace_outlines
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, FieldKey, Plate
from artifact_mask.workflows.planes import Illumination

SMALLEST_PX, LARGEST_PX = 96, 360
"""Of pictures whose size is chosen here; on larger ones the page is no better to look at."""
_BYTES_PER_PX = 0.055
"""Of a picture, at a quality between the best and the worst."""
_QUALITIES = (JPEG_QUALITY, 75, 65, 55, 45, 35, 25)
_TOLERANCES_PX = (0.4, 0.8, 1.6)
_GREY_STEP = 8
"""Objects that are filled with about the same grey make one path."""
_THREADS = 8
"""A network disk or an object store answers many questions in the time of one."""


@dataclass(frozen=True)
class PictureSource:
    """Where the pictures of a plate come from.

    Attributes
    ----------
    root, plate
        The store, and what it contains.
    channels
        Index of the channel that is shown, by acquisition.
    label
        Label image whose outlines are drawn; empty for none.
    flat_fields
        Of the plate.
    """

    root: Location
    plate: Plate
    channels: Mapping[int, int]
    label: str
    flat_fields: Illumination


class PictureSize(NamedTuple):
    """How large pictures may be: pixels of the longest side, and characters on the page (None for any number)."""

    longest_px: int
    characters: int | None


def choose_size(characters: int) -> PictureSize:
    """Choose the side of pictures that each have so many characters on the page."""
    # Outlines take a fifth; four characters hold three bytes.
    side = (max(characters, 1) * 0.8 * 0.75 / _BYTES_PER_PX) ** 0.5
    return PictureSize(int(min(max(side, SMALLEST_PX), LARGEST_PX)), characters)


def draw_pictures(source: PictureSource, keys: Iterable[FieldKey], size: PictureSize) -> Iterator[Picture]:
    """Draw fields in their order; one that cannot be drawn says why, and stops no other.

    Notes
    -----
    Several are read at a time, and drawn by this thread alone: most of drawing is Python, which threads only get in
    the way of.
    """
    flat_fields = _coarse_flat_fields(source, size.longest_px)
    window: deque[tuple[FieldKey, Future[_Planes]]] = deque()
    waiting = iter(keys)
    with ThreadPoolExecutor(_THREADS) as pool:
        while True:
            for key in islice(waiting, 2 * _THREADS - len(window)):
                window.append((key, pool.submit(_read, source, size.longest_px, key)))
            if not window:
                return
            key, planes = window.popleft()
            number = source.plate.acquisition_of[key]
            try:
                yield _draw(planes.result(), flat_fields.get(number), size, is_dark=_is_dark(source, number))
            except ArtmaskError as error:
                yield Picture(error=str(error))
            except Exception as error:
                # Whatever is wrong with one field, the others are shown.
                yield Picture(error=f"{type(error).__name__}: {error}")


class _Planes(NamedTuple):
    """What is read of a field, all at one level; None for what is not there."""

    pixels: NDArray[np.uint16]
    labels: NDArray[np.int32] | None
    masked: NDArray[np.uint16] | NDArray[np.float32] | None


def _read(source: PictureSource, longest_px: int, key: FieldKey) -> _Planes:
    number = source.plate.acquisition_of[key]
    acquisition = source.plate.acquisitions[number]
    plane = (0, source.channels[number], acquisition.shape[2] // 2)
    tz = (plane[0], plane[2])
    folder = source.root / key[0] / str(key[1])
    reason = read_missing_planes(folder).get(plane)
    if reason is not None:
        raise ImageError(f"{acquisition.channels[plane[1]].name} is missing: {reason}")
    level = _coarsest_level(acquisition, longest_px)
    labels = read_label_plane(folder, acquisition, source.label, tz, level) if source.label else None
    is_masked = source.label == "artifacts" and labels is not None and bool(labels.any())
    return _Planes(
        read_image_plane(folder, acquisition, plane, level),
        labels,
        read_masked_plane(folder, acquisition, tz, level) if is_masked else None,
    )


def _draw(planes: _Planes, flat_field: NDArray[np.float32] | None, size: PictureSize, *, is_dark: bool) -> Picture:
    pixels, labels, masked = planes
    if flat_field is not None:
        pixels = correct_flat_field(pixels, flat_field)
    black, white = display_range(pixels, dark=is_dark)
    grey = to_grey(shrink(shade(pixels, black, white), size.longest_px))
    outlines: tuple[Outline, ...] = ()
    n_left_out = 0
    if labels is not None and labels.any():
        shown = None if masked is None else shade(masked, black, white)
        room = None if size.characters is None else size.characters // 2
        outlines, n_left_out = _outline(labels, shown, max(grey.shape) / max(labels.shape), room)
    left = None if size.characters is None else size.characters - sum(len(outline.path) + 12 for outline in outlines)
    return Picture(
        jpeg=_encode(grey, None if left is None else left * 3 // 4),
        shape=(grey.shape[0], grey.shape[1]),
        outlines=outlines,
        n_left_out=n_left_out,
        has_labels=labels is not None,
    )


def _is_dark(source: PictureSource, number: int) -> bool:
    return source.plate.acquisitions[number].channels[source.channels[number]].kind == "fluorescence"


def _outline(
    labels: NDArray[np.int32], masked: NDArray[np.float32] | None, scale: float, room: int | None
) -> tuple[tuple[Outline, ...], int]:
    """Outlines in no more characters than there is room for, the largest objects first, and how many are left out."""
    traced = trace_outlines(labels)
    area = np.bincount(labels.ravel())
    numbers = sorted(traced, key=lambda number: -area[number])
    greys = _greys(labels, masked, numbers)
    for tolerance in _TOLERANCES_PX:
        paths = [_path(traced[number], scale, tolerance) for number in numbers]
        if room is None or sum(map(len, paths)) <= room:
            break
    kept = len(paths) if room is None else int(np.searchsorted(np.cumsum([len(path) for path in paths]), room, "right"))
    joined: dict[int | None, str] = {}
    for grey, path in zip(greys[:kept], paths[:kept], strict=True):
        joined[grey] = joined.get(grey, "") + path
    return tuple(Outline(path, grey) for grey, path in joined.items() if path), len(paths) - kept


def _path(polygons: list[Polygon], scale: float, tolerance: float) -> str:
    # A speck that is straightened to nothing is drawn as it is.
    return draw_path(polygons, scale=scale, tolerance_px=tolerance) or draw_path(
        polygons, scale=scale, tolerance_px=0.0
    )


def _greys(labels: NDArray[np.int32], masked: NDArray[np.float32] | None, numbers: list[int]) -> list[int | None]:
    """Grey that each object has in the masked image; None where it has none, or there is no such image."""
    if masked is None:
        return [None] * len(numbers)
    means = ndimage.mean(masked, labels, numbers)
    return [
        None if np.isnan(mean) else int(np.clip(round(float(mean) * 255 / _GREY_STEP) * _GREY_STEP, 0, 255))
        for mean in np.atleast_1d(means)
    ]


def _encode(grey: NDArray[np.uint8], most_bytes: int | None) -> bytes:
    """Encode a picture at the best quality that has room; with fewer pixels where none has."""
    for quality in _QUALITIES:
        encoded = encode_jpeg(grey, quality=quality)
        if most_bytes is None or len(encoded) <= most_bytes:
            return encoded
    if min(grey.shape) < SMALLEST_PX // 2:
        return encoded
    return _encode(to_grey(shrink(grey.astype(np.float32) / np.float32(255), max(grey.shape) * 3 // 4)), most_bytes)


def _coarsest_level(acquisition: Acquisition, longest_px: int) -> int:
    """Level of the pyramid that has enough pixels, and no more than needed."""
    y, x = acquisition.shape[-2:]
    shapes = pyramid_shapes((y, x))
    return max((level for level, shape in enumerate(shapes) if max(shape) >= longest_px), default=0)


def _coarse_flat_fields(source: PictureSource, longest_px: int) -> dict[int, NDArray[np.float32]]:
    """Flat field of each acquisition that has one, at the level that is read."""
    found = {}
    for number, channel in source.channels.items():
        stored = source.flat_fields.get((number, channel))
        if stored is not None:
            acquisition = source.plate.acquisitions[number]
            y, x = acquisition.shape[-2:]
            shape = pyramid_shapes((y, x))[_coarsest_level(acquisition, longest_px)]
            # One that is damaged is the next run's problem; the pictures are only looked at.
            with suppress(PlateError):
                found[number] = shrink(load_flat_field(source.root, stored), max(shape))
    return found

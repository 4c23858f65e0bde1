"""Read the TIFFs of a microscope, checked before a pixel is decoded."""

import io
import logging
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.errors import ImageError
from artifact_mask.location import Location, read_bytes

# Damaged files are reported as ImageError; tifffile would log each of them a second time.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_OF_LIBTIFF = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.ZSTD,
)


def read_tiff_plane(file: Location, shape: tuple[int, int], *, page: int | None = None) -> NDArray[np.uint16]:
    """Decode one ``(y, x)`` uint16 plane.

    Parameters
    ----------
    file
        File of a single page, whatever its layout and compression.
    shape
        What is expected.
    page
        Zero-based page of a file that has several.

    Raises
    ------
    ImageError
        If the file is missing, empty, cut off, not a TIFF, or not a uint16 image of this shape.
    OSError
        If it cannot be read for another reason, which may be over at a second attempt.
    """
    with ExitStack() as stack:
        tiff_page, data = _open_page(file, page, stack)
        found, dtype = _shape_of(file, tiff_page), tiff_page.dtype
        if found != shape or dtype != np.uint16:
            expected = _describe(shape, np.dtype(np.uint16))
            raise ImageError(f"{_name(file, page)} is {_describe(found, dtype)}, expected {expected}")
        return _decode(file, tiff_page, page, data)


def read_tiff_shape(file: Location, *, page: int | None = None) -> tuple[int, int]:
    """Shape ``(y, x)`` of a page of a TIFF; see :func:`read_tiff_plane`.

    Raises
    ------
    ImageError
        If the file cannot be read as a two-dimensional TIFF.
    """
    with ExitStack() as stack:
        return _shape_of(file, _open_page(file, page, stack)[0])


def _open_page(file: Location, page: int | None, stack: ExitStack) -> tuple[Any, bytes | None]:
    """Open a page whose pixels are known to lie within the file; with it, the whole file if it is read at once."""
    data = None
    if page is None:
        data = _read(file)
        source, size = io.BytesIO(data), len(data)
    else:
        # Of a stack of planes only the one is read that is asked for.
        source, size = _open(file, stack)
    if not size:
        raise ImageError(f"{file.name} is empty")
    try:
        tiff = stack.enter_context(tifffile.TiffFile(source))
        n_pages, n_expected = len(tiff.pages), 1 if page is None else page + 1
        found = tiff.pages[min(n_expected, n_pages) - 1]
        end = max(o + n for o, n in zip(found.dataoffsets, found.databytecounts, strict=True))
    except Exception as error:  # tifffile raises whatever a damaged header trips over
        raise ImageError(f"{file.name} is not a readable TIFF, or is cut off ({size} bytes)") from error
    if end > size:
        raise ImageError(f"{file.name} is cut off: {size} bytes, expected {end}")
    if n_pages < n_expected or (page is None and n_pages > 1):
        raise ImageError(f"{file.name} has {n_pages} pages, expected {n_expected}")
    return found, data


def _decode(file: Location, tiff_page: Any, page: int | None, data: bytes | None) -> NDArray[np.uint16]:
    try:
        # libtiff is twice as fast on LZW as tifffile, but knows fewer compressions.
        plane: NDArray[np.uint16] = (
            tiff_page.asarray()
            if data is None or tiff_page.compression not in _OF_LIBTIFF
            else imagecodecs.tiff_decode(data, index=0)
        )
    except Exception as error:  # each codec raises errors of its own
        raise ImageError(f"{_name(file, page)} is damaged: {error}") from error
    return plane


def _read(file: Location) -> bytes:
    with _naming(file):
        return read_bytes(file)


def _open(file: Location, stack: ExitStack) -> tuple[Any, int]:
    with _naming(file):
        return stack.enter_context(file.open("rb")), file.stat().st_size


@contextmanager
def _naming(file: Location) -> Iterator[None]:
    """Make an ImageError of what no second attempt would mend."""
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
            raise ImageError(f"{file.name} is not a file")
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{file.name} is missing") from error
    except (PermissionError, NotADirectoryError) as error:
        raise ImageError(f"{file.name} cannot be read: {error.strerror}") from error


def _shape_of(file: Location, page: Any) -> tuple[int, int]:
    if len(page.shape) != 2 or page.dtype is None:
        raise ImageError(f"{file.name} has a page of shape {page.shape}, expected one plane (y, x)")
    return page.shape[0], page.shape[1]


def _name(file: Location, page: int | None) -> str:
    return file.name if page is None else f"{file.name} page {page}"


def _describe(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> str:
    return f"{shape[0]} x {shape[1]} {dtype}"

"""Read the single-page TIFFs of a microscope, checked before a pixel is decoded."""

import io
import logging
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.errors import ImageError

# Damaged files are reported as ImageError; tifffile would log each of them a second time.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_tiff_plane(path: Path, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Decode one ``(y, x)`` uint16 plane.

    Raises
    ------
    ImageError
        If the file is missing, empty, cut off, not a TIFF, or not a uint16 image of this shape.
    """
    data = _read(path)
    found, dtype = _check_page(path, data)
    if found != shape or dtype != np.uint16:
        raise ImageError(f"{path.name} is {_describe(found, dtype)}, expected {_describe(shape, np.dtype(np.uint16))}")
    try:
        # Twice as fast on LZW as tifffile's own decoding.
        plane: NDArray[np.uint16] = imagecodecs.tiff_decode(data, index=0)
    except (imagecodecs.TiffError, IndexError, ValueError) as error:
        raise ImageError(f"{path.name} is damaged: {error}") from error
    return plane


def read_tiff_shape(path: Path) -> tuple[int, int]:
    """Shape ``(y, x)`` of a TIFF's first page.

    Raises
    ------
    ImageError
        If the file cannot be read as a two-dimensional TIFF.
    """
    return _check_page(path, _read(path))[0]


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ImageError(f"{path.name} is not a file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path.name} is missing") from error
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {error.strerror}") from error


def _check_page(path: Path, data: bytes) -> tuple[tuple[int, int], np.dtype[np.generic]]:
    """Shape and dtype that the first page declares, once its pixels are known to lie within the file."""
    if not data:
        raise ImageError(f"{path.name} is empty")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            n_pages, shape, dtype = len(tiff.pages), page.shape, page.dtype
            end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    except Exception as error:  # tifffile raises whatever a damaged header trips over
        raise ImageError(f"{path.name} is not a readable TIFF, or is cut off ({len(data)} bytes)") from error
    if end > len(data):
        raise ImageError(f"{path.name} is cut off: {len(data)} bytes, expected {end}")
    if n_pages != 1 or len(shape) != 2 or dtype is None:
        raise ImageError(f"{path.name} has {n_pages} pages of shape {shape}, expected one plane (y, x)")
    return (shape[0], shape[1]), dtype


def _describe(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> str:
    return f"{shape[0]} x {shape[1]} {dtype}"

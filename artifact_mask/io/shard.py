"""Whole planes as shards of Zarr v3: chunks one after the other, and an index of them at the end.

For a plane that is one shard, zarr-python spends several times longer on its machinery than on compressing or
decompressing (`benchmarks/shard.py`).

References
----------
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import struct
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from artifact_mask.io.chunk import PlaneCodec, decode_chunk, encode_chunk, has_signal

_MISSING = (2**64 - 1, 2**64 - 1)
_MISSING_CHUNK = struct.pack("<QQ", *_MISSING)
_CRC32C_BYTES = 4


def encode_shard(plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
    """Encode a plane ``(y, x)`` that chunks of this size divide.

    Notes
    -----
    A crc32c follows each chunk and the index, since Blosc does not notice a flipped bit.
    """
    parts, index, offset = [], [], 0
    # The same memory for all chunks: what Blosc reads next is in the cache.
    pixels = np.empty(chunk, codec.dtype)
    for window in _windows(plane.shape, chunk):
        if not has_signal(plane[window]):
            index.append(_MISSING_CHUNK)
            continue
        pixels[:] = plane[window]
        part = encode_chunk(pixels, codec)
        parts += [part, _crc32c(part)]
        size = len(part) + _CRC32C_BYTES
        index.append(struct.pack("<QQ", offset, size))
        offset += size
    offsets = b"".join(index)
    return b"".join([*parts, offsets, _crc32c(offsets)])


def decode_shard(content: bytes, plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> None:
    """Decode what :func:`encode_shard` made into a plane ``(y, x)`` of zeros.

    Raises
    ------
    ValueError, RuntimeError
        If it is not what was written; the latter by Blosc.
    """
    windows = _windows(plane.shape, chunk)
    start = len(content) - len(windows) * len(_MISSING_CHUNK) - _CRC32C_BYTES
    if start < 0:
        raise ValueError(f"{len(content)} bytes are too few")
    index = _checked(content, start, len(content))
    for window, place in zip(windows, struct.iter_unpack("<QQ", index), strict=True):
        if place != _MISSING:
            offset, size = place
            plane[window] = decode_chunk(_checked(content, offset, offset + size), chunk, codec)


def _windows(shape: Sequence[int], chunk: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Chunks of a plane ``(y, x)`` that they divide, in the order of a shard's index."""
    height, width = chunk
    return [
        (slice(y, y + height), slice(x, x + width))
        for y in range(0, shape[0], height)
        for x in range(0, shape[1], width)
    ]


def _crc32c(content: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(content))


def _checked(content: bytes, start: int, stop: int) -> bytes:
    """Cut out a part that ends with its crc32c, and leave that away."""
    end = stop - _CRC32C_BYTES
    part = content[start:end]
    if _crc32c(part) != content[end:stop]:
        raise ValueError("the checksum of its content is another one")
    return part

"""Compressed chunks of a plane."""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numcodecs
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

# On the main thread, numcodecs lets Blosc start threads of its own. They append blocks as they finish, so that the same
# pixels would become other bytes each time.
numcodecs.blosc.use_threads = False

_SHUFFLES: dict[str, int] = {"bitshuffle": numcodecs.Blosc.BITSHUFFLE, "shuffle": numcodecs.Blosc.SHUFFLE}
_HEADER = struct.Struct("<4xI4xI")
"""Of Blosc: bytes before and after compression."""


@dataclass(frozen=True)
class PlaneCodec:
    """How pixels are compressed by Blosc.

    Attributes
    ----------
    name, level, shuffle
        As Blosc calls them.
    dtype
        Of the array.
    """

    name: Literal["lz4", "zstd"]
    level: int
    shuffle: Literal["shuffle", "bitshuffle"]
    dtype: Literal["uint16", "int32", "float32"]

    @cached_property
    def itemsize(self) -> int:
        """Bytes of a pixel."""
        return np.dtype(self.dtype).itemsize

    @property
    def shuffle_number(self) -> int:
        """What Blosc calls the shuffle in numbers."""
        return _SHUFFLES[self.shuffle]


INTENSITY = PlaneCodec("lz4", 5, "bitshuffle", "uint16")
LABEL = PlaneCodec("zstd", 3, "bitshuffle", "int32")
REAL = PlaneCodec("zstd", 3, "bitshuffle", "float32")


def encode_chunk(pixels: NDArray[Any], codec: PlaneCodec) -> bytes:
    """Compress contiguous pixels of the codec's dtype."""
    # As few blocks as can be: left to itself, Blosc cuts chunks into blocks that take it half as long again.
    blosc = numcodecs.Blosc(codec.name, codec.level, codec.shuffle_number, blocksize=pixels.nbytes)
    compressed: bytes = blosc.encode(pixels)
    return compressed


def has_signal(pixels: NDArray[Any]) -> bool:
    """Whether any pixel ``(y, x)`` is not zero; nearly always, the row in the middle tells."""
    return bool(pixels[len(pixels) // 2].any() or pixels.any())


def decode_chunk(content: bytes, shape: tuple[int, int], codec: PlaneCodec) -> NDArray[Any]:
    """Decompress the pixels ``(y, x)`` of a chunk.

    Raises
    ------
    ValueError, RuntimeError
        If it is not what was written; the latter by Blosc.
    """
    expected = (shape[0] * shape[1] * codec.itemsize, len(content))
    # Blosc trusts its header, and would read beyond the end of a chunk that was cut.
    if len(content) < _HEADER.size or _HEADER.unpack_from(content) != expected:
        raise ValueError("a chunk is not as long as its header says")
    return np.frombuffer(numcodecs.Blosc().decode(content), codec.dtype).reshape(shape)

"""Write whole planes as Zarr v3 shards, and read them back.

Zarr-python defines the arrays, and reads those that others wrote. For a plane that is one shard it spends several times
longer on its machinery than on compressing or decompressing (`benchmarks/shard.py`).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import google_crc32c
import numcodecs
import numpy as np
import zarr
import zarr.codecs
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.location import Location, read_bytes

_MISSING = (2**64 - 1, 2**64 - 1)
_MISSING_CHUNK = struct.pack("<QQ", *_MISSING)
_CRC32C_BYTES = 4
_SHUFFLES = {"bitshuffle": numcodecs.Blosc.BITSHUFFLE, "shuffle": numcodecs.Blosc.SHUFFLE}


@dataclass(frozen=True)
class PlaneCodec:
    """How the inner chunks of a shard are compressed: Blosc, then crc32c, since Blosc does not notice a flipped bit.

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
    dtype: Literal["uint16", "int32"]


INTENSITY = PlaneCodec("lz4", 5, "bitshuffle", "uint16")
LABEL = PlaneCodec("zstd", 3, "bitshuffle", "int32")


def create_sharded_array(
    files: StagedFiles, folder: Location, shape: Sequence[int], chunk: tuple[int, int], axes: str, codec: PlaneCodec
) -> None:
    """Write the metadata of an array ``(..., y, x)`` whose shards are whole planes, cut into chunks ``(y, x)``.

    Notes
    -----
    The fill value is 0, and a plane of zeros writes no file.
    """
    files.write(folder / "zarr.json", _array_document(tuple(shape), chunk, axes, codec))


def write_plane(
    files: StagedFiles,
    folder: Location,
    index: Sequence[int],
    plane: NDArray[Any],
    chunk: tuple[int, int],
    codec: PlaneCodec,
) -> None:
    """Write one plane ``(y, x)`` of an array that :func:`create_sharded_array` made: its shard."""
    if plane.any():
        files.write(_shard(folder, index), encode_shard(plane, chunk, codec))


def read_plane(
    folder: Location, shape: Sequence[int], index: Sequence[int], chunk: tuple[int, int], axes: str, codec: PlaneCodec
) -> NDArray[Any] | None:
    """Read one plane ``(y, x)`` of an array, or None if it is not one that :func:`create_sharded_array` made like this.

    Raises
    ------
    PlateError
        If the shard is damaged.
    """
    try:
        if read_bytes(folder / "zarr.json") != _array_document(tuple(shape), chunk, axes, codec):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    plane = np.zeros(shape[-2:], codec.dtype)
    try:
        content = read_bytes(_shard(folder, index))
    except FileNotFoundError:
        return plane
    try:
        decode_shard(content, plane, chunk)
    except (ValueError, RuntimeError) as error:
        raise PlateError(
            f"{_shard(folder, index)} is damaged: {error}. Remove it and run `artmask ingest` again."
        ) from error
    return plane


def encode_shard(plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
    """Encode a plane ``(y, x)`` as one shard, its index at the end.

    References
    ----------
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    # One block a chunk: left to itself, Blosc cuts chunks into blocks that take it half as long again.
    n_bytes = chunk[0] * chunk[1] * np.dtype(codec.dtype).itemsize
    blosc = numcodecs.Blosc(codec.name, codec.level, _SHUFFLES[codec.shuffle], blocksize=n_bytes)
    parts, index, offset = [], [], 0
    for window in _windows(plane.shape, chunk):
        pixels = np.ascontiguousarray(plane[window], dtype=codec.dtype)
        if not pixels.any():
            index.append(_MISSING_CHUNK)
            continue
        part = blosc.encode(pixels)
        parts += [part, _crc32c(part)]
        size = len(part) + _CRC32C_BYTES
        index.append(struct.pack("<QQ", offset, size))
        offset += size
    offsets = b"".join(index)
    return b"".join([*parts, offsets, _crc32c(offsets)])


def decode_shard(content: bytes, plane: NDArray[Any], chunk: tuple[int, int]) -> None:
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
            pixels = numcodecs.Blosc().decode(_checked(content, offset, offset + size))
            plane[window] = np.frombuffer(pixels, plane.dtype).reshape(chunk)


def _shard(folder: Location, index: Sequence[int]) -> Location:
    return folder / "c" / "/".join(str(i) for i in (*index, 0, 0))


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


@cache
def _array_document(shape: tuple[int, ...], chunk: tuple[int, int], axes: str, codec: PlaneCodec) -> bytes:
    """``zarr.json`` of an array as zarr-python writes it; the fields of a plate all have the same."""
    leading = (1,) * (len(shape) - 2)
    documents: dict[str, Any] = {}
    zarr.create_array(
        MemoryStore(documents),
        shape=shape,
        dtype=codec.dtype,
        chunks=(*leading, *chunk),
        shards=(*leading, *shape[-2:]),
        compressors=(
            zarr.codecs.BloscCodec(
                cname=codec.name, clevel=codec.level, shuffle=codec.shuffle, typesize=np.dtype(codec.dtype).itemsize
            ),
            zarr.codecs.Crc32cCodec(),
        ),
        fill_value=0,
        dimension_names=tuple(axes),
    )
    return bytes(documents["zarr.json"].to_bytes())

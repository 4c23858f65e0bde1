"""Write whole planes as Zarr v3 shards.

Zarr-python defines the arrays and reads them; for a plane that is one shard it spends several times longer on its
machinery than on compressing (`benchmarks/shard.py`).
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

from artifact_mask.io.files import StagedFiles
from artifact_mask.location import Location

_MISSING_CHUNK = struct.pack("<QQ", 2**64 - 1, 2**64 - 1)
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
    if not plane.any():
        return
    key = "/".join(str(i) for i in (*index, 0, 0))
    files.write(folder / "c" / key, encode_shard(plane, chunk, codec))


def encode_shard(plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
    """Encode a plane ``(y, x)`` as one shard, its index at the end.

    References
    ----------
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    blosc = numcodecs.Blosc(cname=codec.name, clevel=codec.level, shuffle=_SHUFFLES[codec.shuffle])
    height, width = chunk
    parts, index, offset = [], [], 0
    for y in range(0, plane.shape[0], height):
        for x in range(0, plane.shape[1], width):
            pixels = np.ascontiguousarray(plane[y : y + height, x : x + width], dtype=codec.dtype)
            if not pixels.any():
                index.append(_MISSING_CHUNK)
                continue
            part = _with_crc32c(blosc.encode(pixels))
            parts.append(part)
            index.append(struct.pack("<QQ", offset, len(part)))
            offset += len(part)
    return b"".join([*parts, _with_crc32c(b"".join(index))])


def _with_crc32c(content: bytes) -> bytes:
    return content + struct.pack("<I", google_crc32c.value(content))


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

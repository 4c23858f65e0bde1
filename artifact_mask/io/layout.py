"""Versions of NGFF: which files make up a group, an array and a plane, and what is in them.

NGFF 0.5 lies on Zarr v3: one ``zarr.json`` for each group and array, and shards. NGFF 0.4 lies on Zarr v2: ``.zgroup``
and ``.zattrs`` for groups, ``.zarray`` for arrays, and no shards. In both, a plane of a level is one file.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

import numcodecs
import numpy as np
import zarr
import zarr.codecs
from numpy.typing import NDArray
from yaozarrs import v04, v05
from zarr.storage import MemoryStore

from artifact_mask.io.chunk import PlaneCodec, decode_chunk, encode_chunk
from artifact_mask.io.shard import decode_shard, encode_shard
from artifact_mask.metadata import NgffVersion

MAX_CHUNK_PX = 640


class StoredArray(NamedTuple):
    """What the document of an array says; ``names`` are those of its dimensions, None where Zarr knows none."""

    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...] | None


class Layout(ABC):
    """Files of one version of NGFF.

    Attributes
    ----------
    version
        Of NGFF.
    zarr_format
        Version of Zarr below it.
    models
        yaozarrs' models of its metadata.
    omero_version
        What ``omero`` says of its version; None if it does not.
    attributes_file, group_file, array_file
        Names of the documents with the attributes of a group, that mark a group, and that describe an array.
    """

    version: ClassVar[NgffVersion]
    zarr_format: ClassVar[Literal[2, 3]]
    models: ClassVar[ModuleType]
    omero_version: ClassVar[NgffVersion | None]
    attributes_file: ClassVar[str]
    group_file: ClassVar[str]
    array_file: ClassVar[str]

    @abstractmethod
    def describe_group(self, ome: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
        """Documents of a group by their names, in the order in which they are to be written.

        Parameters
        ----------
        ome
            Metadata of NGFF; empty if there are none.
        others
            Further attributes.
        """

    @abstractmethod
    def parse_attributes(self, document: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Metadata of NGFF, and all attributes, in the document with the attributes of a group.

        Raises
        ------
        ValueError, AttributeError
            If the document is damaged.
        """

    @abstractmethod
    def chunk_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape ``(y, x)`` of the chunks of a plane."""

    @abstractmethod
    def describe_array(self, shape: tuple[int, ...], chunk: tuple[int, int], axes: str, codec: PlaneCodec) -> bytes:
        """Document of an array ``(..., y, x)``, as zarr-python writes it. The fill value is 0."""

    @abstractmethod
    def parse_array(self, document: bytes) -> StoredArray:
        """Parse the document of an array.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is not that of an array.
        """

    @abstractmethod
    def plane_file(self, index: Sequence[int]) -> str:
        """Name of the file of a plane, in the folder of its array."""

    @abstractmethod
    def encode(self, plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
        """Encode a plane ``(y, x)`` of the codec's dtype as the content of its file."""

    @abstractmethod
    def decode(self, content: bytes, shape: tuple[int, int], chunk: tuple[int, int], codec: PlaneCodec) -> NDArray[Any]:
        """Decode what :meth:`encode` made.

        Raises
        ------
        ValueError, RuntimeError
            If it is not what was written; the latter by Blosc.
        """


class _Ngff05(Layout):
    version = "0.5"
    zarr_format = 3
    models: ClassVar[ModuleType] = v05
    omero_version = None
    attributes_file = "zarr.json"
    group_file = "zarr.json"
    array_file = "zarr.json"

    def describe_group(self, ome: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
        attributes = {**({"ome": ome} if ome else {}), **others}
        return {"zarr.json": _to_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})}

    def parse_attributes(self, document: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        attributes = json.loads(document).get("attributes", {})
        return attributes.get("ome", {}), attributes

    def chunk_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return _chunk_size(shape[0]), _chunk_size(shape[1])

    def describe_array(self, shape: tuple[int, ...], chunk: tuple[int, int], axes: str, codec: PlaneCodec) -> bytes:
        return _zarr_json(shape, chunk, axes, codec)

    def parse_array(self, document: bytes) -> StoredArray:
        array = json.loads(document)
        return StoredArray(tuple(array["shape"]), array["data_type"], tuple(array["dimension_names"]))

    def plane_file(self, index: Sequence[int]) -> str:
        # All planes of a level in one folder: with "/" each would have three of its own, which cost more than its file.
        return f"c.{'.'.join(map(str, index))}.0.0"

    def encode(self, plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
        return encode_shard(plane, chunk, codec)

    def decode(self, content: bytes, shape: tuple[int, int], chunk: tuple[int, int], codec: PlaneCodec) -> NDArray[Any]:
        plane = np.zeros(shape, codec.dtype)
        decode_shard(content, plane, chunk, codec)
        return plane


class _Ngff04(Layout):
    version = "0.4"
    zarr_format = 2
    models: ClassVar[ModuleType] = v04
    omero_version = "0.4"
    attributes_file = ".zattrs"
    group_file = ".zgroup"
    array_file = ".zarray"

    def describe_group(self, ome: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
        attributes = {**ome, **others}
        # The attributes first: what is a group says what it is.
        return ({".zattrs": _to_json(attributes)} if attributes else {}) | {".zgroup": _to_json({"zarr_format": 2})}

    def parse_attributes(self, document: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        attributes = dict(json.loads(document).items())
        return attributes, attributes

    def chunk_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return shape

    def describe_array(self, shape: tuple[int, ...], chunk: tuple[int, int], axes: str, codec: PlaneCodec) -> bytes:
        return _zarray(shape, chunk, codec)

    def parse_array(self, document: bytes) -> StoredArray:
        array = json.loads(document)
        return StoredArray(tuple(array["shape"]), array["dtype"], None)

    def plane_file(self, index: Sequence[int]) -> str:
        return f"{'/'.join(map(str, index))}/0/0"

    def encode(self, plane: NDArray[Any], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
        return encode_chunk(np.ascontiguousarray(plane, dtype=codec.dtype), codec)

    def decode(self, content: bytes, shape: tuple[int, int], chunk: tuple[int, int], codec: PlaneCodec) -> NDArray[Any]:
        return decode_chunk(content, shape, codec)


LAYOUTS: Mapping[NgffVersion, Layout] = {"0.5": _Ngff05(), "0.4": _Ngff04()}
"""In the order in which readers look for them."""


def _to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1)


def _chunk_size(n: int) -> int:
    """Largest divisor of a side that makes a handy chunk; the whole side where there is none."""
    return next((size for size in range(min(n, MAX_CHUNK_PX), n // 16, -1) if n % size == 0), n)


# The fields of an acquisition all have the same arrays.
@cache
def _zarr_json(shape: tuple[int, ...], chunk: tuple[int, int], axes: str, codec: PlaneCodec) -> bytes:
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
                cname=codec.name, clevel=codec.level, shuffle=codec.shuffle, typesize=codec.itemsize
            ),
            zarr.codecs.Crc32cCodec(),
        ),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=tuple(axes),
    )
    return bytes(documents["zarr.json"].to_bytes())


@cache
def _zarray(shape: tuple[int, ...], chunk: tuple[int, int], codec: PlaneCodec) -> bytes:
    documents: dict[str, Any] = {}
    zarr.create_array(
        MemoryStore(documents),
        shape=shape,
        dtype=codec.dtype,
        chunks=(*(1,) * (len(shape) - 2), *chunk),
        compressors=numcodecs.Blosc(codec.name, codec.level, codec.shuffle_number),
        fill_value=0,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    return bytes(documents[".zarray"].to_bytes())

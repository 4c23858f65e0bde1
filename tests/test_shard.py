"""Shards of our own writer are what three independent readers expect."""

import json

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from artifact_mask.io.shard import INTENSITY, LABEL, create_sharded_array, encode_shard, write_plane

CODECS = pytest.mark.parametrize("codec", [INTENSITY, LABEL], ids=["intensity", "label"])


def _planes(codec):
    """Two planes (y, x) of 96 x 64 pixels; the second has chunks of nothing but zeros."""
    random = np.random.default_rng(1)
    full = random.integers(1, 30000, (96, 64)).astype(codec.dtype)
    sparse = np.zeros_like(full)
    sparse[50:60, 3:9] = 7
    return full, sparse


def _write(folder, codec):
    create_sharded_array(folder, (2, 1, 96, 64), (48, 32), "tzyx", codec)
    planes = _planes(codec)
    for t, plane in enumerate(planes):
        write_plane(folder, (t, 0), plane, (48, 32), codec)
    return np.stack(planes)[:, None]


@CODECS
def test_zarr_python_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path, codec)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], expected)


@CODECS
def test_zarrs_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path, codec)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], expected)


@CODECS
def test_tensorstore_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path, codec)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)


@CODECS
def test_shard_is_as_large_as_zarr_pythons(tmp_path, codec):
    full, _ = _planes(codec)
    create_sharded_array(tmp_path, (1, 1, 96, 64), (48, 32), "tzyx", codec)
    zarr.open_array(tmp_path, mode="r+")[0, 0] = full
    theirs = (tmp_path / "c" / "0" / "0" / "0" / "0").read_bytes()
    assert len(encode_shard(full, (48, 32), codec)) == len(theirs)


def test_plane_of_zeros_writes_no_file(tmp_path):
    create_sharded_array(tmp_path, (1, 1, 96, 64), (48, 32), "tzyx", LABEL)
    write_plane(tmp_path, (0, 0), np.zeros((96, 64), np.int32), (48, 32), LABEL)
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]
    assert not zarr.open_array(tmp_path, mode="r")[:].any()


def test_flipped_bit_is_noticed(tmp_path):
    _write(tmp_path, INTENSITY)
    shard = tmp_path / "c" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"[Cc]hecksum"):
        zarr.open_array(tmp_path, mode="r")[:]


def test_metadata_names_shard_chunk_and_codecs(tmp_path):
    create_sharded_array(tmp_path, (1, 1, 1, 1080, 1080), (540, 540), "tczyx", INTENSITY)
    document = json.loads((tmp_path / "zarr.json").read_text())
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1, 1, 1080, 1080]
    (sharding,) = document["codecs"]
    assert sharding["configuration"]["chunk_shape"] == [1, 1, 1, 540, 540]
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "blosc", "crc32c"]
    blosc = sharding["configuration"]["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["clevel"], blosc["shuffle"]) == ("lz4", 5, "bitshuffle")


@settings(max_examples=30, deadline=None)
@given(
    plane=arrays(np.uint16, (12, 20), elements=st.integers(0, 65535)),
    chunk=st.sampled_from([(12, 20), (4, 5), (6, 10)]),
)
def test_any_plane_and_chunk_survive_the_round_trip(tmp_path_factory, plane, chunk):
    folder = tmp_path_factory.mktemp("shard")
    create_sharded_array(folder, (1, 1, 1, 12, 20), chunk, "tczyx", INTENSITY)
    write_plane(folder, (0, 0, 0), plane, chunk, INTENSITY)
    np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[0, 0, 0], plane)

"""Planes of our own writer are what three independent readers expect, and our reader agrees with them."""

import json

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stores import writing

from artifact_mask.io.chunk import INTENSITY, LABEL, encode_chunk
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.plane import create_array, read_plane, write_plane
from artifact_mask.io.shard import encode_shard

CODECS = pytest.mark.parametrize("codec", [INTENSITY, LABEL], ids=["intensity", "label"])
CHUNK = (48, 32)


def _planes(codec):
    """Two planes (y, x) of 96 x 64 pixels; the second has chunks of nothing but zeros."""
    random = np.random.default_rng(1)
    full = random.integers(1, 30000, (96, 64)).astype(codec.dtype)
    sparse = np.zeros_like(full)
    sparse[50:60, 3:9] = 7
    return full, sparse


def _write(folder, codec, planes=None, chunk=CHUNK):
    """Write planes as an array ``(t, 1, y, x)``, and return all of it."""
    planes = _planes(codec) if planes is None else planes
    with writing(folder) as files:
        create_array(files, folder, (len(planes), 1, *planes[0].shape), chunk, "tzyx", codec)
        for t, plane in enumerate(planes):
            write_plane(files, folder, (t, 0), plane, chunk, codec)
    return np.stack(planes)[:, None]


@CODECS
def test_zarr_python_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path / "0", codec)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "0", mode="r")[:], expected)


@CODECS
def test_zarrs_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path / "0", codec)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "0", mode="r")[:], expected)


@CODECS
def test_tensorstore_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path / "0", codec)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "0")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)


@CODECS
def test_reader_reads_what_was_written(tmp_path, codec):
    expected = _write(tmp_path / "0", codec)
    for t in (0, 1):
        plane = read_plane(tmp_path / "0", expected.shape, (t, 0), CHUNK, "tzyx", codec)
        np.testing.assert_array_equal(plane, expected[t, 0])
        assert plane.dtype == codec.dtype


@CODECS
def test_reader_reads_what_zarr_python_wrote_into_such_an_array(tmp_path, codec):
    full, _ = _planes(codec)
    with writing(tmp_path / "0") as files:
        create_array(files, tmp_path / "0", (1, 1, 96, 64), CHUNK, "tzyx", codec)
    zarr.open_array(tmp_path / "0", mode="r+")[0, 0] = full
    np.testing.assert_array_equal(read_plane(tmp_path / "0", (1, 1, 96, 64), (0, 0), CHUNK, "tzyx", codec), full)


@pytest.mark.parametrize(
    ("shape", "chunk", "axes", "codec"),
    [
        ((3, 1, 96, 64), CHUNK, "tzyx", INTENSITY),
        ((2, 1, 96, 64), (96, 64), "tzyx", INTENSITY),
        ((2, 1, 96, 64), CHUNK, "tcyx", INTENSITY),
        ((2, 1, 96, 64), CHUNK, "tzyx", LABEL),
    ],
)
def test_reader_leaves_any_other_array_alone(tmp_path, shape, chunk, axes, codec):
    _write(tmp_path / "0", INTENSITY)
    assert read_plane(tmp_path / "0", shape, (0, 0), chunk, axes, codec) is None
    assert read_plane(tmp_path / "1", shape, (0, 0), chunk, axes, codec) is None


@CODECS
def test_shard_is_as_large_as_zarr_pythons(tmp_path, codec):
    full, _ = _planes(codec)
    with writing(tmp_path / "0") as files:
        create_array(files, tmp_path / "0", (1, 1, 96, 64), CHUNK, "tzyx", codec)
    zarr.open_array(tmp_path / "0", mode="r+")[0, 0] = full
    theirs = (tmp_path / "0" / "c.0.0.0.0").read_bytes()
    assert len(encode_shard(full, CHUNK, codec)) == len(theirs)


def test_plane_of_zeros_writes_no_file(tmp_path):
    expected = _write(tmp_path / "0", LABEL, planes=[np.zeros((96, 64), np.int32)])
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["zarr.json"]
    assert not zarr.open_array(tmp_path / "0", mode="r")[:].any()
    assert not read_plane(tmp_path / "0", expected.shape, (0, 0), CHUNK, "tzyx", LABEL).any()


def test_flipped_bit_is_noticed(tmp_path):
    _write(tmp_path / "0", INTENSITY)
    shard = tmp_path / "0" / "c.0.0.0.0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"[Cc]hecksum"):
        zarr.open_array(tmp_path / "0", mode="r")[:]
    with pytest.raises(ValueError, match="checksum"):
        read_plane(tmp_path / "0", (2, 1, 96, 64), (0, 0), CHUNK, "tzyx", INTENSITY)


def test_metadata_names_shard_chunk_and_codecs(tmp_path):
    with writing(tmp_path / "0") as files:
        create_array(files, tmp_path / "0", (1, 1, 1, 1080, 1080), (540, 540), "tczyx", INTENSITY)
    document = json.loads((tmp_path / "0" / "zarr.json").read_text())
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
    folder = tmp_path_factory.mktemp("shard") / "0"
    expected = _write(folder, INTENSITY, planes=[plane], chunk=chunk)
    np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[:], expected)
    np.testing.assert_array_equal(read_plane(folder, expected.shape, (0, 0), chunk, "tzyx", INTENSITY), plane)


@CODECS
def test_whole_field_is_read_by_all(tmp_path, codec):
    y, x = np.mgrid[:1080, :1080]
    plane = ((y // 7 * x // 5) % 3000 * (x > 560)).astype(codec.dtype)
    expected = _write(tmp_path / "0", codec, planes=[plane], chunk=(540, 540))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "0", mode="r")[:], expected)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "0", mode="r")[:], expected)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "0")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)
    np.testing.assert_array_equal(read_plane(tmp_path / "0", expected.shape, (0, 0), (540, 540), "tzyx", codec), plane)


@CODECS
def test_chunks_of_zarr_v2_are_read_by_all(tmp_path, codec):
    layout, planes, folder = LAYOUTS["0.4"], [*_planes(codec), np.zeros((96, 64), codec.dtype)], tmp_path / "0"
    with writing(folder) as files:
        create_array(files, folder, (3, 1, 96, 64), (96, 64), "tzyx", codec, layout=layout)
        for t, plane in enumerate(planes):
            write_plane(files, folder, (t, 0), plane, (96, 64), codec, layout=layout)
    assert sorted(path.name for path in folder.iterdir()) == [".zarray", "0", "1"]
    expected = np.stack(planes)[:, None]
    np.testing.assert_array_equal(zarr.open_array(folder, mode="r", zarr_format=2)[:], expected)
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)
    for t, plane in enumerate(planes):
        read = read_plane(folder, expected.shape, (t, 0), (96, 64), "tzyx", codec, layout=layout)
        np.testing.assert_array_equal(read, plane)
        assert read.dtype == codec.dtype


@CODECS
def test_the_same_pixels_become_the_same_bytes(codec):
    plane = np.random.default_rng(1).integers(0, 3000, (1080, 1080)).astype(codec.dtype)
    assert len({encode_chunk(plane, codec) for _ in range(10)}) == 1

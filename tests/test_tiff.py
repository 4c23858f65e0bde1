from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from upath import UPath

from artifact_mask.errors import ImageError
from artifact_mask.io.operetta_writer import write_plane
from artifact_mask.io.tiff import read_tiff_plane, read_tiff_shape

SHAPE = (48, 64)
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 65536, SHAPE, np.uint16)


@pytest.fixture(scope="module")
def harmony_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LZW file as Harmony writes it."""
    return write_plane(tmp_path_factory.mktemp("tiff"), "lzw.tiff", pixels(), 0.5)


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uncompressed file."""
    path = tmp_path_factory.mktemp("tiff") / "plain.tiff"
    tifffile.imwrite(path, pixels())
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "tile": (32, 32)},
        {"compression": "zstd"},
        {"compression": "lzma"},
        {"compression": "packbits"},
        {"compression": "jpegxl", "compressionargs": {"lossless": True}},
        {"compression": "png"},
        {"compression": "lzw", "rowsperstrip": 7},
        {"rowsperstrip": 5},
        {"compression": "lzw", "tile": (16, 16)},
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "lzw"},
        {"bigtiff": True},
        {"imagej": True},
        {"photometric": "miniswhite"},
    ],
    ids=str,
)
def test_pixels_are_read_exactly_however_they_are_stored(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "x.tiff"
    tifffile.imwrite(path, pixels(), **options)  # type: ignore[arg-type]
    plane = read_tiff_plane(path, SHAPE)
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(plane, pixels())
    assert read_tiff_shape(path) == SHAPE


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "zstd", "tile": (16, 16)}], ids=str)
def test_each_page_of_a_file_is_read_by_its_number(tmp_path: Path, options: dict[str, object]) -> None:
    stack = np.random.default_rng(1).integers(0, 65536, (5, *SHAPE), np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack", **options)  # type: ignore[arg-type]
    for page, expected in enumerate(stack):
        np.testing.assert_array_equal(read_tiff_plane(tmp_path / "x.tif", SHAPE, page=page), expected)
    assert read_tiff_shape(tmp_path / "x.tif", page=4) == SHAPE
    with pytest.raises(ImageError, match="has 5 pages, expected 6"):
        read_tiff_plane(tmp_path / "x.tif", SHAPE, page=5)


def test_a_page_of_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    stack = np.random.default_rng(1).integers(0, 65536, (3, *SHAPE), np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack")
    content = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(content[:-100])
    with pytest.raises(ImageError, match=r"cut off|not a readable TIFF|pages"):
        read_tiff_plane(tmp_path / "x.tif", SHAPE, page=2)


def test_a_file_in_a_store_is_read_as_one_on_disk(harmony_file: Path) -> None:
    place = UPath("memory://tiffs/lzw.tiff")
    place.fs.pipe_file(place.path, harmony_file.read_bytes())
    np.testing.assert_array_equal(read_tiff_plane(place, SHAPE), pixels())
    np.testing.assert_array_equal(read_tiff_plane(place, SHAPE, page=0), pixels())
    with pytest.raises(ImageError, match="is missing"):
        read_tiff_plane(UPath("memory://tiffs/none.tiff"), SHAPE)


@pytest.mark.parametrize("value", [0, 1, 65535])
def test_a_plane_of_one_value_is_read_exactly(tmp_path: Path, value: int) -> None:
    plane = np.full(SHAPE, value, np.uint16)
    np.testing.assert_array_equal(read_tiff_plane(write_plane(tmp_path, "x.tiff", plane, 0.5), SHAPE), plane)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"x\.tiff is missing"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tiff").touch()
    with pytest.raises(ImageError, match=r"x\.tiff is empty"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tiff").mkdir()
    with pytest.raises(ImageError, match=r"x\.tiff is not a file"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


@pytest.mark.parametrize(
    "content", [b"\0", b"II", b"II*\0", b"MM\0*\0\0\0\x08", b"not a TIFF " * 99, b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_that_is_no_tiff_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tiff").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.tiff"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_another_dtype_is_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    tifffile.imwrite(tmp_path / "x.tiff", np.zeros(SHAPE, dtype))
    with pytest.raises(ImageError, match=rf"48 x 64 {np.dtype(dtype)}, expected 48 x 64 uint16"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


@pytest.mark.parametrize("shape", [(64, 48), (48, 63), (1, 1), (96, 128)])
def test_another_size_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    tifffile.imwrite(tmp_path / "x.tiff", np.zeros(shape, np.uint16))
    with pytest.raises(ImageError, match=rf"{shape[0]} x {shape[1]} uint16, expected 48 x 64 uint16"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_image_is_refused(tmp_path: Path, planar: str) -> None:
    shape = (*SHAPE, 3) if planar == "contig" else (3, *SHAPE)
    tifffile.imwrite(tmp_path / "x.tiff", np.zeros(shape, np.uint16), photometric="rgb", planarconfig=planar)
    with pytest.raises(ImageError, match="expected one plane"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


def test_a_volume_in_one_page_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tiff", np.zeros((16, 16, 32), np.uint16), volumetric=True, tile=(16, 16, 16))
    with pytest.raises(ImageError):
        read_tiff_plane(tmp_path / "x.tiff", (16, 32))


@pytest.mark.parametrize("file", ["harmony_file", "plain_file"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, file: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(file).read_bytes()
    path = tmp_path / "x.tiff"
    accepted = []
    for length in [*range(0, 300, 7), *range(300, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        try:
            plane = read_tiff_plane(path, SHAPE)
        except ImageError:
            continue
        # What a cut takes away may be no more than padding or a tag that pixels do not need.
        np.testing.assert_array_equal(plane, pixels())
        accepted.append(length)
    assert len(accepted) <= 1


@pytest.mark.parametrize("page", [None, 0])
def test_a_file_that_lost_its_end_to_zeros_gives_no_silent_zeros(
    tmp_path: Path, harmony_file: Path, page: int | None
) -> None:
    # What remains on a disk after power was lost: the size is right, the end is zero.
    whole = bytearray(harmony_file.read_bytes())
    whole[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    (tmp_path / "x.tiff").write_bytes(whole)
    with pytest.raises(ImageError):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE, page=page)


@pytest.mark.parametrize("page", [None, 0])
def test_corrupt_lzw_is_refused(tmp_path: Path, harmony_file: Path, page: int | None) -> None:
    whole = bytearray(harmony_file.read_bytes())
    with tifffile.TiffFile(harmony_file) as tiff:
        (start,), (length,) = tiff.pages.first.dataoffsets, tiff.pages.first.databytecounts
    whole[start + 10 : start + length] = b"\xff" * (length - 10)
    (tmp_path / "x.tiff").write_bytes(whole)
    with pytest.raises(ImageError, match=r"x\.tiff( page 0)? is damaged"):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE, page=page)


def test_a_file_that_promises_a_huge_image_costs_no_memory(tmp_path: Path, plain_file: Path) -> None:
    whole = bytearray(plain_file.read_bytes())
    with tifffile.TiffFile(plain_file) as tiff:
        offsets = [tiff.pages.first.tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for offset in offsets:
        whole[offset : offset + 4] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "x.tiff").write_bytes(whole)
    with pytest.raises(ImageError):
        read_tiff_plane(tmp_path / "x.tiff", SHAPE)


@many
@given(data=st.data(), compressed=st.booleans())
def test_a_damaged_file_gives_an_error_or_a_whole_plane(
    tmp_path: Path, harmony_file: Path, plain_file: Path, data: st.DataObject, compressed: bool
) -> None:
    content = bytearray((harmony_file if compressed else plain_file).read_bytes())
    # Most damage worth trying is in the header.
    where = st.integers(0, 400) | st.integers(0, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        start = min(data.draw(where), len(content) - 1)
        match data.draw(st.sampled_from(["flip", "cut", "drop", "zero"])):
            case "flip":
                content[start] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[start + 1 :]
            case "drop":
                del content[start : min(start + data.draw(st.integers(1, 99)), len(content) - 1)]
            case _:
                stop = min(start + data.draw(st.integers(1, 99)), len(content))
                content[start:stop] = bytes(stop - start)
    path = tmp_path / "x.tiff"
    path.write_bytes(content)
    with suppress(ImageError):
        plane = read_tiff_plane(path, SHAPE)
        assert (plane.shape, plane.dtype) == (SHAPE, np.uint16)

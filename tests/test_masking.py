"""What becomes of artifact pixels, and what the masked image says of it."""

import ngio
import numpy as np
import pytest
import zarr
from exports import CHANNELS, make_plate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from stores import writing

from artifact_mask.io.ome_zarr import open_level, write_masked
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.io.zarr_group import read_group
from artifact_mask.kernels import masking
from artifact_mask.kernels.masking import blank, fill_with_background, fill_with_median, inpaint
from artifact_mask.kernels.pyramid import downsample_known
from artifact_mask.metadata import Masking

IMAGE = np.array([[10, 20, 30], [40, 50, 60]], np.uint16)
MASK = np.array([[False, True, False], [False, False, True]])


@pytest.mark.parametrize(
    ("filled", "expected"),
    [
        (fill_with_median(IMAGE, MASK), [[10, 35, 30], [40, 50, 35]]),
        (fill_with_background(IMAGE, MASK, np.float32([[1, 2.6, 3], [4, 5, 70000]])), [[10, 3, 30], [40, 50, 65535]]),
        (blank(IMAGE, MASK), [[10, np.nan, 30], [40, 50, np.nan]]),
    ],
)
def test_artifacts_become_the_median_the_background_or_nothing(filled, expected):
    np.testing.assert_array_equal(filled, expected)
    assert filled.dtype == (np.float32 if np.isnan(expected).any() else np.uint16)


@given(data=st.data(), image=arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_nothing_changes_outside_of_the_mask_nor_in_the_input(data, image):
    mask = data.draw(arrays(np.bool_, image.shape))
    before, background = image.copy(), np.full(image.shape, 500, np.float32)
    for filled in (
        fill_with_median(image, mask),
        fill_with_background(image, mask, background),
        inpaint(image, mask, background),
        blank(image, mask),
    ):
        np.testing.assert_array_equal(filled[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)


def test_inpainting_continues_a_slope():
    image = (1000 + 10 * np.arange(40)[:, None] + np.zeros((40, 40))).astype(np.uint16)
    truth, mask = image.copy(), np.zeros((40, 40), bool)
    mask[15:25, 12:22] = True
    image[mask] = 0
    filled = inpaint(image, mask, np.full(image.shape, 7, np.float32))
    assert np.abs(filled.astype(int) - truth)[mask].max() <= 2


def test_what_is_too_large_or_all_there_is_becomes_background():
    background = np.full((160, 160), 77, np.float32)
    mask = np.zeros((160, 160), bool)
    mask[:150, :150] = True
    assert (inpaint(np.zeros((160, 160), np.uint16), mask, background)[mask] == 77).all()
    everything = np.ones((9, 9), bool)
    assert (inpaint(np.zeros((9, 9), np.uint16), everything, background[:9, :9]) == 77).all()


def test_of_too_many_artifacts_the_largest_become_background(monkeypatch):
    monkeypatch.setattr(masking, "MOST_INPAINTED_PX", 30)
    image, mask = np.full((60, 60), 100, np.uint16), np.zeros((60, 60), bool)
    mask[5:8, 5:8] = mask[20:23, 5:9] = mask[40:46, 40:46] = True
    filled = inpaint(image, mask, np.full(image.shape, 50, np.float32))
    assert (filled[:30] == 100).all()
    assert (filled[40:46, 40:46] == 50).all()


def test_of_artifacts_side_by_side_none_is_taken_for_known():
    image = (1000 + 10 * np.arange(40)[:, None] + np.zeros((40, 40))).astype(np.uint16)
    truth, mask = image.copy(), np.zeros((40, 40), bool)
    mask[10:18, 10:18] = mask[10:18, 19:27] = mask[19:27, 10:18] = True
    image[mask] = 0
    filled = inpaint(image, mask, np.full(image.shape, 7, np.float32))
    assert np.abs(filled.astype(int) - truth)[mask].max() <= 2


def test_levels_of_an_image_with_nothing_in_it_have_nothing_in_them():
    image = np.float32([[1, np.nan, 5], [3, 4, np.nan], [np.nan, np.nan, 6]])
    np.testing.assert_allclose(downsample_known(image), [[8 / 3, 5], [np.nan, 6]], rtol=1e-6)


@pytest.mark.parametrize("fill", ["median", "nan"])
def test_masked_image_says_how_it_was_made(tmp_path, ngff, fill):
    plate = make_plate(wells=[(2, 3)], channels=CHANNELS[:2], size=(600, 300))
    acquisition = plate.acquisitions[0]
    field, folder = acquisition.wells[0].fields[0], tmp_path / "p.zarr" / "B" / "3" / "0"
    image = np.arange(600 * 300, dtype=np.uint32).reshape(600, 300).astype(np.uint16)
    mask = image % 5 == 0
    mask[:64, :64] = True
    filled = blank(image, mask) if fill == "nan" else fill_with_median(image, mask)
    how = Masking(fill, "artifacts", model="abc", flat_field="def", software="1.0")
    with writing(tmp_path / "p.zarr") as files:
        create_plate(files, tmp_path / "p.zarr", plate, ingest_digest="digest", ngff=ngff)
        write_masked(files, folder, acquisition, field, 0, [((0, 0, 0), filled)], masking=how, ngff=ngff)
    np.testing.assert_array_equal(open_level(folder / "masked")[0, 0, 0], filled)
    np.testing.assert_array_equal(zarr.open_array(folder / "masked" / "0", mode="r")[0, 0, 0], filled)
    assert np.isnan(open_level(folder / "masked", 1)[0, 0, 0]).any() == (fill == "nan")
    assert read_group(folder / "masked").artmask == {
        "fill": fill,
        "label": "artifacts",
        "model": "abc",
        "flat_field": "def",
        "software": "1.0",
    }
    opened = ngio.open_ome_zarr_container(folder / "masked").get_image()
    np.testing.assert_array_equal(np.squeeze(opened.get_as_numpy()), filled)
    window = read_group(folder / "masked").ome["omero"]["channels"][0]["window"]
    assert 0 <= window["start"] < window["end"] <= 65535


def test_a_field_that_is_all_artifact_can_be_written(tmp_path):
    plate = make_plate(wells=[(2, 3)], channels=CHANNELS[:1], size=(64, 64))
    acquisition = plate.acquisitions[0]
    field, nothing = acquisition.wells[0].fields[0], np.full((64, 64), np.nan, np.float32)
    with writing(tmp_path) as files:
        write_masked(files, tmp_path / "0", acquisition, field, 0, [((0, 0, 0), nothing)], masking=Masking("nan"))
    assert np.isnan(open_level(tmp_path / "0" / "masked")[:]).all()

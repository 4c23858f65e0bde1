import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artifact_mask.kernels.edges import darkness_map, edge_map
from artifact_mask.kernels.labels import grow_into_dark
from artifact_mask.kernels.saliency import PUBLISHED_CUT, cut_level, isolate, upsample

SMALL = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
IMAGES = hnp.arrays(np.float32, SMALL, elements=st.floats(-100, 100, width=32))


def disc(size, radius):
    y, x = np.mgrid[:size, :size] - size // 2
    return np.hypot(y, x) <= radius


@given(IMAGES)
def test_edges_are_between_0_and_1_and_leave_the_image_alone(image):
    before = image.copy()
    edges = edge_map(image)
    assert edges.shape == image.shape
    assert edges.dtype == np.float32
    assert 0 <= edges.min() <= edges.max() <= 1
    np.testing.assert_array_equal(image, before)


def test_a_constant_image_has_no_edges():
    assert not edge_map(np.full((9, 9), 7, np.uint16)).any()


def test_edges_do_not_depend_on_gain_or_offset():
    image = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    np.testing.assert_allclose(edge_map(3 * image + 500), edge_map(image), atol=1e-4)


def test_one_bright_crystal_does_not_take_the_range_from_the_rest():
    image = np.zeros((200, 200), np.float32)
    image[disc(200, 2)] = 1000.0
    image[20:40, 20:40] = 10.0
    published, robust = edge_map(image, saturated=0)[15:45, 15:45], edge_map(image, saturated=0.01)[15:45, 15:45]
    assert published.max() < 0.05
    assert robust.max() > 10 * published.max()


def test_what_is_left_to_saturate_is_less_than_the_edges_there_are():
    image = np.zeros((200, 200), np.float32)
    image[100, 100] = 1.0
    assert edge_map(image, dilation_px=1, saturated=0.01).max() == 1


def test_dilation_widens_edges_by_its_radius():
    image = np.zeros((21, 21), np.float32)
    image[:, 10:] = 1.0
    thin, wide = edge_map(image, dilation_px=1, saturated=0), edge_map(image, dilation_px=5, saturated=0)
    assert (thin > 0).sum() == 2 * 21
    assert (wide > 0).sum() == 6 * 21


def test_darkness_is_of_what_is_darker_than_the_background_only():
    contrast = np.array([[-5.0, -1.25, 0.0, 3.0]], np.float32)
    np.testing.assert_allclose(darkness_map(contrast, dilation_px=1), [[1, 0.5, 0, 0]])


@given(IMAGES, st.integers(1, 40), st.integers(1, 40))
def test_upsampling_stays_within_the_range_and_has_the_shape(coarse, height, width):
    fine = upsample(coarse, (height, width))
    assert fine.shape == (height, width)
    assert coarse.min() - 1e-3 <= fine.min() <= fine.max() <= coarse.max() + 1e-3


def test_upsampling_does_not_shift():
    coarse = np.zeros((9, 9), np.float32)
    coarse[4, 4] = 1
    fine = upsample(coarse, (72, 72))
    centre = np.average(np.arange(72), weights=fine.sum(axis=0))
    assert centre == pytest.approx(35.5)


def test_otsu_parts_two_levels():
    refined = np.array([[0.1, 0.12, 0.11, 0.9, 0.88]], np.float32)
    assert 0.12 < cut_level(refined, None) < 0.9


def test_a_fixed_cut_is_a_share_of_the_range():
    assert cut_level(np.array([[2.0, 4.0]], np.float32), PUBLISHED_CUT) == pytest.approx(2 + 2 * PUBLISHED_CUT)


@pytest.mark.parametrize("cut", [None, 0.15])
def test_nothing_is_above_the_cut_of_a_flat_map(cut):
    flat = np.full((5, 5), 0.3, np.float32)
    assert not (flat > cut_level(flat, cut)).any()


def test_what_is_isolated_is_unchanged_and_the_rest_is_background():
    contrast = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    mask = disc(64, 5)
    shown = isolate(contrast, mask, margin_px=3, feather_px=3)
    np.testing.assert_array_equal(shown[mask], contrast[mask])
    assert not shown[~disc(64, 13)].any()


def test_objects_grow_over_connected_dark_pixels_only():
    contrast = np.zeros((41, 41), np.float32)
    contrast[disc(41, 8)] = -2
    contrast[2:5, 2:5] = -2
    grown = grow_into_dark(disc(41, 3), contrast, reach_px=20)
    np.testing.assert_array_equal(grown, disc(41, 8))


def test_objects_grow_no_further_than_their_reach():
    contrast = np.full((41, 41), -2, np.float32)
    mask = disc(41, 2)
    np.testing.assert_array_equal(grow_into_dark(mask, contrast, reach_px=0), mask)
    grown = grow_into_dark(mask, contrast, reach_px=5)
    assert not grown[~disc(41, 7)].any()
    assert grown.sum() > disc(41, 6).sum()


def test_an_object_beside_a_dark_cell_is_not_grown_into_it():
    contrast = np.zeros((101, 101), np.float32)
    contrast[disc(101, 40)] = -1
    mask = disc(101, 5)
    np.testing.assert_array_equal(grow_into_dark(mask, contrast, reach_px=30), mask)


@given(IMAGES)
def test_growing_keeps_what_there_was(contrast):
    mask = contrast > 50
    assert grow_into_dark(mask, contrast, reach_px=3)[mask].all()

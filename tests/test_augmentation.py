"""Augmentation changes how a tile looks, never what its label says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from artifact_mask.kernels.augmentation import augment_tile, overlay, relight, turn

SEEDS = st.integers(0, 2**32 - 1)


def tile(seed=0, side=12):
    return np.random.default_rng(seed).normal(0, 0.3, (side, side)).astype(np.float32)


def orientations(image):
    return [flipped for k in range(4) for turned in [np.rot90(image, k)] for flipped in (turned, turned[:, ::-1])]


@given(SEEDS)
def test_turning_gives_one_of_eight_orientations(seed):
    turned = turn(tile(), np.random.default_rng(seed))
    assert any(np.array_equal(turned, one) for one in orientations(tile()))


def test_every_orientation_comes_up():
    rng = np.random.default_rng(0)
    assert len({turn(tile(), rng).tobytes() for _ in range(200)}) == 8


@given(SEEDS)
def test_relighting_keeps_an_object_darker_than_its_surroundings(seed):
    image = np.zeros((16, 16), np.float32)
    image[4:8, 4:8] = -2
    lit = relight(image, np.random.default_rng(seed))
    assert lit.dtype == np.float32
    assert lit[4:8, 4:8].mean() < lit[10:].mean() - 0.5


def test_transmissions_multiply():
    one, other = tile(1), tile(2)
    expected = ((1 + 0.2 * one.astype(float)) * (1 + 0.2 * other) - 1) / 0.2
    np.testing.assert_allclose(overlay(one, other), expected, atol=1e-5)


def test_nothing_over_a_tile_leaves_it_and_the_order_does_not_matter():
    np.testing.assert_array_equal(overlay(tile(), np.zeros_like(tile())), tile())
    np.testing.assert_allclose(overlay(tile(1), tile(2)), overlay(tile(2), tile(1)), atol=1e-6)


def test_black_stays_black_under_anything():
    np.testing.assert_allclose(overlay(np.full((12, 12), -5, np.float32), tile()), -5, atol=1e-5)


@given(SEEDS)
def test_the_generator_alone_decides_and_inputs_stay_as_they_are(seed):
    image, clean = tile(1), tile(2)
    first, second = (augment_tile(image, np.random.default_rng(seed), clean=clean) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, tile(1))
    np.testing.assert_array_equal(clean, tile(2))
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((12, 12), np.float32, True)


def test_an_overlay_adds_objects_and_takes_none_away():
    image, clean = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    image[2:4, 2:4], clean[10:14, 10:14] = -4, -1
    for seed in range(20):
        laid = augment_tile(image, np.random.default_rng(seed), clean=clean)
        assert laid.min() < -2
        assert np.sum(laid < laid.max() - 0.3) >= 16


def test_half_precision_tiles_become_single():
    lit = relight(tile().astype(np.float16), np.random.default_rng(0))
    assert lit.dtype == np.float32

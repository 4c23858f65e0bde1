"""Optical densities: counted in steps, cut by a threshold, and thresholds chosen from the counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.filters import threshold_otsu, threshold_triangle

from artifact_mask.kernels.field_measurements import measure_plane
from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.kernels.staining import (
    DensityHistogram,
    choose_threshold,
    density_steps,
    optical_density,
    step_of,
)
from artifact_mask.metadata import OD_STEP

DENSITIES = arrays(np.float32, st.integers(1, 200), elements=st.floats(-0.875, 2.875, width=32, allow_subnormal=False))
THRESHOLDS = st.integers(1, 400).map(lambda step: round(step * OD_STEP, 3))


def test_density_is_the_logarithm_of_the_light_that_is_lost():
    image = np.array([[1000, 100, 10, 2000]], np.uint16)
    found = optical_density(image, np.full((1, 4), 1000, np.float32))
    np.testing.assert_allclose(found, [[0, 1, 2, -math.log10(2)]], atol=1e-6)


def test_black_field_is_not_stained():
    black = np.zeros((60, 60), np.uint16)
    counts = measure_plane(black, estimate_background(black), np.zeros((60, 60), np.int32))
    assert counts.outside.above(OD_STEP) == (0, 0)


def test_multiples_of_a_step_reach_it():
    steps = np.arange(-200, 600)
    assert density_steps(steps * OD_STEP).tolist() == steps.tolist()
    assert [step_of(step * OD_STEP) for step in steps] == steps.tolist()


@given(density=DENSITIES, threshold=THRESHOLDS)
def test_what_reaches_a_threshold_is_what_the_pixels_say(density, threshold):
    n, total = DensityHistogram.of(density).above(threshold)
    reaching = density_steps(density) >= step_of(threshold)
    assert n == np.count_nonzero(reaching)
    assert total == pytest.approx(density[reaching].astype(float).sum(), abs=0.51 * OD_STEP * max(n, 1))


@given(density=DENSITIES)
def test_packing_loses_nothing(density):
    histogram = DensityHistogram.of(density)
    packed = histogram.pack()
    np.testing.assert_array_equal(DensityHistogram.unpack(packed).counts, histogram.counts)
    assert histogram.n == density.size
    assert len(packed) <= 2 + (density_steps(density).max() - density_steps(density).min())


def test_nothing_packs_to_nothing():
    empty = DensityHistogram.of(np.array([np.nan]))
    assert empty.pack() == []
    assert DensityHistogram.unpack([]).n == 0
    assert math.isnan(empty.percentile(95))
    assert math.isnan(choose_threshold(empty, "otsu"))


@given(parts=st.lists(DENSITIES, min_size=1, max_size=4), seed=st.randoms())
def test_sums_do_not_depend_on_the_order(parts, seed):
    shuffled = list(parts)
    seed.shuffle(shuffled)
    total = DensityHistogram.total(map(DensityHistogram.of, shuffled))
    np.testing.assert_array_equal(total.counts, DensityHistogram.of(np.concatenate(parts)).counts)


@given(density=DENSITIES, percent=st.floats(1, 99))
def test_at_most_the_rest_reaches_a_percentile(density, percent):
    histogram = DensityHistogram.of(density)
    threshold = histogram.percentile(percent)
    share = (100 - percent) / 100
    assert histogram.above(threshold)[0] <= histogram.n * share or threshold > 2.9
    if threshold > -1:
        assert np.count_nonzero(density_steps(density) >= step_of(threshold) - 1) > histogram.n * share


def test_otsu_and_triangle_are_those_of_scikit_image():
    rng = np.random.default_rng(4)
    density = np.concatenate([rng.normal(0, 0.02, 9000), rng.normal(0.2, 0.05, 1000)])
    steps = density_steps(density)
    histogram = DensityHistogram.of(density)
    # scikit-image's threshold is the last value of the lower class; ours the first of the upper.
    assert step_of(choose_threshold(histogram, "otsu")) == threshold_otsu(steps) + 1
    expected = threshold_triangle(steps.astype(float), nbins=int(np.ptp(steps)) + 1)
    assert choose_threshold(histogram, "triangle") == pytest.approx((expected + 1) * OD_STEP, abs=2 * OD_STEP)


def test_thresholds_are_at_least_one_step():
    bright = DensityHistogram.of(np.array([-0.5, -0.4, -0.4, -0.1]))
    assert choose_threshold(bright, "otsu") == OD_STEP
    assert math.isnan(choose_threshold(DensityHistogram.of(np.zeros(9)), "triangle"))


def test_a_plane_is_counted_inside_and_outside_of_its_artifacts():
    image = np.array([[1000, 100, 100, 0, 65535]], np.uint16)
    counts = measure_plane(image, np.full((1, 5), 1000, np.float32), np.array([[0, 0, 1, 2, 2]], np.int32))
    assert counts.outside.above(0.5) == (1, 1.0025)
    assert counts.inside.above(0.5) == (2, pytest.approx(1.0025 + 2.9975))
    assert (counts.outside.n, counts.inside.n) == (2, 3)
    assert counts.artifact_px.tolist() == [1, 2]
    assert counts.clipped_fraction == 0.4
    assert counts.background == 1000

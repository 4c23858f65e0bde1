"""Small kernels, by value."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from artifact_mask.kernels.flat_field import Polynomial, correct_flat_field, evaluate_polynomial
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_objects, object_areas
from artifact_mask.kernels.masking import fill_with_median
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean, downsample_nearest, pyramid_shapes

IMAGES = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 65535))
MAPS = arrays(np.float32, (9, 11), elements=st.sampled_from([0.0, 0.4, 0.6, 1.0]))
MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(image=IMAGES)
def test_fill_is_the_median_of_the_whole_image_rounded_down(image):
    mask = np.zeros(image.shape, bool)
    mask.flat[0] = True
    before = image.copy()
    masked = fill_with_median(image, mask)
    assert masked.flat[0] == int(np.median(image))
    np.testing.assert_array_equal(masked.ravel()[1:], image.ravel()[1:])
    np.testing.assert_array_equal(image, before)


def test_image_without_a_mask_is_copied_as_it_is():
    image = np.arange(6, dtype=np.uint16).reshape(2, 3)
    masked = fill_with_median(image, np.zeros((2, 3), bool))
    np.testing.assert_array_equal(masked, image)
    assert not np.shares_memory(masked, image)


@given(probability=MAPS, min_object_px=st.integers(1, 8))
def test_objects_are_those_of_filling_then_labelling_then_dropping(probability, min_object_px):
    labels = label_objects(probability, threshold=0.5, min_object_px=min_object_px, max_hole_px=10**6)
    filled = ndimage.binary_fill_holes(probability >= 0.5)
    expected, _ = ndimage.label(filled, np.ones((3, 3)))
    areas = np.bincount(expected.ravel())
    large = areas >= min_object_px
    large[0] = False
    np.testing.assert_array_equal(labels > 0, large[expected])
    pairs = set(zip(labels.ravel(), np.where(large[expected], expected, 0).ravel(), strict=True)) - {(0, 0)}
    assert len(pairs) == labels.max()
    assert np.all(object_areas(labels) >= min_object_px)


@given(mask=MASKS)
def test_objects_are_numbered_as_scipy_does(mask):
    expected, _ = ndimage.label(mask, np.ones((3, 3)))
    probability = mask.astype(np.float32)
    np.testing.assert_array_equal(label_objects(probability, threshold=0.5, min_object_px=1, max_hole_px=0), expected)


def test_large_hole_stays_open():
    ring = np.ones((12, 12), np.float32)
    ring[1:11, 1:11] = 0
    assert np.count_nonzero(label_objects(ring, threshold=0.5, min_object_px=1, max_hole_px=99)) == 44
    assert np.count_nonzero(label_objects(ring, threshold=0.5, min_object_px=1, max_hole_px=100)) == 144


def test_object_in_a_filled_hole_becomes_part_of_what_surrounds_it():
    probability = np.ones((9, 9), np.float32)
    probability[1:8, 1:8] = 0
    probability[4, 4] = 1
    assert label_objects(probability, threshold=0.5, min_object_px=1).tolist() == np.ones((9, 9), int).tolist()


def test_field_without_objects_has_no_label():
    labels = label_objects(np.zeros((5, 7), np.float32), threshold=0.5, min_object_px=1)
    assert labels.dtype == np.int32
    assert not labels.any()
    assert object_areas(labels).size == 0


@pytest.mark.parametrize("shape", [(64, 64), (100, 333), (1080, 1080), (7, 5)])
def test_background_of_a_flat_field_is_its_value(shape):
    background = estimate_background(np.full(shape, 25000, np.uint16))
    assert background.shape == shape
    assert background.dtype == np.float32
    np.testing.assert_allclose(background, 25000, rtol=1e-5)


@pytest.mark.parametrize("shape", [(120, 120), (1000, 340), (31, 2000), (1, 1)])
def test_background_is_a_smooth_wide_median_of_block_means(shape):
    field = np.random.default_rng(0).integers(9000, 12000, shape).astype(np.uint16)
    means = field.astype(float)
    for axis, n in enumerate(shape):
        edges = np.linspace(0, n, max(1, round(n / 30)) + 1).round().astype(int)
        means = np.stack([means.take(range(*edge), axis).mean(axis) for edge in pairwise(edges)], axis)
    sizes = [max(1, round(0.5 * n) // 2 * 2 + 1) for n in means.shape]
    coarse = ndimage.median_filter(means, sizes)
    coarse = ndimage.gaussian_filter(coarse, [n / 8 for n in sizes])
    zoom = [[(i + 0.5) * n / size - 0.5 for i in range(size)] for n, size in zip(coarse.shape, shape, strict=True)]
    expected = ndimage.map_coordinates(coarse, np.meshgrid(*zoom, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(estimate_background(field), expected, rtol=1e-5)


def test_background_follows_shading_and_ignores_objects():
    y, x = np.mgrid[:1080, :1080] / 1080
    shading = 1 + 0.1 * (x - 0.5) - 0.05 * y**2
    field = 30000 * shading
    rng = np.random.default_rng(0)
    for row, column in rng.integers(0, 1000, (15, 2)):
        field[row : row + 60, column : column + 60] *= 0.3
    background = estimate_background(field.astype(np.uint16))
    residual = background / (30000 * shading)
    assert residual.std() < 0.3 * shading.std()
    assert abs(residual.mean() - 1) < 0.02


def test_wide_black_edge_is_not_its_own_background():
    field = np.full((1080, 1080), 30000, np.uint16)
    field[:, :450] = 2000
    contrast = normalise_by_background(field, estimate_background(field))
    assert contrast[:, :400].max() < -3
    assert abs(contrast[:, 700:]).max() < 0.5


def test_contrast_does_not_depend_on_brightness():
    rng = np.random.default_rng(0)
    field = rng.integers(15000, 20000, (120, 120)).astype(np.uint16)
    dim = normalise_by_background(field, estimate_background(field))
    bright = normalise_by_background(field * np.uint16(2), estimate_background(field * np.uint16(2)))
    np.testing.assert_allclose(dim, bright, atol=1e-3)


def test_black_field_gives_finite_contrast():
    black = np.zeros((60, 60), np.uint16)
    assert np.isfinite(normalise_by_background(black, estimate_background(black))).all()


def test_pyramid_shapes_are_those_of_the_levels():
    image = np.zeros((1079, 301), np.uint16)
    shapes = pyramid_shapes((1079, 301))
    assert [level.shape for level in build_pyramid(image, len(shapes), downsample_mean)] == shapes
    labels = np.zeros((1079, 301), np.int32)
    assert [level.shape for level in build_pyramid(labels, len(shapes), downsample_nearest)] == shapes


@given(image=IMAGES)
def test_mean_of_a_level_lies_within_its_pixels(image):
    smaller = downsample_mean(image)
    assert image.min() <= smaller.min() <= smaller.max() <= image.max()


def test_full_scale_does_not_overflow():
    assert downsample_mean(np.full((4, 4), 65535, np.uint16)).tolist() == [[65535, 65535], [65535, 65535]]


def test_a_polynomial_is_the_sum_of_its_terms():
    rng = np.random.default_rng(0)
    coefficients = tuple(tuple(rng.normal(size=n + 1)) for n in range(5))
    polynomial = Polynomial(coefficients, origin=(6.5, 4.0), scale=(0.07, 0.1), shape=(9, 14))
    row, column = np.mgrid[:9, :14]
    u, v = (column - 6.5) * 0.07, (row - 4.0) * 0.1
    expected = sum(c * u ** (n - j) * v**j for n, of_degree in enumerate(coefficients) for j, c in enumerate(of_degree))
    values = evaluate_polynomial(polynomial, (9, 14))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_flat_field_of_another_binning_covers_the_image():
    polynomial = Polynomial(((1.0,), (0.2, -0.3), (-0.5, 0.1, -0.4)), (19.5, 11.5), (0.025, 0.04), shape=(24, 40))
    full, half = evaluate_polynomial(polynomial, (24, 40)), evaluate_polynomial(polynomial, (12, 20))
    np.testing.assert_allclose(half, downsample_mean_of_floats(full), atol=1e-3)
    np.testing.assert_allclose(evaluate_polynomial(polynomial, (48, 80))[::2, ::2].mean(), full.mean(), atol=2e-2)


def downsample_mean_of_floats(image):
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))


@given(image=IMAGES, level=st.floats(0.125, 4, width=32))
def test_a_corrected_image_is_the_rounded_quotient(image, level):
    before, profile = image.copy(), np.full(image.shape, level, np.float32)
    corrected = correct_flat_field(image, profile)
    assert corrected.dtype == np.uint16
    exact = np.minimum(image / np.float64(level), 65535)
    assert np.abs(corrected - exact).max() <= 0.5 + 2**-7
    np.testing.assert_array_equal(image, before)


def test_a_flat_field_of_one_changes_nothing():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(correct_flat_field(image, np.ones((256, 256), np.float32)), image)


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, 1e-30, 0.05, -np.inf, np.nan])
def test_a_flat_field_that_cannot_be_is_taken_as_a_tenth(value):
    profile = np.ones((130, 2), np.float32)
    profile[100, 1] = value
    corrected = correct_flat_field(np.full((130, 2), 100, np.uint16), profile)
    assert corrected[100, 1] == 1000
    assert np.delete(corrected.ravel(), 201).tolist() == [100] * 259


def test_a_flat_field_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="must be the same"):
        correct_flat_field(np.zeros((2, 3), np.uint16), np.ones((3, 2), np.float32))

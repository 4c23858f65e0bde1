"""The shading that fields have in common, against shadings that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact_mask.kernels.retrospective import (
    FOREGROUND_QUANTILE,
    GRID,
    Estimate,
    estimate_shading,
    fit_shading,
    reduce_to_blocks,
    spread_evenly,
    variation,
)
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.scene_optics import draw_illumination, fluorescence_shading

SHAPE = (360, 360)
SHADING = draw_illumination(SHAPE, np.random.default_rng(3), strength=0.2)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(SHAPE, seed=(8, i), dose=i / 11, n_channels=2, illumination=SHADING) for i in range(12)]


def _residual(truth, flat):
    return (truth / flat).std() / (truth / flat).mean()


def _smooth_fields(n, seed=0, noise=0.003):
    rng = np.random.default_rng(seed)
    shading = draw_illumination((GRID, GRID), rng, strength=0.2)
    levels = rng.uniform(500, 2000, n)[:, None, None]
    return shading, (levels * shading * rng.normal(1, noise, (n, GRID, GRID))).astype(np.float32)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_brightfield_with_cells_and_debris_is_left_with_less_than_a_fifth(scenes, n):
    blocks = np.stack([reduce_to_blocks(scene.image[0]) for scene in scenes[:n]])
    found = estimate_shading(blocks)
    assert found.degree > 0
    assert _residual(SHADING, found.shading.evaluate(SHAPE)) <= SHADING.std() / 5
    assert np.median(found.after) < np.median(found.before) / 5


def test_fluorescence_is_judged_by_what_is_between_the_cells(scenes):
    truth = fluorescence_shading(SHAPE)
    blocks = np.stack([reduce_to_blocks(scene.image[1], quantile=FOREGROUND_QUANTILE) for scene in scenes])
    found = estimate_shading(blocks).shading.evaluate(SHAPE)
    assert _residual(truth, found) <= truth.std() / 5


def test_well_edges_do_not_count():
    shading, fields = _smooth_fields(10)
    fields[:3, :, 20:] *= 0.05
    found = estimate_shading(fields).shading.evaluate((GRID, GRID))
    assert _residual(shading, found) <= shading.std() / 5


def test_blocks_of_which_nothing_is_known_are_left_out():
    shading, fields = _smooth_fields(8)
    fields[:, 5:9, 5:9] = 0
    fields[0] = 0
    found = fit_shading(fields, 6).evaluate((GRID, GRID))
    assert np.isfinite(found).all()
    assert _residual(shading, found) <= shading.std() / 5


def test_fields_without_a_common_shading_get_none():
    rng = np.random.default_rng(5)
    fields = np.stack([1000 * draw_illumination((GRID, GRID), rng, strength=0.1) for _ in range(12)])
    found = estimate_shading(fields * rng.normal(1, 0.002, fields.shape).astype(np.float32))
    assert np.median(found.after) >= 0.7 * np.median(found.before)
    flat = estimate_shading(np.full((5, GRID, GRID), 700, np.float32) * rng.normal(1, 0.01, (5, GRID, GRID)))
    assert flat.degree == 0
    np.testing.assert_array_equal(flat.shading.evaluate((4, 5)), np.ones((4, 5)))


def test_a_surface_is_sure_if_held_out_fields_agree_on_it():
    _, fields = _smooth_fields(3)
    assert estimate_shading(fields).is_sure
    assert estimate_shading(np.full((3, GRID, GRID), 700, np.float32)).is_sure
    before = np.array([0.05, 0.05, 0.05, 0.05])
    by_chance = Estimate(fit_shading(fields, 2), 2, before, before * [0.5, 1.2, 0.8, 1.1])
    assert not by_chance.is_sure


@settings(max_examples=10)
@given(order=st.permutations(range(7)), factor=st.floats(0.01, 100))
def test_neither_order_nor_brightness_matters(order, factor):
    _, fields = _smooth_fields(7)
    first = fit_shading(fields, 4).evaluate(SHAPE)
    second = fit_shading(fields[list(order)] * np.float32(factor), 4).evaluate(SHAPE)
    np.testing.assert_allclose(second, first, rtol=1e-3)


def test_a_surface_has_mean_one_at_any_size():
    _, fields = _smooth_fields(5)
    shading = fit_shading(fields, 4)
    for shape in ((1, 1), (7, 300), (64, 64)):
        assert shading.evaluate(shape).mean() == pytest.approx(1, abs=1e-5)
    fine, coarse = shading.evaluate((400, 400)), shading.evaluate((40, 40))
    np.testing.assert_allclose(fine.reshape(40, 10, 40, 10).mean(axis=(1, 3)), coarse, rtol=5e-3)


def test_too_few_fields_are_refused():
    with pytest.raises(ValueError, match="2 fields, expected at least 3"):
        estimate_shading(np.ones((2, 4, 4), np.float32))


def test_blocks_are_quantiles_of_images_of_any_size():
    image = np.arange(35 * 50, dtype=np.uint16).reshape(35, 50)
    assert reduce_to_blocks(image).shape == (35, GRID)
    whole = reduce_to_blocks(image, grid=1, quantile=0.25)
    assert whole.tolist() == [[np.quantile(image, 0.25)]]
    assert variation(np.array([])) == 0


def test_fields_are_chosen_alike_each_time_and_without_a_pattern():
    chosen = spread_evenly(3456, 96)
    assert chosen == spread_evenly(3456, 96)
    assert len({index % 9 for index in chosen}) == 9
    assert spread_evenly(4, 96) == [0, 1, 2, 3]

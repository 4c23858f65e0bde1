"""Crops show what they should, turned alike in all layers; what is drawn in has a truth that fits."""

import numpy as np
import pytest
from scipy import ndimage

from artifact_mask.kernels.augmentation import defocus, shade
from artifact_mask.kernels.composition import compose, cut_out_debris
from artifact_mask.kernels.crops import choose_place, cut_crop, learn_false_alarms, prepare_field
from artifact_mask.kernels.truth import ARTIFACT, IGNORE, TruthField


def field_with_square(shape=(300, 260), *, size=12, at=(100, 90), depth=-3.0):
    contrast = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    truth = np.zeros(shape, np.uint8)
    window = tuple(slice(start, start + size) for start in at)
    contrast[window] = depth
    truth[window] = ARTIFACT
    truth[200:220, 200:220] = IGNORE
    return TruthField(contrast, truth)


def test_a_prepared_field_gives_its_truth_back():
    field = field_with_square()
    np.testing.assert_array_equal(prepare_field(field).truth_field.truth, field.truth)


def test_small_objects_weigh_more_and_what_is_left_out_nothing():
    prepared = prepare_field(field_with_square())
    assert prepared.weight[105, 95] == pytest.approx(300 / 144, abs=0.01)
    assert prepared.weight[210, 210] == 0
    assert prepared.weight[0, 0] == 1
    np.testing.assert_allclose(prepared.objects, [[106, 96]], atol=6)


def test_dark_background_is_a_hard_place():
    field = field_with_square()
    field.contrast[20:60, 150:190] = -1.5
    hard = prepare_field(field).hard
    assert ((hard >= [10, 140]) & (hard <= [70, 200])).all()


@pytest.mark.parametrize(("kind", "expected"), [(0.2, 1.0), (0.95, None)])
def test_crops_of_objects_show_them(kind, expected):
    prepared, rng = prepare_field(field_with_square()), np.random.default_rng(1)
    crops = [cut_crop(prepared, choose_place(prepared, kind, 96, rng), 96, rng) for _ in range(60)]
    shown = np.mean([crop.target.any() for crop in crops])
    assert shown == expected if expected else shown < 0.6


def test_layers_are_turned_alike():
    prepared, rng = prepare_field(field_with_square()), np.random.default_rng(2)
    for _ in range(40):
        crop = cut_crop(prepared, (106, 96), 128, rng)
        assert crop.contrast.shape == crop.target.shape == crop.weight.shape == (128, 128)
        inside = ndimage.binary_erosion(crop.target > 0)
        outside = ~ndimage.binary_dilation(crop.target > 0, iterations=2)
        assert inside.any()
        assert crop.contrast[inside].max() < -2
        assert crop.contrast[outside].min() > -1


def test_a_field_smaller_than_the_crop_is_mirrored():
    prepared, rng = prepare_field(field_with_square((70, 300), at=(20, 90))), np.random.default_rng(3)
    crops = [cut_crop(prepared, (35, 100), 128, rng) for _ in range(10)]
    assert all(crop.contrast.shape == (128, 128) and np.isfinite(crop.contrast).all() for crop in crops)


def test_false_alarms_become_hard_places():
    prepared = prepare_field(field_with_square())
    probability = np.zeros((300, 260), np.float32)
    assert learn_false_alarms(prepared, probability) is prepared
    probability[250:260, 30:40] = 0.9
    probability[100:112, 90:102] = 0.9  # right: no false alarm
    probability[205:215, 205:215] = 0.9  # left out: nobody knows
    hard = learn_false_alarms(prepared, probability).hard[len(prepared.hard) :]
    assert len(hard)
    assert ((hard >= [250, 30]) & (hard < [260, 40])).all()


def test_cutouts_hold_the_debris_but_no_shadow():
    field = field_with_square()
    faint = field_with_square(depth=-0.2)
    (cutout,) = cut_out_debris(field)
    assert cutout.outline.sum() == 144
    assert cutout.loss[cutout.outline] == pytest.approx(0.6)
    assert cut_out_debris(faint) == []


def test_what_is_drawn_in_is_darker_than_before():
    rng = np.random.default_rng(4)
    field = field_with_square()
    field.truth[200:220, 200:220] = 0
    before, new_darkness = field.contrast.copy(), []
    for _ in range(12):
        composed = compose(field, cut_out_debris(field), rng)
        new = (composed.truth == ARTIFACT) & (field.truth != ARTIFACT)
        if new.any():
            new_darkness.append((composed.contrast - before)[new].mean())
        assert set(np.unique(composed.truth)) <= {0, ARTIFACT, IGNORE}
        assert composed.contrast.dtype == np.float32
        assert np.isfinite(composed.contrast).all()
    np.testing.assert_array_equal(field.contrast, before)
    assert len(new_darkness) > 6
    assert np.mean(new_darkness) < -0.3


def test_the_same_seed_draws_the_same():
    field = field_with_square()
    first, second = (compose(field, cut_out_debris(field), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.contrast, second.contrast)
    np.testing.assert_array_equal(first.truth, second.truth)


def test_shading_is_smooth_and_defocus_blurs():
    rng = np.random.default_rng(6)
    flat = np.zeros((64, 80), np.float32)
    shaded = shade(flat, rng)
    assert 0 < np.abs(np.diff(shaded, axis=0)).max() < 0.05
    noise = rng.normal(size=(64, 64)).astype(np.float32)
    spread = {round(float(defocus(noise, rng).std()), 3) for _ in range(30)}
    assert max(spread) == pytest.approx(noise.std(), abs=0.001)
    assert min(spread) < 0.8

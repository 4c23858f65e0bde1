"""Synthetic fields: the image and the truth about it belong together."""

import numpy as np
import pytest
from scipy import ndimage

from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.scene_optics import FLUORESCENCE_SHADING, fluorescence_shading, image_thin_object

SHAPE = (160, 192)


def test_same_seed_draws_the_same_scene():
    first, second = (draw_scene(SHAPE, seed=(3, 1, 4), dose=0.5, n_channels=3) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.artifacts, second.artifacts)
    np.testing.assert_array_equal(first.stain, second.stain)
    np.testing.assert_array_equal(first.illumination, second.illumination)


def test_different_seeds_draw_different_scenes():
    first, second = (draw_scene(SHAPE, seed=seed, dose=0.5) for seed in ((3, 1), (3, 2)))
    assert not np.array_equal(first.image, second.image)
    assert abs(np.corrcoef(first.image.ravel(), second.image.ravel())[0, 1]) < 0.5


def test_seed_sequence_is_not_changed():
    seed = [1, 2, 3]
    draw_scene((64, 64), seed=seed, dose=0.5)
    assert seed == [1, 2, 3]


def test_dose_raises_the_stained_area_and_changes_nothing_else():
    scenes = [draw_scene((256, 256), seed=8, dose=dose) for dose in (0.0, 0.25, 0.5, 1.0)]
    areas = [scene.stain.sum() for scene in scenes]
    assert areas == sorted(areas)
    assert areas[0] < 0.3 * areas[-1]
    for scene in scenes[1:]:
        np.testing.assert_array_equal(scene.artifacts, scenes[0].artifacts)
        np.testing.assert_array_equal(scene.illumination, scenes[0].illumination)


def test_stain_is_darker_than_its_surroundings():
    scene = draw_scene((256, 256), seed=8, dose=1.0, artifact_density=0)
    flat = scene.image[0] / scene.illumination
    assert np.median(flat[scene.stain]) < 0.93 * np.median(flat[~scene.stain])


@pytest.mark.parametrize("shape", [(64, 64), (65, 301), (256, 100), (16, 16), (2160, 64)])
def test_any_shape_has_truth_of_that_shape(shape):
    scene = draw_scene(shape, seed=0, dose=0.5, n_channels=2)
    assert scene.image.shape == (2, *shape)
    assert scene.image.dtype == np.uint16
    assert (scene.artifacts.shape, scene.artifacts.dtype) == (shape, np.uint8)
    assert (scene.stain.shape, scene.stain.dtype) == (shape, np.bool_)
    assert (scene.illumination.shape, scene.illumination.dtype) == (shape, np.float32)


def test_crystal_mask_covers_dark_objects_with_a_margin():
    dark = margin = total = 0
    for seed in range(5):
        scene = draw_scene((320, 320), seed=seed, dose=0.0, artifact_density=12)
        crystal = scene.artifacts == 1
        flat = scene.image[0] / np.median(scene.image[0])
        labels, n = ndimage.label(np.pad(crystal, 1))
        lows = ndimage.minimum(np.pad(flat, 1, constant_values=1), labels, range(1, n + 1))
        total += n
        dark += np.count_nonzero(np.asarray(lows) < 0.75)
        # What is black lies inside, at some distance from the outline.
        black = (flat < 0.5) & ndimage.binary_erosion(np.ones_like(crystal), iterations=4) & (scene.artifacts < 2)
        margin += np.count_nonzero(black & ~crystal)
    assert total > 20
    assert dark > 0.85 * total
    assert margin < 60


def test_no_density_draws_no_artifact():
    assert not any(draw_scene((128, 128), seed=s, dose=0.5, artifact_density=0).artifacts.any() for s in range(5))


def test_all_classes_of_artifact_occur():
    seen = np.unique([draw_scene((200, 200), seed=s, dose=0, artifact_density=20).artifacts for s in range(12)])
    assert seen.tolist() == [0, 1, 2, 3]


def test_illumination_has_mean_one():
    for seed in range(5):
        illumination = draw_scene(SHAPE, seed=seed, dose=0.5).illumination
        assert illumination.mean(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        assert 0 < np.ptp(illumination) < 0.3


def test_background_follows_the_illumination():
    scene = draw_scene((256, 256), seed=12, dose=0.0, artifact_density=0)
    flat = scene.image[0] / scene.illumination
    quarters = [np.median(q) for half in np.array_split(flat, 2) for q in np.array_split(half, 2, axis=1)]
    assert np.ptp(quarters) < 0.02 * np.mean(quarters)


def test_median_brightness_varies_between_the_real_limits():
    medians = [np.median(draw_scene((96, 96), seed=s, dose=0.2, artifact_density=0).image[0]) for s in range(8)]
    assert 17_000 < min(medians) < max(medians) < 45_000
    assert max(medians) > 1.2 * min(medians)


def test_nuclei_channel_is_bright_on_a_dim_background():
    nuclei = draw_scene((400, 400), seed=4, dose=0.2, n_channels=2).image[1]
    assert nuclei.max() > 3 * np.median(nuclei)


def test_fluorescence_shading_has_mean_one():
    assert fluorescence_shading((108, 120)).mean() == pytest.approx(1, abs=1e-3)
    assert len(FLUORESCENCE_SHADING[-1]) == len(FLUORESCENCE_SHADING)


def test_imaging_leaves_its_inputs_alone():
    phase, absorbance = np.full((32, 32), 0.2, np.float32), np.full((32, 32), 0.1, np.float32)
    before = phase.copy(), absorbance.copy()
    seen = image_thin_object(phase, absorbance, pixel_size_um=0.3, defocus_um=2, tilt=(0, 0.1))
    np.testing.assert_array_equal(phase, before[0])
    np.testing.assert_array_equal(absorbance, before[1])
    np.testing.assert_allclose(seen, np.exp(-0.2), rtol=1e-4)


def test_coarser_pixels_show_more_of_the_plate():
    fine, coarse = (draw_scene((256, 256), seed=2, dose=1, pixel_size_um=um) for um in (0.2, 0.8))
    sizes = [np.bincount(ndimage.label(s.stain)[0].ravel())[1:].mean() for s in (fine, coarse)]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (8, 64)},
        {"dose": 1.5},
        {"n_channels": 0},
        {"pixel_size_um": 0.0},
        {"artifact_density": -1.0},
    ],
)
def test_arguments_out_of_range_are_refused_by_name(wrong):
    arguments = {"shape": (64, 64), "dose": 0.5} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        draw_scene(arguments.pop("shape"), seed=0, **arguments)

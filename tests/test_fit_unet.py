"""U-Nets of all presets are what they should be, learn, go on after an interruption, and can start from weights."""

import numpy as np
import pytest
import torch
import torchvision

from artifact_mask.errors import ModelError
from artifact_mask.kernels.composition import cut_out_debris
from artifact_mask.kernels.crops import prepare_field
from artifact_mask.kernels.truth import TruthField
from artifact_mask.nn.fit_unet import CropSamples, Recipe, fit_unet
from artifact_mask.nn.model_card import PRESETS, UNetCard, UNetSpec
from artifact_mask.nn.predict import Segmenter
from artifact_mask.nn.start_weights import start_unet
from artifact_mask.nn.unet import build_unet
from artifact_mask.nn.unet_training import CropBatches, segmentation_loss

SMALL = UNetSpec(encoder=(4, 8, 8, 8, 8), decoder=(8, 8, 8, 8))
QUICK = Recipe(max_epochs=2, batch_size=4, learning_rate=1e-2, precision="float32", devices=1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_field(seed, *, n=4, size=128):
    """Draw noise with dark squares, which are artifacts."""
    rng = np.random.default_rng(seed)
    contrast, truth = rng.normal(0, 0.1, (size, size)).astype(np.float32), np.zeros((size, size), np.uint8)
    for y, x in rng.integers(0, size - 12, (n, 2)):
        contrast[y : y + 12, x : x + 12] = -3
        truth[y : y + 12, x : x + 12] = 1
    return TruthField(contrast, truth)


def samples(n=4, **given):
    fields = [draw_field(seed) for seed in range(n)]
    cutouts = [cutout for field in fields for cutout in cut_out_debris(field)]
    return CropSamples([prepare_field(field) for field in fields], **{"crop_px": 64, "cutouts": cutouts} | given)


def held_out(n=2):
    return [prepare_field(draw_field(100 + seed, size=120)) for seed in range(n)]


def card_of(spec):
    return UNetCard(
        name="test", version="1", architecture=spec, pixel_size_um=0.3, threshold=0.5, min_object_px=1, licence="0BSD"
    )


def weights_after(recipe, folder=None, watched=()):
    network, _ = start_unet(SMALL, "scratch", "scratch", 0)
    course = fit_unet(network, SMALL, samples(), watched, recipe, folder=folder)
    return course, torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def test_the_published_network_has_the_weights_of_the_publication():
    assert sum(p.numel() for p in build_unet(PRESETS["published"].architecture).parameters()) == 501_345


@pytest.mark.parametrize("name", PRESETS)
def test_no_pixel_beyond_the_stated_radius_counts(name):
    spec = PRESETS[name].architecture
    torch.manual_seed(0)
    network, radius = build_unet(spec).eval(), spec.receptive_radius_px
    side = -(-(2 * radius + 2) // spec.stride_px) * spec.stride_px
    fields = torch.zeros(2, 1, side, spec.stride_px)
    fields[1, 0, side // 2] = 3.0
    with torch.inference_mode():
        logit = network(fields)
    assert logit.shape == fields.shape
    rows = torch.nonzero((logit[1] != logit[0]).any(dim=2)[0]).ravel()
    reach = max(side // 2 - int(rows.min()), int(rows.max()) - side // 2)
    assert 0.4 * radius < reach <= radius


def test_dark_squares_are_learnt():
    recipe = Recipe(max_epochs=8, batch_size=4, learning_rate=1e-2, precision="float32", devices=1)
    network, _ = start_unet(SMALL, "scratch", "scratch", 0)
    course = fit_unet(network, SMALL, samples(drawn_share=0.0), held_out(), recipe)
    assert course.epochs[-1]["loss"] < course.epochs[0]["loss"]
    assert course.epochs[course.best_epoch - 1]["f1_held_out"] > 0.8
    field = draw_field(7)
    said = Segmenter.of(network, card_of(SMALL), "cpu").predict(field.contrast[None])[0] > 0.5
    overlap = (said & (field.truth == 1)).sum() / (said | (field.truth == 1)).sum()
    assert overlap > 0.7


def test_interrupted_and_resumed_is_as_good_as_at_one_go(tmp_path):
    whole, expected = weights_after(Recipe(**vars(QUICK) | {"max_epochs": 3}), watched=held_out())
    weights_after(QUICK, tmp_path, held_out())
    (tmp_path / "finished").unlink()
    resumed, found = weights_after(Recipe(**vars(QUICK) | {"max_epochs": 3}), tmp_path, held_out())
    assert (resumed.n_resumed, len(resumed.epochs), len(whole.epochs)) == (2, 3, 3)
    torch.testing.assert_close(found, expected)


def test_without_held_out_fields_all_epochs_are_taken_and_the_rate_falls():
    course, _ = weights_after(Recipe(**vars(QUICK) | {"max_epochs": 3, "patience": 1}))
    assert (len(course.epochs), course.best_epoch) == (3, 3)
    assert course.epochs[-1]["learning_rate"] < 0.3 * QUICK.learning_rate


def test_batches_do_not_depend_on_how_fast_threads_are():
    class Trainer:
        world_size, global_rank, current_epoch = 1, 0, 3

    from artifact_mask.nn.averaged_training import Hyperparameters

    hyper = Hyperparameters(batch_size=4, learning_rate=1e-3, patience=3, seed=0)
    first, second = (list(CropBatches(samples(), {}, hyper, Trainer())) for _ in range(2))
    assert len(first) == len(second) == 32
    assert all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )
    contrast, target, weight = first[0]
    assert contrast.shape == target.shape == weight.shape == (4, 1, 64, 64)
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    assert np.mean([batch[1].any(dim=(1, 2, 3)).float().mean() for batch in first]) > 0.45


def test_what_has_no_weight_does_not_change_the_loss():
    logit, target, weight = torch.randn(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    target[..., :4], weight[..., 6:] = 1, 0
    changed = logit.clone()
    changed[..., 6:] = 20
    assert segmentation_loss(changed, target, weight) == segmentation_loss(logit, target, weight)
    perfect = torch.where(target > 0, 20.0, -20.0)
    assert segmentation_loss(perfect, target, weight) < 1e-4


def test_an_encoder_takes_over_the_weights_of_a_resnet(tmp_path):
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    network, said = start_unet(PRESETS["resnet18"].architecture, "scratch", str(tmp_path / "resnet18.pth"), 0)
    torch.testing.assert_close(network.body.stages.layer3[0].conv1.weight, resnet.layer3[0].conv1.weight)
    assert "resnet18.pth" in said
    with pytest.raises(ModelError, match="no ResNet encoder"):
        start_unet(SMALL, "scratch", "imagenet", 0)


def test_a_spec_with_a_resnet_fixes_the_size_of_the_blocks():
    with pytest.raises(ValueError, match="unshuffle must be 2"):
        UNetSpec(encoder="resnet18", unshuffle=1)


@pytest.mark.slow
def test_two_processes_train_one_network():
    course, weights = weights_after(Recipe(**vars(QUICK) | {"devices": 2, "batch_size": 2}), watched=held_out())
    assert len(course.epochs) == 2
    assert weights.isfinite().all()

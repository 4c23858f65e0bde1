import contextlib
import io
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from artifact_mask.errors import ImageError, ModelError
from artifact_mask.kernels.map_search import MapSearch, combine, weigh
from artifact_mask.kernels.score_regression import disagreement
from artifact_mask.nn import masked_scores, score_cam
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.device import halve_when_full, native_precision
from artifact_mask.nn.model_card import ClassifierCard, ResNetSpec
from artifact_mask.nn.resnet import ARTIFACT, build_classifier
from artifact_mask.nn.score_cam import ScoreCam, class_activation, mean_of_maps

N_MAPS, SIZE = 128, 64


def place(last_stage="layer2", scale=3.0, **placing):
    """A small classifier that finds dark spots: random filters, and a head fitted to what they give."""
    torch.manual_seed(0)
    spec = ResNetSpec(name="resnet18", last_stage=last_stage)
    network = build_classifier(spec).eval()
    with torch.inference_mode():
        with_spots, without = (network.stages(torch.from_numpy(tiles(8, n_spots=n))[:, None]) for n in (3, 0))
        a, b = with_spots.mean((2, 3)), without.mean((2, 3))
        direction = (a.mean(0) - b.mean(0)) / (a.var(0) + b.var(0) + 1e-3)
        gap = (a.mean(0) - b.mean(0)) @ direction
        weight = direction * scale / gap
        network.fc.weight.copy_(torch.stack([-weight, weight]))
        offset = (a.mean(0) + b.mean(0)) @ weight / 2
        network.fc.bias.copy_(torch.stack([offset, -offset]))
    card = ClassifierCard(name="t", version="1", architecture=spec, pixel_size_um=0.3, tile_px=96, licence="MIT")
    return Classifier.place(network, card, "cpu", **placing)


def tiles(n, n_spots=3, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    made = rng.normal(0, 0.2, (n, size, size)).astype(np.float32)
    rows, columns = np.ogrid[:size, :size]
    for tile in made:
        for row, column, radius in zip(
            *rng.uniform(10, size - 10, (2, n_spots)), rng.uniform(3, 7, n_spots), strict=True
        ):
            tile[np.hypot(rows - row, columns - column) < radius] -= 3
    return made


def overlap(a, b):
    return 1 - disagreement(np.asarray(a)[None], np.asarray(b))


def shut(parameter, value):
    """Classifier that says the same of everything."""
    classifier = place()
    with torch.no_grad():
        classifier.network.fc.weight.zero_()
        getattr(classifier.network.fc, parameter).copy_(torch.tensor(value))
    return classifier


@pytest.fixture(scope="module")
def classifier():
    return place()


def naive(classifier, tile, *, weight="probability", fill=0.0, layer="layer2"):
    """The definition, one mask at a time."""
    network = classifier.network
    with torch.inference_mode():
        passed = torch.from_numpy(tile)[None, None].clamp(-5, 5)
        for name, stage in network.stages.named_children():
            passed = stage(passed)
            if name == layer:
                maps = passed[0].clone()
        seen = []
        for map_ in maps:
            mask = functional.interpolate(map_[None, None], size=tile.shape, mode="bilinear", align_corners=False)[0, 0]
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
            seen.append(torch.from_numpy(tile) * mask + fill * (1 - mask))
        logits = network(torch.stack(seen)[:, None])
        over = 1 if weight == "probability" else 0
        weights = torch.softmax(logits, dim=over)[:, ARTIFACT]
        total = torch.relu((weights[:, None, None] * maps).sum(0))
    return (total / total.max()).numpy(), weights.numpy()


@pytest.mark.parametrize(
    ("weight", "fill"),
    [("probability", "background"), ("softmax-logit", "background"), ("probability", "zero")],
)
def test_the_exact_map_is_that_of_the_definition(classifier, weight, fill):
    tile = tiles(1)[0]
    found = ScoreCam(classifier, weight=weight, fill=fill, precision="float32").explain(tile[None])[0]
    expected, weights = naive(classifier, tile, weight=weight, fill={"background": 0.0, "zero": -5.0}[fill])
    np.testing.assert_allclose(found.map, expected, atol=1e-5)
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    assert found.probability == pytest.approx(classifier.predict(tile[None])[0], abs=1e-5)
    assert (found.n_forwards, found.error) == (N_MAPS, 0.0)
    assert found.map.shape == (8, 8)


@pytest.mark.parametrize(("layer", "shape", "n_maps"), [("layer1", (16, 16), 64), ("layer2", (8, 8), 128)])
def test_any_layer_can_be_weighed(classifier, layer, shape, n_maps):
    tile = tiles(1, seed=3)[0]
    found = ScoreCam(classifier, layer=layer, precision="float32").explain(tile[None])[0]
    assert found.map.shape == shape
    assert found.weights.shape == (n_maps,)
    np.testing.assert_allclose(found.map, naive(classifier, tile, layer=layer)[0], atol=1e-5)


def test_a_network_that_ends_later_is_explained_at_its_last_layer():
    found = ScoreCam(place(last_stage="layer3")).explain(tiles(1))[0]
    assert found.map.shape == (4, 4)
    assert found.weights.shape == (256,)


def spread(map_):
    low, high = map_.min(), map_.max()
    return (map_ - low) / (high - low)


def test_the_exact_map_is_that_of_torchcam(classifier, monkeypatch):
    from torchcam.methods import ScoreCAM

    def prepare(self, activation):
        # torchcam brings maps to 0..1 before it interpolates, the paper after: interpolate first.
        fine = functional.interpolate(activation, self._input.shape[2:], mode="bilinear", align_corners=False)
        masks, indices, buffer = original(self, fine)
        return self._normalize(masks.clone(), 2), indices, buffer

    original = ScoreCAM._prepare_masked_inputs
    monkeypatch.setattr(ScoreCAM, "_prepare_masked_inputs", prepare)
    tile = tiles(1, seed=1)
    with ScoreCAM(classifier.network, "stages.layer2", input_shape=(1, SIZE, SIZE)) as oracle, torch.inference_mode():
        oracle.model(torch.from_numpy(tile)[None])
        expected = oracle(class_idx=ARTIFACT)[0][0].numpy()
    found = ScoreCam(classifier, weight="softmax-logit", precision="float32").explain(tile)[0]
    np.testing.assert_allclose(spread(found.map), expected, atol=1e-4)


def test_the_exact_map_is_that_of_grad_cam(classifier, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Upsampling(torch.nn.Upsample):
        def __init__(self, size):
            super().__init__(size, mode="bilinear", align_corners=False)

    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", Upsampling)
    tile = tiles(1, seed=1)
    with ScoreCAM(classifier.network, [classifier.network.stages.layer2]) as oracle:
        tensor = torch.from_numpy(tile)[None]
        oracle.batch_size = 32
        oracle.outputs = oracle.activations_and_grads(tensor)
        activations = oracle.activations_and_grads.activations[0].numpy()
        with contextlib.redirect_stderr(io.StringIO()):
            weights = oracle.get_cam_weights(
                tensor, oracle.target_layers, [ClassifierOutputTarget(ARTIFACT)], activations, None
            )[0]
    found = ScoreCam(classifier, weight="softmax-logit", precision="float32").explain(tile)[0]
    np.testing.assert_allclose(found.weights, weights, atol=1e-6, rtol=1e-3)
    np.testing.assert_allclose(found.map, combine(activations[0], weights.astype(np.float64)), atol=1e-4)


def test_a_constant_map_is_an_empty_mask():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 2.0), torch.eye(4)])
    masks = masked_scores._as_masks(maps, (8, 8))
    assert masks[:2].abs().max() == 0
    assert (masks[2].min(), masks[2].max()) == (0, 1)


@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_a_tile_without_any_activation_has_an_empty_map(tolerance):
    classifier = place()
    with torch.no_grad():
        for parameter in classifier.network.stages.parameters():
            parameter.zero_()
    found = ScoreCam(classifier, tolerance=tolerance).explain(tiles(1))[0]
    assert found.map.max() == 0
    assert found.saturated
    assert np.isfinite(found.weights).all()


@pytest.mark.parametrize("tolerance", [None, 0.02])
@pytest.mark.parametrize("precision", ["float32", None])
def test_a_tile_explained_with_others_gives_the_bytes_that_it_gives_alone(
    classifier, monkeypatch, tolerance, precision
):
    cam, batch = ScoreCam(classifier, tolerance=tolerance, precision=precision), tiles(3)
    together = cam.explain(batch)
    alone = [cam.explain(tile[None])[0] for tile in batch]
    monkeypatch.setattr(score_cam, "_TILES_PX", 2 * SIZE * SIZE)
    in_groups = cam.explain(batch)
    for a, b, c in zip(together, alone, in_groups, strict=True):
        assert a.map.tobytes() == b.map.tobytes() == c.map.tobytes()
        assert a.weights.tobytes() == b.weights.tobytes()
        assert (a.n_forwards, a.error) == (b.n_forwards, b.error)


def test_the_input_is_left_alone_and_no_hook_stays(classifier):
    batch = tiles(2)
    before = batch.copy()
    ScoreCam(classifier, tolerance=0.1).explain(batch)
    np.testing.assert_array_equal(batch, before)
    assert not any(module._forward_hooks for module in classifier.network.modules())


@pytest.mark.parametrize("tolerance", [None, 0.0])
def test_only_the_masks_of_one_batch_exist_at_a_time(classifier, monkeypatch, tolerance):
    sizes, original = [], masked_scores._as_masks

    def counting(maps, shape):
        sizes.append(len(maps) * shape[0] * shape[1])
        return original(maps, shape)

    monkeypatch.setattr(masked_scores, "_as_masks", counting)
    monkeypatch.setitem(masked_scores._BATCH_PX, "cpu", 7 * SIZE * SIZE)
    found = ScoreCam(classifier, tolerance=tolerance, max_forwards=41).explain(tiles(2))
    assert set(sizes) == {4 * SIZE * SIZE}  # the power of two below 7
    n_masks = 2 * N_MAPS if tolerance is None else sum(s.n_forwards - 9 for s in found)
    assert sum(sizes) == n_masks * SIZE * SIZE


def test_masks_too_many_for_memory_are_halved(classifier, monkeypatch):
    expected, original, sizes = ScoreCam(classifier).explain(tiles(1))[0], masked_scores._as_masks, []

    def with_little_memory(maps, shape):
        sizes.append(len(maps))
        if len(maps) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return original(maps, shape)

    monkeypatch.setattr(masked_scores, "_as_masks", with_little_memory)
    np.testing.assert_allclose(ScoreCam(classifier).explain(tiles(1))[0].map, expected.map, atol=1e-2)
    assert set(sizes) == {8, 4, 2}


@pytest.mark.parametrize("weight", ["probability", "softmax-logit"])
def test_few_passes_give_nearly_the_exact_map(classifier, weight):
    batch = tiles(4, seed=5)
    exact = ScoreCam(classifier, weight=weight, precision="float32").explain(batch)
    fast = ScoreCam(classifier, weight=weight, tolerance=0.05, precision="float32").explain(batch)
    assert all(25 <= s.n_forwards <= 73 and 0 < s.error < 0.3 for s in fast)
    assert np.mean([overlap(a.map, b.map) for a, b in zip(fast, exact, strict=True)]) > 0.9


def test_predicted_weights_follow_the_exact_ones_better_than_no_prediction(classifier):
    exact = ScoreCam(classifier, precision="float32").explain(tiles(3))
    fast = ScoreCam(classifier, tolerance=0.9, precision="float32").explain(tiles(3))
    for a, b in zip(fast, exact, strict=True):
        assert a.n_forwards == 25
        assert np.sqrt(np.mean((a.weights - b.weights) ** 2)) < 0.6 * b.weights.std()


def test_the_map_is_exact_once_every_mask_is_scored(classifier, monkeypatch):
    exact = ScoreCam(classifier, precision="float32").explain(tiles(1))[0]
    monkeypatch.setattr(MapSearch, "error", lambda self: float(self.n_unknown > 0))
    found = ScoreCam(classifier, tolerance=0.0, max_forwards=1000, precision="float32").explain(tiles(1))[0]
    assert found.error == 0
    assert found.n_forwards == N_MAPS + 9
    np.testing.assert_allclose(found.map, exact.map, atol=1e-6)


def smooth_problem(roughness, n_maps=200, seed=0):
    """Blobs as maps, and scores that follow slopes but for some of them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:20, :20]
    centres = rng.uniform(0, 20, (n_maps, 2, 1, 1))
    maps = np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 8).astype(np.float32)
    slopes = maps.reshape(n_maps, -1) @ rng.normal(0, 1, (400, 2))
    slopes /= slopes.std(axis=0)
    return maps, slopes, slopes[:, 0] + roughness * rng.normal(0, 1, n_maps)


def passes_until(problem, tolerance):
    maps, slopes, scores = problem
    search, n = MapSearch(maps, slopes, "probability"), 0
    while not n or (search.error() > tolerance and search.n_unknown):
        chosen = search.ask(8)
        search.tell(chosen, scores[chosen])
        n += len(chosen)
    return n, overlap(combine(maps, search.weights()), combine(maps, weigh(scores, "probability")))


def test_an_easy_map_takes_fewer_passes_than_a_hard_one():
    easy, easy_overlap = passes_until(smooth_problem(0.05), 0.1)
    hard, hard_overlap = passes_until(smooth_problem(2.0), 0.1)
    assert easy < hard / 2
    assert min(easy_overlap, hard_overlap) > 0.8


def test_a_lower_tolerance_takes_more_passes():
    n = [passes_until(smooth_problem(0.5), tolerance)[0] for tolerance in (0.3, 0.1, 0.02, 0.0)]
    assert n == sorted(n)
    assert n[0] < n[2] < n[3] == 200


def test_no_mask_is_asked_for_twice():
    maps, slopes, scores = smooth_problem(0.5, n_maps=50)
    search, asked = MapSearch(maps, slopes, "softmax-logit"), []
    while search.n_unknown:
        chosen = search.ask(16)
        asked += chosen.tolist()
        search.tell(chosen, scores[chosen])
    assert sorted(asked) == list(range(50))
    assert search.error() == 0
    np.testing.assert_allclose(search.weights(), weigh(scores, "softmax-logit"))


@pytest.mark.parametrize("tolerance", [None, 0.05])
@pytest.mark.parametrize("weight", ["probability", "softmax-logit"])
def test_scores_that_are_all_alike_are_reported_as_saturated(weight, tolerance):
    classifier, batch = shut("bias", [-9.0, 9.0]), tiles(1)
    found = ScoreCam(classifier, weight=weight, tolerance=tolerance).explain(batch)[0]
    assert found.saturated
    np.testing.assert_allclose(found.map, mean_of_maps(classifier, batch)[0], atol=1e-5)


def test_black_fill_saturates_where_background_fill_does_not():
    classifier = place(scale=60.0)
    black = ScoreCam(classifier, fill="zero").explain(tiles(1))[0]
    background = ScoreCam(classifier).explain(tiles(1))[0]
    assert np.ptp(background.weights) > 0.5
    assert np.ptp(black.weights) < np.ptp(background.weights)


def test_the_mean_of_the_maps_and_cam_are_those_of_the_definition(classifier):
    batch = tiles(2)
    with torch.inference_mode():
        maps = classifier.network.stages(torch.from_numpy(batch)[:, None].clamp(-5, 5)).numpy()
    weights = classifier.network.fc.weight.detach().numpy()
    for i, (mean, cam) in enumerate(
        zip(mean_of_maps(classifier, batch), class_activation(classifier, batch), strict=True)
    ):
        expected = np.maximum(np.tensordot(weights[1] - weights[0], maps[i], axes=1), 0)
        np.testing.assert_allclose(mean, maps[i].mean(0) / maps[i].mean(0).max(), atol=1e-5)
        np.testing.assert_allclose(cam, expected / expected.max(), atol=1e-5)
    assert mean_of_maps(classifier, batch, layer="layer1")[0].shape == (16, 16)


def test_an_unknown_layer_is_an_error_that_names_the_known_ones(classifier):
    with pytest.raises(ModelError, match="no layer 'layer4'; expected one of layer1, layer2"):
        ScoreCam(classifier, layer="layer4")
    with pytest.raises(ModelError, match="layer1, layer2"):
        mean_of_maps(classifier, tiles(1), layer="conv1")


@pytest.mark.parametrize("explain", [lambda c, t: ScoreCam(c).explain(t), mean_of_maps, class_activation])
def test_tiles_that_are_none_are_refused(classifier, explain):
    with pytest.raises(ImageError, match=r"expected tiles \(n, y, x\)"):
        explain(classifier, np.zeros((SIZE, SIZE), np.float32))
    with pytest.raises(ImageError, match="not finite"):
        explain(classifier, np.full((1, SIZE, SIZE), np.nan, np.float32))
    assert explain(classifier, np.zeros((0, SIZE, SIZE), np.float32)) == []


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16"), ({"avx512_f": True}, "float32")],
)
def test_half_precision_is_for_cpus_that_compute_it_natively(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert native_precision(torch.device("cpu")) == expected


def test_half_precision_gives_nearly_the_same_map(classifier):
    half = ScoreCam(classifier, precision="bfloat16").explain(tiles(2))
    full = ScoreCam(classifier, precision="float32").explain(tiles(2))
    assert min(overlap(a.map, b.map) for a, b in zip(half, full, strict=True)) > 0.9


def test_batches_of_any_type_are_halved():
    def double(batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return batch.astype(np.float32) * 2

    np.testing.assert_array_equal(halve_when_full(double, np.arange(3)), [0, 2, 4])

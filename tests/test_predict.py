import numpy as np
import pytest
import torch

from artifact_mask.errors import ImageError, ModelError
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.nn import predict
from artifact_mask.nn.checkpoint import load_model
from artifact_mask.nn.model_card import UNetCard, UNetSpec, find_unet
from artifact_mask.nn.predict import Segmenter
from artifact_mask.nn.unet import build_unet


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.load(device="cpu")


def random_fields(*shape):
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


def drawn_field(height, width):
    image = draw_scene((height, width), seed=3, dose=0.5, artifact_density=4).image[0]
    return normalise_by_background(image, estimate_background(image))[None]


def with_blob(height=320, width=320, depth=-4.0):
    field = random_fields(1, height, width) * 0.1
    rows, columns = np.ogrid[:height, :width]
    field[0, np.hypot(rows - 150, columns - 160) < 9] = depth
    return field


@pytest.mark.parametrize("fields", [random_fields(1, 613, 747), drawn_field(701, 733)], ids=["random", "drawn"])
def test_tiles_give_what_the_whole_field_gives(segmenter, monkeypatch, fields):
    whole = segmenter.predict(fields)
    monkeypatch.setattr(predict, "_WHOLE_PX", 0)
    monkeypatch.setattr(predict, "_CORE_PX", 256)
    np.testing.assert_allclose(segmenter.predict(fields), whole, rtol=0, atol=1e-5)


def test_a_batch_gives_what_single_fields_give(segmenter, monkeypatch):
    fields = random_fields(5, 100, 130)
    singly = np.concatenate([segmenter.predict(field[None]) for field in fields])
    np.testing.assert_allclose(segmenter.predict(fields), singly, rtol=0, atol=1e-6)
    monkeypatch.setitem(predict._BATCH_PX, "cpu", 2 * 128 * 160)
    np.testing.assert_allclose(segmenter.predict(fields), singly, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 50, 50), (1, 1, 1), (2, 1, 70), (1, 31, 33), (1, 64, 64)])
def test_fields_of_any_size_keep_it(segmenter, shape):
    probability = segmenter.predict(random_fields(*shape))
    assert probability.shape == shape
    assert probability.dtype == np.float32
    assert ((probability >= 0) & (probability <= 1)).all()


def test_predicting_twice_gives_the_same_bytes_and_leaves_the_input_alone(segmenter):
    fields = random_fields(2, 200, 200)
    before = fields.copy()
    assert segmenter.predict(fields).tobytes() == segmenter.predict(fields).tobytes()
    np.testing.assert_array_equal(fields, before)


def test_folding_batch_norms_changes_nothing(segmenter):
    fields = drawn_field(256, 256)
    network, _ = load_model(find_unet(), UNetCard)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in segmenter.network.modules())
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(fields)[:, None]))[:, 0].numpy()
    np.testing.assert_allclose(segmenter.predict(fields), expected, rtol=0, atol=1e-5)


def test_half_the_precision_changes_little(segmenter):
    fields = with_blob()
    fast = Segmenter.load(device="cpu", precision="bfloat16")
    np.testing.assert_allclose(fast.predict(fields), segmenter.predict(fields), rtol=0, atol=0.1)


def test_no_pixel_beyond_the_receptive_radius_matters():
    torch.manual_seed(0)
    spec = UNetSpec(encoder=(4,) * 5, decoder=(4,) * 4)
    network = build_unet(spec).eval().double()
    field = torch.zeros(1, 1, 512, 544, dtype=torch.float64, requires_grad=True)
    row, column = 255, 271
    network(field)[0, 0, row, column].backward()
    touched = field.grad[0, 0].nonzero() - torch.tensor([row, column])
    assert 150 <= touched.abs().max() <= spec.receptive_radius_px


def test_the_default_model_marks_a_black_blob(segmenter):
    contrast = with_blob()
    probability = segmenter.predict(contrast)[0]
    assert probability[145:155, 155:165].min() >= segmenter.card.threshold
    labels = label_artifacts(probability, contrast[0], segmenter.card.cut())
    assert labels.max() == labels[150, 160] == 1


def test_the_default_model_marks_nothing_in_an_empty_field(segmenter):
    assert segmenter.predict(random_fields(1, 320, 320) * 0.1).max() < segmenter.card.threshold


@pytest.mark.parametrize("shape", [(50, 50), (1, 1, 50, 50), (1, 0, 50)])
def test_other_axes_are_refused(segmenter, shape):
    with pytest.raises(ImageError, match=r"expected fields \(n, y, x\)"):
        segmenter.predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(segmenter, value):
    with pytest.raises(ImageError, match="not finite"):
        segmenter.predict(np.full((1, 40, 40), value, np.float32))


def test_a_batch_too_large_for_memory_is_halved(segmenter, monkeypatch):
    fields = random_fields(5, 64, 64)
    expected = segmenter.predict(fields)
    run, sizes = Segmenter._run, []

    def run_with_little_memory(self, batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return run(self, batch)

    monkeypatch.setattr(Segmenter, "_run", run_with_little_memory)
    np.testing.assert_allclose(segmenter.predict(fields), expected, rtol=0, atol=1e-6)
    assert sizes == [5, 2, 3, 1, 2]


def test_a_single_field_too_large_for_memory_is_an_error(segmenter, monkeypatch):
    def run_without_memory(self, batch):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Segmenter, "_run", run_without_memory)
    with pytest.raises(torch.OutOfMemoryError):
        segmenter.predict(random_fields(1, 64, 64))


def test_a_model_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="Cannot read the model"):
        Segmenter.load(tmp_path / "absent.safetensors")

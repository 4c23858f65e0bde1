import json
import subprocess
import sys
from functools import partial

import pytest
import safetensors.torch
import torch

from artifact_mask.errors import ModelError, StorageError
from artifact_mask.kernels.illumination import CONTRAST_UNIT
from artifact_mask.nn.checkpoint import load_model, save_model
from artifact_mask.nn.model_card import (
    CARD_KEY,
    ClassifierCard,
    Normalisation,
    ResNetSpec,
    UNetCard,
    UNetSpec,
    find_unet,
    model_digest,
    read_card,
)
from artifact_mask.nn.resnet import build_classifier
from artifact_mask.nn.unet import build_unet

READ_CARD, LOAD_MODEL = partial(read_card, kind=UNetCard), partial(load_model, kind=UNetCard)

SMALL = UNetSpec(encoder=(4,) * 5, decoder=(4,) * 4)


def card_of(spec=SMALL, **changes):
    values = {
        "name": "test",
        "version": "1",
        "architecture": spec,
        "pixel_size_um": 0.3,
        "threshold": 0.4,
        "min_object_px": 25,
        "training_data": ("two fields", "ten drawn ones"),
        "metrics": {"f1": 0.9},
        "licence": "BSD-3-Clause",
    }
    return UNetCard(**(values | changes))


def weights_of(network):
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_unet(SMALL).eval()


@pytest.fixture
def model(tmp_path, network):
    path = tmp_path / "model.safetensors"
    save_model(path, network, card_of())
    return path


def test_what_is_saved_comes_back(model, network):
    loaded, card = load_model(model, UNetCard)
    assert card == read_card(model, UNetCard) == card_of()
    assert not loaded.training
    field = torch.randn(1, 1, 64, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(field), network(field))


def test_the_same_model_gives_the_same_bytes_and_leaves_nothing_beside_them(tmp_path, model, network):
    again = tmp_path / "again.safetensors"
    save_model(again, network, card_of())
    assert again.read_bytes() == model.read_bytes()
    assert model_digest(again) == model_digest(model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "model.safetensors"]


def test_the_digest_is_the_sha256_of_the_file(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert model_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_reading_a_card_needs_no_torch(model):
    code = (
        "import sys; from artifact_mask.nn.model_card import UNetCard, read_card, model_digest, find_unet; "
        f"read_card({str(model)!r}, UNetCard); model_digest({str(model)!r}); find_unet(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("read", [READ_CARD, LOAD_MODEL, model_digest])
@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_a_path_that_is_no_file_is_named(tmp_path, read, name):
    with pytest.raises(ModelError, match=r"Cannot read the model .*expected a .safetensors file"):
        read(tmp_path / name)


@pytest.mark.parametrize("read", [READ_CARD, LOAD_MODEL])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"\x80\x04" + 100 * b"pickle",
        (2).to_bytes(8, "little") + b"[]",
        (20).to_bytes(8, "little") + b'{"__metadata__": 17}',
        (9).to_bytes(8, "little") + b"\xff" * 9,
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, read, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a safetensors file"):
        read(path)


@pytest.mark.parametrize("metadata", [None, {"other": "card"}])
def test_a_file_without_a_card_is_refused(tmp_path, network, metadata):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights_of(network), path, metadata=metadata)
    with pytest.raises(ModelError, match="without an artmask card"):
        load_model(path, UNetCard)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"architecture": {"kind": "transformer"}}, "architecture.kind"),
        ({"normalisation": {"name": "percentiles"}}, "normalisation.name"),
        ({"colour": "blue"}, "colour"),
        (None, "the card"),
    ],
)
def test_a_card_that_is_not_valid_says_where(tmp_path, network, change, complaint):
    card = json.loads(card_of().model_dump_json())
    text = "no json" if change is None else json.dumps(card | change)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights_of(network), path, metadata={CARD_KEY: text})
    with pytest.raises(ModelError, match=f"is not valid: {complaint}"):
        read_card(path, UNetCard)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda w: w.pop("body.conv_0.conv_0.conv.weight"), r"lacks 1 tensor\(s\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 tensor\(s\) too many, among them extra"),
        (lambda w: w.update({"body.final_conv.bias": torch.zeros(3)}), r"shape \(3,\) instead of \(4,\)"),
        (lambda w: w.update({"body.final_conv.bias": torch.full((4,), torch.nan)}), "not finite"),
        (lambda w: w.update({"body.final_conv.bias": torch.zeros(4, dtype=torch.int64)}), "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, network, spoil, complaint):
    weights = weights_of(network)
    spoil(weights)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, path, metadata={CARD_KEY: card_of().model_dump_json()})
    with pytest.raises(ModelError, match=complaint):
        load_model(path, UNetCard)


def test_a_file_cut_short_is_refused(model):
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"weights of .* cannot be read"):
        load_model(model, UNetCard)


def test_half_precision_weights_are_read_as_single(tmp_path, network):
    path = tmp_path / "model.safetensors"
    half = {name: tensor.half() for name, tensor in weights_of(network).items()}
    safetensors.torch.save_file(half, path, metadata={CARD_KEY: card_of().model_dump_json()})
    loaded, _ = load_model(path, UNetCard)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_network_that_does_not_fit_its_card_is_not_saved(tmp_path, network):
    with pytest.raises(ModelError, match="the network to save"):
        save_model(tmp_path / "model.safetensors", network, card_of(UNetSpec()))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path, network):
    with pytest.raises(StorageError, match="Cannot write the model"):
        save_model(tmp_path / "absent" / "model.safetensors", network, card_of())


def test_the_default_model_loads_is_small_and_fits_the_normalisation():
    path = find_unet()
    assert path.stat().st_size < 3_000_000
    _, card = load_model(path, UNetCard)
    assert card.normalisation == Normalisation(contrast_unit=CONTRAST_UNIT)
    assert card.licence == "BSD-3-Clause"
    assert card.metrics["cv_debris_ring10_f1"] > 0.85


def test_a_classifier_is_stored_like_a_unet(tmp_path):
    spec = ResNetSpec(name="resnet18")
    card = ClassifierCard(
        name="c", version="1", architecture=spec, pixel_size_um=0.3, tile_px=270, licence="BSD-3-Clause"
    )
    classifier = build_classifier(spec).eval()
    save_model(tmp_path / "c.safetensors", classifier, card)
    loaded, read = load_model(tmp_path / "c.safetensors", ClassifierCard)
    assert read == card
    tiles = torch.randn(2, 1, 64, 48)
    with torch.inference_mode():
        assert torch.equal(loaded(tiles), classifier(tiles))


def test_a_model_of_the_other_kind_is_named(tmp_path, model):
    with pytest.raises(ModelError, match="is a U-Net; expected a classifier"):
        read_card(model, ClassifierCard)

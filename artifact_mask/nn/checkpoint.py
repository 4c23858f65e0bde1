"""Model files: weights as safetensors with the card in the header. No pickle is ever loaded."""

import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from artifact_mask.errors import ModelError, StorageError
from artifact_mask.nn.model_card import CARD_KEY, Card, ResNetSpec, UNetSpec, read_card
from artifact_mask.nn.resnet import build_classifier
from artifact_mask.nn.unet import build_unet

_COUNTER = ".num_batches_tracked"  # of batch norms; means nothing once trained


def save_model(path: str | Path, network: nn.Module, card: Card) -> None:
    """Write a network and its card to one file; the same network and card give the same bytes.

    Parameters
    ----------
    path
        Replaced if it is there, only once the new file is complete.
    network
        Must have the architecture that the card names; weights are stored as float32.
    card
        Stored as JSON in the header.

    Raises
    ------
    ModelError
        If the network does not fit the card.
    StorageError
        If the file cannot be written.
    """
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }
    _check_fit(weights, _build(card.architecture), "the network to save")
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(safetensors.torch.save(weights, metadata={CARD_KEY: card.model_dump_json()}))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"Cannot write the model {path} ({error.strerror or error}); expected a writable folder with room for it. "
            "Name another path or make room."
        ) from error


def load_model(path: str | Path, kind: type[Card]) -> tuple[nn.Module, Card]:
    """Read a network and its card.

    Parameters
    ----------
    path
        A file written by :func:`save_model`.
    kind
        The card of the kind of model that is wanted.

    Returns
    -------
    tuple[nn.Module, ModelCard]
        The network on the CPU, as float32 and in evaluation mode.

    Raises
    ------
    ModelError
        If the file is missing, damaged, not safetensors, lacks a valid card, is a model of another kind, or holds
        tensors that do not fit.
    """
    card = read_card(path, kind)
    try:
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The weights of {path} cannot be read ({error}); expected an undamaged safetensors file. "
            "Copy or download the model again."
        ) from error
    network = _build(card.architecture)
    _check_fit(weights, network, str(path))
    network.load_state_dict(weights, strict=False)  # the names were checked; only the counters may be absent
    return network.eval(), card


def _build(spec: UNetSpec | ResNetSpec) -> nn.Module:
    """Build the network of an architecture with random weights."""
    return build_unet(spec) if isinstance(spec, UNetSpec) else build_classifier(spec)


def _check_fit(weights: dict[str, torch.Tensor], network: nn.Module, source: str) -> None:
    expected = {name: t for name, t in network.state_dict().items() if not name.endswith(_COUNTER)}
    problem = None
    if missing := sorted(expected.keys() - weights.keys()):
        problem = f"lacks {len(missing)} tensor(s), among them {missing[0]}"
    elif foreign := sorted(weights.keys() - expected.keys()):
        problem = f"has {len(foreign)} tensor(s) too many, among them {foreign[0]}"
    else:
        for name, tensor in expected.items():
            if weights[name].shape != tensor.shape:
                problem = f"has {name} of shape {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
                break
            if not weights[name].is_floating_point() or not weights[name].isfinite().all():
                problem = f"has values in {name} that are not finite floating-point numbers"
                break
    if problem is not None:
        raise ModelError(
            f"The weights do not fit the architecture on the card: {source} {problem}; expected exactly the tensors "
            "of that architecture. Train or export the model again."
        )

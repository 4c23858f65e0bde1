"""The weights that a training starts from."""

from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError

from artifact_mask.errors import ModelError
from artifact_mask.nn.checkpoint import load_model
from artifact_mask.nn.model_card import (
    ClassifierCard,
    ResNetSpec,
    UNetCard,
    UNetSpec,
    default_classifier_path,
    read_card,
)
from artifact_mask.nn.resnet import ArtifactResNet, build_classifier
from artifact_mask.nn.unet import ArtifactUNet, build_unet

_PREFIXES = ("module.", "model.", "_orig_mod.")
"""What wrappers of a network put before the names of its tensors."""


def start_network(spec: ResNetSpec, start: str, seed: int) -> tuple[ArtifactResNet, str]:
    """Build a network with the weights to start a training from.

    Parameters
    ----------
    spec
        The architecture.
    start
        ``scratch``, ``default`` (the classifier that artmask ships), ``imagenet`` (downloaded by torchvision), or a
        file: a classifier of artmask of the same architecture, or ImageNet weights of torchvision's ResNet.
    seed
        Seed of the weights that are drawn at random.

    Returns
    -------
    tuple[ArtifactResNet, str]
        The network, and what it starts from in words for people.

    Raises
    ------
    ModelError
        If the weights are not there, cannot be downloaded or read, or do not fit.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = build_classifier(spec)
    if start == "scratch":
        return network, "random weights"
    if start == "default":
        return _from_default(network, spec)
    if start == "imagenet":
        _fill(network, _download(spec), f"ImageNet weights of {spec.name}")
        return network, f"ImageNet weights of {spec.name}"
    path = Path(start).expanduser()
    if not path.is_file():
        raise ModelError(
            f"{start!r} is neither `default`, `scratch` or `imagenet` nor a file. Name one of these, or a file of "
            "weights (.safetensors or .pth)."
        )
    if path.suffix == ".safetensors" and _is_ours(path):
        _take_over(network, spec, path)
    else:
        _fill(network, _read_weights(path), str(path))
    return network, f"the weights of {path.name}"


def start_unet(spec: UNetSpec, start: str, encoder_start: str, seed: int) -> tuple[ArtifactUNet, str]:
    """Build a U-Net with the weights to start a training from.

    Parameters
    ----------
    spec
        The architecture.
    start
        ``scratch``, or the file of a U-Net of this architecture.
    encoder_start
        What a ResNet encoder starts from: ``scratch``, ``imagenet``, or a file, as in :func:`start_network`; without
        such an encoder, and from a U-Net's file, it must be ``scratch``.
    seed
        Seed of the weights that are drawn at random.

    Returns
    -------
    tuple[ArtifactUNet, str]
        The network, and what it starts from in words for people.

    Raises
    ------
    ModelError
        If the weights are not there, cannot be downloaded or read, or do not fit.
    """
    if encoder_start != "scratch" and (start != "scratch" or not isinstance(spec.encoder, str)):
        raise ModelError(
            f"The encoder should start from {encoder_start!r}, but this network has no ResNet encoder of its own to "
            "fill. Name a preset with one (resnet18, resnet34, resnet50) and start from `scratch`."
        )
    if start != "scratch":
        return cast("ArtifactUNet", load_model(start, UNetCard)[0].train()), f"the weights of {Path(start).name}"
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = build_unet(spec)
    if encoder_start == "scratch" or not isinstance(spec.encoder, str):
        return network, "random weights"
    encoder, said = start_network(ResNetSpec(name=spec.encoder, last_stage="layer4"), encoder_start, seed)
    network.body.stages = encoder.stages
    return network, f"{said} in the encoder"


def _from_default(network: ArtifactResNet, spec: ResNetSpec) -> tuple[ArtifactResNet, str]:
    path = default_classifier_path()
    if not path.is_file():
        raise ModelError(
            "This installation of artmask has no classifier to start from. Start from `scratch`, `imagenet`, or a file."
        )
    shipped = read_card(path, ClassifierCard).architecture
    if not _is_same(shipped, spec):
        return network, (
            f"random weights, because the classifier that artmask ships is a {shipped.name} cut after "
            f"{shipped.last_stage}, not a {spec.name} cut after {spec.last_stage}"
        )
    _take_over(network, spec, path)
    return network, "the classifier that artmask ships"


def _is_same(one: ResNetSpec, other: ResNetSpec) -> bool:
    """Whether two architectures have the same tensors."""
    return (one.name, one.last_stage) == (other.name, other.last_stage)


def _is_ours(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "artmask" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True  # to read it as a classifier says what is wrong with it


def _take_over(network: ArtifactResNet, spec: ResNetSpec, path: Path) -> None:
    """Take the weights of a classifier of ours."""
    other, card = load_model(path, ClassifierCard)
    if not _is_same(card.architecture, spec):
        raise ModelError(
            f"{path} is a {card.architecture.name} cut after {card.architecture.last_stage}; expected a {spec.name} "
            f"cut after {spec.last_stage}. Ask for the same network and last stage, or start from other weights."
        )
    network.load_state_dict(other.state_dict())


def _download(spec: ResNetSpec) -> dict[str, torch.Tensor]:
    weights = torchvision.models.get_model_weights(spec.name)["IMAGENET1K_V1"]
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, or a file that was cut off
        raise ModelError(
            f"The ImageNet weights of {spec.name} cannot be downloaded from {weights.url} ({error}). Download them "
            "where there is a network, and name the file with --start."
        ) from error
    return state


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file that is not a classifier of ours; never anything but tensors."""
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file makes of the reader
        raise ModelError(
            f"{path} cannot be read as weights ({type(error).__name__}); expected a safetensors file, or a state dict "
            "that torch saved, with nothing but tensors. Download it again, or save the state dict alone."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise ModelError(f"{path} holds no state dict; expected the weights of a ResNet of torchvision.")
    return found


def _fill(network: ArtifactResNet, given: dict[str, torch.Tensor], source: str) -> None:
    """Take the stages of a ResNet of torchvision; its first convolution is summed over the colours."""
    plain = {_plain(name): tensor for name, tensor in given.items()}
    weights = {}
    for name, ours in network.stages.state_dict().items():
        tensor = plain.get(name)
        if tensor is None:
            if name.endswith("num_batches_tracked"):
                continue
            raise ModelError(
                f"{source} lacks the tensor {name}; expected the weights of a ResNet of torchvision. "
                "Name a file of the same network."
            )
        if name == "conv1.weight" and tensor.ndim == 4:
            tensor = tensor.sum(dim=1, keepdim=True)
        if tensor.shape != ours.shape:
            raise ModelError(
                f"{source} has {name} of shape {tuple(tensor.shape)}, expected {tuple(ours.shape)}. "
                "Name a file of the same network."
            )
        weights[name] = tensor
    network.stages.load_state_dict(weights, strict=False)


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name

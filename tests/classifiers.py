"""A classifier that finds dark squares, made in a second: random features and a fitted last layer."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from artifact_mask.nn.checkpoint import save_model
from artifact_mask.nn.model_card import ClassifierCard, ResNetSpec
from artifact_mask.nn.resnet import ArtifactResNet, build_classifier

TILE_PX = 96
SQUARE_PX = 16


def draw_tile(rng: np.random.Generator, *, artifact: bool, size: int = TILE_PX) -> NDArray[np.float32]:
    """Contrast ``(y, x)`` of a noisy tile, with a dark square or without."""
    tile = rng.normal(0, 0.1, (size, size)).astype(np.float32)
    if artifact:
        y, x = rng.integers(0, size - SQUARE_PX, 2)
        tile[y : y + SQUARE_PX, x : x + SQUARE_PX] -= 4
    return tile


def fit_classifier(seed: int = 0) -> ArtifactResNet:
    """Fit the last layer of a random ResNet-18 to tiles with and without a dark square."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build_classifier(ResNetSpec(name="resnet18")).eval()
    is_artifact = np.arange(64) % 2
    tiles = np.stack([draw_tile(rng, artifact=bool(artifact)) for artifact in is_artifact])
    with torch.inference_mode():
        features = network.stages(torch.from_numpy(tiles)[:, None]).mean(dim=(2, 3)).double().numpy()
    centre = features.mean(axis=0)
    # Ridge regression to -4 and 4, as logit of artifact; both classes share it evenly.
    centred = features - centre
    gram = centred @ centred.T
    dual = np.linalg.solve(gram + 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram)), 8.0 * is_artifact - 4)
    slope = centred.T @ dual
    with torch.no_grad():
        network.fc.weight.copy_(torch.from_numpy(np.stack([-slope / 2, slope / 2])))
        network.fc.bias.copy_(torch.from_numpy(np.array([slope @ centre / 2, -slope @ centre / 2])))
    return network


def write_classifier(path: Path, *, pixel_size_um: float = 0.5) -> Path:
    """Write such a classifier as a model file."""
    network = fit_classifier()
    card = ClassifierCard(
        name="squares",
        version="1",
        architecture=ResNetSpec(name="resnet18"),
        pixel_size_um=pixel_size_um,
        tile_px=TILE_PX,
        licence="BSD-3-Clause",
    )
    save_model(path, network, card)
    return path

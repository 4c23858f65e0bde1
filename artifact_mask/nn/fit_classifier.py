"""Train a classifier on tiles in memory: what `artmask train classifier` and a cross-validation share."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from artifact_mask.config import Precision
from artifact_mask.nn.averaged_training import Hyperparameters
from artifact_mask.nn.classifier import fold_batch_norms
from artifact_mask.nn.classifier_training import ClassifierTraining, Samples
from artifact_mask.nn.device import choose_device, inference_on, native_precision, to_device
from artifact_mask.nn.fitting import Course, Recipe, fit
from artifact_mask.nn.resnet import ARTIFACT, ArtifactResNet
from artifact_mask.nn.training_folder import Tell

__all__ = ["Fitted", "Recipe", "Samples", "fit_classifier", "predict_samples"]


@dataclass(frozen=True)
class Fitted:
    """A training that came to its end.

    Attributes
    ----------
    network
        The moving average of the weights at the best epoch, on the CPU, in evaluation mode.
    probabilities
        ``(n,)``, of an artifact in each held-out tile.
    course
        How it went.
    """

    network: ArtifactResNet
    probabilities: NDArray[np.float32]
    course: Course


def fit_classifier(
    network: ArtifactResNet,
    train: Samples,
    held_out: Samples,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    tell: Tell | None = None,
) -> Fitted:
    """Train a network, stop when it gets no better on held-out tiles, and judge these.

    Parameters
    ----------
    network
        Where to start from; changed.
    train, held_out
        Tiles of one shape, both classes among those of the first.
    recipe
        How.
    folder, tell
        See :func:`artifact_mask.nn.fitting.fit`.

    Raises
    ------
    ModelError
        If the loss is not finite from the first epoch on.
    ConfigError
        If the device does not compute in the precision.
    """
    hyper = Hyperparameters(recipe.batch_size, recipe.learning_rate, recipe.patience, recipe.seed)
    course = fit(
        network,
        lambda: ClassifierTraining(network, train, held_out, hyper),
        recipe,
        n_samples=len(train),
        is_watched=True,
        folder=folder,
        tell=tell,
    )
    return Fitted(network, predict_samples(network, held_out, precision=recipe.precision), course)


def predict_samples(
    network: ArtifactResNet, samples: Samples, *, precision: Precision | None = None, turns: int = 1
) -> NDArray[np.float32]:
    """Judge tiles with a copy of a network, as :class:`artifact_mask.nn.classifier.Classifier` does.

    Parameters
    ----------
    network
        Trained; it stays as it is.
    samples
        Their labels are not looked at.
    precision
        What convolutions compute in; the fastest that the device computes natively, if None.
    turns
        Rotations by 90 degrees, over which the logits are averaged: 1 to 4.

    Returns
    -------
    NDArray[np.float32]
        ``(n,)``, probability of an artifact.
    """
    device = choose_device()
    dtype = getattr(torch, precision or native_precision(device))
    judge = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(judge)
    judge = judge.to(device).to(memory_format=torch.channels_last)
    parts = []
    with inference_on(device, dtype):
        for start in range(0, len(samples), 16):
            tiles = samples.stack(range(start, min(start + 16, len(samples))))
            turned = (np.ascontiguousarray(np.rot90(tiles, k, axes=(1, 2))) for k in range(turns))
            logits = torch.stack([judge(to_device(batch, device)).float() for batch in turned]).mean(dim=0)
            parts.append(torch.softmax(logits, dim=1)[:, ARTIFACT].cpu().numpy())
    return np.concatenate(parts) if parts else np.empty(0, np.float32)

"""Train a U-Net on crops of labelled fields: what `artmask train unet` and a cross-validation share."""

from collections.abc import Sequence
from pathlib import Path

from artifact_mask.kernels.crops import TrainingField
from artifact_mask.nn.averaged_training import Hyperparameters
from artifact_mask.nn.fitting import Course, Recipe, fit
from artifact_mask.nn.model_card import UNetSpec
from artifact_mask.nn.training_folder import Tell
from artifact_mask.nn.unet import ArtifactUNet
from artifact_mask.nn.unet_training import CropSamples, UNetTraining

__all__ = ["CropSamples", "Recipe", "fit_unet"]

MOST_AVERAGED = 0.995


def fit_unet(
    network: ArtifactUNet,
    spec: UNetSpec,
    train: CropSamples,
    held_out: Sequence[TrainingField],
    recipe: Recipe,
    *,
    folder: Path | None = None,
    tell: Tell | None = None,
) -> Course:
    """Train a network in place, and stop when it gets no better on held-out fields.

    Parameters
    ----------
    network, spec
        Where to start from, and its architecture.
    train
        What to learn from.
    held_out
        What to watch; if there are none, training takes all epochs of the recipe.
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
    hyper = Hyperparameters(recipe.batch_size, recipe.learning_rate, recipe.patience, recipe.seed, MOST_AVERAGED)
    return fit(
        network,
        lambda: UNetTraining(network, train, held_out, spec.stride_px, hyper),
        recipe,
        n_samples=len(train),
        is_watched=bool(held_out),
        folder=folder,
        tell=tell,
    )

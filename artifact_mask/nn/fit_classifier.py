"""Train a classifier on tiles in memory: what `artmask train classifier` and a cross-validation share."""

import copy
import logging
import math
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray

from artifact_mask.config import Precision
from artifact_mask.errors import ConfigError, ModelError
from artifact_mask.nn.classifier import fold_batch_norms
from artifact_mask.nn.classifier_training import (
    LOGGERS,
    MONITORED,
    ClassifierTraining,
    Hyperparameters,
    Record,
    Samples,
    silence_lightning,
)
from artifact_mask.nn.device import choose_device, inference_on, native_precision, to_device
from artifact_mask.nn.resnet import ARTIFACT, ArtifactResNet
from artifact_mask.nn.training_folder import BEST, FINISHED, LAST, Tell, load_checkpoint, usable_checkpoint

__all__ = ["Fitted", "Recipe", "Samples", "fit_classifier", "predict_samples"]

GRADIENT_NORM = 2.0
_STEPS_WORTH_A_GPU = 8
"""Steps of an epoch below which another GPU would not pay."""
_PRECISIONS: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}
_AVERAGE = "average."


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes
    ----------
    max_epochs
        Passes over the tiles, at most.
    patience
        Epochs without improvement after which training stops.
    batch_size
        Tiles in one step of one process.
    learning_rate
        At the start, after a warm-up.
    precision
        What convolutions compute in; the fastest that the device computes natively, if None.
    seed
        Of the order and the augmentation; not of the first weights.
    devices
        Processes, each with a GPU where there are GPUs; if None, as many as there are GPUs and the tiles are worth.
    """

    max_epochs: int = 150
    patience: int = 25
    batch_size: int = 16
    learning_rate: float = 1e-3
    precision: Precision | None = None
    seed: int = 0
    devices: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A training that came to its end.

    Attributes
    ----------
    network
        The moving average of the weights at the best epoch, on the CPU, in evaluation mode.
    probabilities
        ``(n,)``, of an artifact in each held-out tile.
    epochs
        Figures of each epoch: ``epoch``, ``loss``, ``loss_held_out``, ``accuracy_held_out``, ``seconds``, ...
    best_epoch
        Counted from 1.
    n_resumed
        Epochs that an earlier, interrupted training had done.
    """

    network: ArtifactResNet
    probabilities: NDArray[np.float32]
    epochs: list[dict[str, float]]
    best_epoch: int
    n_resumed: int


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
    folder
        For checkpoints; a training that was interrupted goes on from the last epoch in it. The caller sees to it that
        they belong to the same tiles and recipe, see
        :func:`artifact_mask.nn.training_folder.prepare_folder`. None keeps none.
    tell
        Told a line now and then.

    Raises
    ------
    ModelError
        If the loss is not finite from the first epoch on.
    ConfigError
        If the device does not compute in the precision.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="artmask-training-") as temporary:
            return fit_classifier(network, train, held_out, recipe, folder=Path(temporary), tell=tell)
    folder.mkdir(parents=True, exist_ok=True)
    last, n_resumed = usable_checkpoint(folder, tell)
    if not (folder / FINISHED).exists():
        hyper = Hyperparameters(recipe.batch_size, recipe.learning_rate, recipe.patience, recipe.seed)
        module = ClassifierTraining(network, train, held_out, hyper)
        with _quiet():
            trainer = _make_trainer(recipe, folder, Record(tell), len(train))
            with _interruptible(trainer):
                trainer.fit(module, ckpt_path=last, weights_only=True)
        (folder / FINISHED).touch()
    return _collect(network, held_out, recipe, folder, n_resumed)


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


def _make_trainer(recipe: Recipe, folder: Path, record: Record, n_tiles: int) -> pl.Trainer:
    device = choose_device()
    precision = recipe.precision or native_precision(device)
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("float16 needs a GPU; this machine has none. Ask for bfloat16 or float32, or leave it open.")
    n_gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    n_devices = recipe.devices or max(1, min(n_gpus, n_tiles // (recipe.batch_size * _STEPS_WORTH_A_GPU)))
    callbacks = [
        record,
        EarlyStopping(MONITORED, patience=recipe.patience, check_on_train_epoch_end=True),
        _checkpoint(folder, BEST, monitor=MONITORED),
        _checkpoint(folder, LAST, monitor=None),
    ]
    return pl.Trainer(
        accelerator=device.type,
        devices=n_devices,
        strategy="ddp_spawn" if n_devices > 1 else "auto",
        # Named, so that a batch system around this is not taken for one that started a process for each device.
        plugins=[LightningEnvironment()],
        precision=_PRECISIONS[precision],
        max_epochs=recipe.max_epochs,
        gradient_clip_val=GRADIENT_NORM,
        callbacks=callbacks,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _checkpoint(folder: Path, name: str, *, monitor: str | None) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        filename=Path(name).stem,
        monitor=monitor,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def _collect(network: ArtifactResNet, held_out: Samples, recipe: Recipe, folder: Path, n_resumed: int) -> Fitted:
    """Read what training left: the best weights, and the figures of the epochs."""
    epochs = load_checkpoint(folder / LAST)["callbacks"][Record.__name__]["epochs"]
    finite = [figures for figures in epochs if math.isfinite(figures[MONITORED])]
    if not finite:
        raise ModelError(
            "The loss was not finite from the first epoch on; expected it to fall. Lower the learning rate, or train "
            "in float32."
        )
    best = load_checkpoint(folder / BEST)["state_dict"]
    weights = {name.removeprefix(_AVERAGE): t for name, t in best.items() if name.startswith(_AVERAGE)}
    network.to("cpu").load_state_dict(weights)
    network.eval()
    best_epoch = min(finite, key=lambda figures: figures[MONITORED])["epoch"]
    probabilities = predict_samples(network, held_out, precision=recipe.precision)
    return Fitted(network, probabilities, epochs, int(best_epoch), n_resumed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning quiet in this process for as long as it trains."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        silence_lightning()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Let an interrupt through: Lightning makes an exit with code 1 of it, and ignores any further one."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        if is_main:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None

"""Run a training to its end: precision, processes, checkpoints, early stopping, and going on after an interruption."""

import logging
import math
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from artifact_mask.config import Precision
from artifact_mask.errors import ConfigError, ModelError
from artifact_mask.nn.averaged_training import LOGGERS, MONITORED, AveragedTraining, Record, silence_lightning
from artifact_mask.nn.device import choose_device, native_precision
from artifact_mask.nn.training_folder import BEST, FINISHED, LAST, Tell, load_checkpoint, usable_checkpoint

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
    """How a network is trained.

    Attributes
    ----------
    max_epochs
        Passes over the samples, at most.
    patience
        Epochs without improvement after which training stops.
    batch_size
        Samples in one step of one process.
    learning_rate
        At the start, after a warm-up.
    precision
        What convolutions compute in; the fastest that the device computes natively, if None.
    seed
        Of the order and the augmentation; not of the first weights.
    devices
        Processes, each with a GPU where there are GPUs; if None, as many as there are GPUs and the samples are worth.
    """

    max_epochs: int = 150
    patience: int = 25
    batch_size: int = 16
    learning_rate: float = 1e-3
    precision: Precision | None = None
    seed: int = 0
    devices: int | None = None


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes
    ----------
    epochs
        Figures of each epoch: ``epoch``, ``loss``, ``loss_held_out``, ``seconds``, ...
    best_epoch
        Whose weights are kept, counted from 1.
    n_resumed
        Epochs that an earlier, interrupted training had done.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    n_resumed: int


def fit(
    network: nn.Module,
    make_module: Callable[[], AveragedTraining],
    recipe: Recipe,
    *,
    n_samples: int,
    is_watched: bool,
    folder: Path | None = None,
    tell: Tell | None = None,
) -> Course:
    """Train a network, stop when it gets no better on held-out samples, and give it the best weights.

    Parameters
    ----------
    network
        Where to start from; in the end it has the moving average of the weights at the best epoch, or at the last one
        if nothing is held out, and is in evaluation mode on the CPU.
    make_module
        Makes the training of the network; not called where it is finished already.
    recipe
        How.
    n_samples
        In an epoch.
    is_watched
        Whether there are held-out samples.
    folder
        For checkpoints; a training that was interrupted goes on from the last epoch in it. The caller sees to it that
        they belong to the same samples and recipe, see
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
            place = Path(temporary)
            return fit(
                network, make_module, recipe, n_samples=n_samples, is_watched=is_watched, folder=place, tell=tell
            )
    folder.mkdir(parents=True, exist_ok=True)
    last, n_resumed = usable_checkpoint(folder, tell)
    if not (folder / FINISHED).exists():
        with _quiet():
            trainer = _make_trainer(recipe, folder, Record(tell), n_samples, is_watched=is_watched)
            with _interruptible(trainer):
                trainer.fit(make_module(), ckpt_path=last, weights_only=True)
        (folder / FINISHED).touch()
    return _collect(network, folder, n_resumed, is_watched=is_watched)


def _make_trainer(recipe: Recipe, folder: Path, record: Record, n_samples: int, *, is_watched: bool) -> pl.Trainer:
    device = choose_device()
    precision = recipe.precision or native_precision(device)
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("float16 needs a GPU; this machine has none. Ask for bfloat16 or float32, or leave it open.")
    n_gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    n_devices = recipe.devices or max(1, min(n_gpus, n_samples // (recipe.batch_size * _STEPS_WORTH_A_GPU)))
    callbacks: list[pl.Callback] = [record]
    if is_watched:
        callbacks += [
            EarlyStopping(MONITORED, patience=recipe.patience, check_on_train_epoch_end=True),
            _checkpoint(folder, BEST, monitor=MONITORED),
        ]
    callbacks.append(_checkpoint(folder, LAST, monitor=None))  # after the others, whose state it keeps
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


def _collect(network: nn.Module, folder: Path, n_resumed: int, *, is_watched: bool) -> Course:
    """Read what training left: the best weights, and the figures of the epochs."""
    last = load_checkpoint(folder / LAST)
    epochs = last["callbacks"][Record.__name__]["epochs"]
    judged = MONITORED if is_watched else "loss"
    finite = [figures for figures in epochs if math.isfinite(figures[judged])]
    if not finite:
        raise ModelError(
            "The loss was not finite from the first epoch on; expected it to fall. Lower the learning rate, or train "
            "in float32."
        )
    best = load_checkpoint(folder / BEST)["state_dict"] if is_watched else last["state_dict"]
    weights = {name.removeprefix(_AVERAGE): t for name, t in best.items() if name.startswith(_AVERAGE)}
    network.to("cpu").load_state_dict(weights)
    network.eval()
    best_epoch = min(finite, key=lambda figures: figures[MONITORED])["epoch"] if is_watched else len(epochs)
    return Course(epochs, int(best_epoch), n_resumed)


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

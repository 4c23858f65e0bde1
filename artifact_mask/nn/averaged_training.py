"""What all trainings have in common, as Lightning wants it: optimiser, the moving average, what is recorded."""

import copy
import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from torch import nn

from artifact_mask.nn.training_folder import Tell

WEIGHT_DECAY = 1e-2
PLATEAU_SHARE = 0.4
"""Of the patience: epochs without improvement after which the learning rate is reduced."""
WARM_UP_STEPS, WARM_UP_EPOCHS = 40, 3
"""In which the learning rate rises, whichever is shorter."""
MONITORED = "loss_held_out"
FIGURES = ("loss", MONITORED, "accuracy_held_out", "f1_held_out")
"""Of an epoch, as far as the training logs them."""

LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")

_AHEAD = 2
"""Batches that are made while the network computes."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Hyperparameters:
    """What Lightning's module needs to know of a recipe.

    Attributes
    ----------
    batch_size
        Samples in one step of one process.
    learning_rate
        At the start, after a warm-up.
    patience
        Epochs without improvement after which training stops.
    seed
        Of order and augmentation.
    most_averaged
        Share of the moving average that a step leaves; less in the first steps.
    """

    batch_size: int
    learning_rate: float
    patience: int
    seed: int
    most_averaged: float = 0.99


class AveragedTraining(pl.LightningModule):
    """Train a network, and a moving average of it, which is what is kept.

    Parameters
    ----------
    network
        To train, in place.
    hyper
        Batch size, learning rate, patience, seed.
    is_watched
        Whether there are held-out samples. The learning rate is reduced where their loss stays; if there are none, it
        falls along a cosine.
    """

    def __init__(self, network: nn.Module, hyper: Hyperparameters, *, is_watched: bool) -> None:
        super().__init__()
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._hyper, self._is_watched = hyper, is_watched

    def setup(self, stage: str) -> None:
        """Keep Lightning quiet in processes of its own."""
        if self.trainer.world_size > 1:
            silence_lightning()

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self._hyper.learning_rate, weight_decay=WEIGHT_DECAY)
        if not self._is_watched:
            n_epochs = self.trainer.max_epochs or 1
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling}}
        patience = max(1, round(PLATEAU_SHARE * self._hyper.patience))
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": MONITORED}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Raise the learning rate in the first steps, while the batch norms settle."""
        step, n_steps = self.global_step, min(WARM_UP_STEPS, WARM_UP_EPOCHS * int(self.trainer.num_training_batches))
        if step < n_steps:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self._hyper.learning_rate * (step + 1) / n_steps

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the average follow."""
        share = 1 - min(self._hyper.most_averaged, self.global_step / (self.global_step + 9))
        with torch.no_grad():
            trained = self.network.state_dict()
            for name, mean in self.average.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(trained[name], share)
                else:
                    mean.copy_(trained[name])


def make_ahead(make: Callable[[int], Made], n: int) -> Iterator[Made]:
    """Make some things in threads, a few ahead of their use, in order."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        ahead: deque[Future[Made]] = deque()
        for number in range(n):
            ahead.append(pool.submit(make, number))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class Record(pl.Callback):
    """Keep the figures of each epoch, in the checkpoints too, and tell of those that are better.

    Parameters
    ----------
    tell
        Told a line now and then; in a process beside the first one, standard error is.
    """

    def __init__(self, tell: Tell | None) -> None:
        self.epochs: list[dict[str, float]] = []
        self._tell = tell
        self._started = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what another process cannot have."""
        return self.__dict__ | {"_tell": None if self._tell is None else _print}

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.epochs = list(state_dict["epochs"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record an epoch."""
        logged = trainer.callback_metrics
        figures = {name: float(logged[name]) for name in FIGURES if name in logged}
        seconds = time.monotonic() - self._started
        figures |= {"epoch": trainer.current_epoch + 1, "seconds": round(seconds, 2)}
        figures["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        is_best = MONITORED in figures and all(figures[MONITORED] < earlier[MONITORED] for earlier in self.epochs)
        self.epochs.append(figures)
        if self._tell is not None and trainer.is_global_zero and (is_best or figures["epoch"] % 10 == 0):
            self._tell(_describe(figures, is_best=is_best))


def _describe(figures: dict[str, float], *, is_best: bool) -> str:
    said = f"epoch {figures['epoch']:.0f}: loss {figures['loss']:.3f}"
    if MONITORED in figures:
        said += f", on held-out wells {figures[MONITORED]:.3f}"
    if "accuracy_held_out" in figures:
        said += f", {100 * figures['accuracy_held_out']:.1f} % right"
    if "f1_held_out" in figures:
        said += f", F1 {figures['f1_held_out']:.3f}"
    return f"{said}, {figures['seconds']:.1f} s{', the best so far' if is_best else ''}"


def silence_lightning() -> None:
    """Keep Lightning from advertising, and from warning of what is meant to be so."""
    warnings.simplefilter("ignore")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _print(line: str) -> None:
    print(line, file=sys.stderr)

"""The training of a classifier, as Lightning wants it: batches, one step, the moving average, what is recorded."""

import copy
import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from artifact_mask.kernels.augmentation import augment_tile
from artifact_mask.nn.resnet import ArtifactResNet
from artifact_mask.nn.training_folder import Tell

LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 1e-2
MOST_AVERAGED = 0.99
"""Share of the moving average that a step leaves; less in the first steps."""
OVERLAY_CHANCE = 0.25
PLATEAU_SHARE = 0.4
"""Of the patience: epochs without improvement after which the learning rate is reduced."""
WARM_UP_STEPS, WARM_UP_EPOCHS = 40, 3
"""In which the learning rate rises, whichever is shorter."""
MONITORED = "loss_held_out"

LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")

_AHEAD = 2
"""Batches that are made while the network computes."""


@dataclass(frozen=True)
class Samples:
    """Labelled tiles.

    Attributes
    ----------
    tiles
        Each ``(y, x)`` contrast of any floating dtype, all of one square shape; anything that has a length and items,
        so that pixels may be read when they are asked for, from several threads.
    labels
        ``(n,)``, 0 for clean and 1 for artifact.
    """

    tiles: Sequence[NDArray[np.floating[Any]]]
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.labels)

    def tile(self, number: int) -> NDArray[np.float32]:
        """Give one tile in single precision."""
        return np.asarray(self.tiles[number], np.float32)

    def stack(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Give some tiles as ``(n, y, x)``."""
        return np.stack([self.tile(number) for number in numbers])


@dataclass(frozen=True)
class Hyperparameters:
    """What Lightning's module needs to know of a recipe."""

    batch_size: int
    learning_rate: float
    patience: int
    seed: int


class TrainingBatches:
    """The batches of one process and epoch: both classes as often, every tile varied anew.

    Parameters
    ----------
    samples
        Of both classes.
    hyper
        Batch size and seed.
    trainer
        Tells epoch and process.
    """

    def __init__(self, samples: Samples, hyper: Hyperparameters, trainer: pl.Trainer) -> None:
        self._samples, self._hyper, self._trainer = samples, hyper, trainer
        self._of_class = [np.flatnonzero(samples.labels == label) for label in (0, 1)]

    def __len__(self) -> int:
        """Count the steps of an epoch, in which about as many tiles are seen as there are."""
        return max(1, round(len(self._samples) / (self._hyper.batch_size * self._trainer.world_size)))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Make the batches, some ahead of their use: ``(n, 1, y, x)`` contrast and ``(n,)`` classes."""
        epoch, n = self._trainer.current_epoch, self._hyper.batch_size
        order = self._order(epoch)[self._trainer.global_rank :: self._trainer.world_size]
        with ThreadPoolExecutor(_AHEAD) as pool:
            ahead: deque[Future[tuple[torch.Tensor, torch.Tensor]]] = deque()
            for step in range(len(self)):
                seed = (self._hyper.seed, epoch, step, self._trainer.global_rank)
                ahead.append(pool.submit(self._make, order[step * n : (step + 1) * n], seed))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """Draw the tiles of an epoch for all processes; classes alternate, none is drawn again before all were."""
        rng = np.random.default_rng((self._hyper.seed, epoch))
        n_total = len(self) * self._hyper.batch_size * self._trainer.world_size
        order = np.empty(n_total, np.intp)
        for label, members in enumerate(self._of_class):
            # Turn by turn, so that each process of several sees both classes as often.
            places = np.flatnonzero((np.arange(n_total) // self._trainer.world_size) % 2 == label)
            rounds = [rng.permutation(members) for _ in range(-(-len(places) // len(members)))]
            order[places] = np.concatenate(rounds)[: len(places)]
        return order

    def _make(self, numbers: NDArray[np.intp], seed: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        tiles = []
        for number in numbers:
            clean = None
            if rng.random() < OVERLAY_CHANCE:
                clean = self._samples.tile(int(rng.choice(self._of_class[0])))
            tiles.append(augment_tile(self._samples.tile(int(number)), rng, clean=clean))
        contrast = torch.from_numpy(np.stack(tiles))[:, None]
        return contrast, torch.from_numpy(self._samples.labels[numbers].astype(np.int64))


class HeldOutBatches:
    """The held-out tiles as they are, in batches; each of several processes judges them all."""

    def __init__(self, samples: Samples, batch_size: int) -> None:
        self._samples, self._batch_size = samples, batch_size

    def __len__(self) -> int:
        """Count the batches."""
        return -(-len(self._samples) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give the batches: ``(n, 1, y, x)`` contrast and ``(n,)`` classes."""
        for start in range(0, len(self._samples), self._batch_size):
            numbers = range(start, min(start + self._batch_size, len(self._samples)))
            labels = torch.from_numpy(self._samples.labels[numbers.start : numbers.stop].astype(np.int64))
            yield torch.from_numpy(self._samples.stack(numbers))[:, None], labels


class ClassifierTraining(pl.LightningModule):
    """Train a network, and a moving average of it, which is what is kept.

    Parameters
    ----------
    network
        To train, in place.
    train, held_out
        What to learn from, and what to watch.
    hyper
        Batch size, learning rate, patience, seed.
    """

    def __init__(self, network: ArtifactResNet, train: Samples, held_out: Samples, hyper: Hyperparameters) -> None:
        super().__init__()
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._train, self._held_out, self._hyper = train, held_out, hyper
        self._sums = torch.zeros(3, 2)

    def setup(self, stage: str) -> None:
        """Keep Lightning quiet in processes of its own."""
        if self.trainer.world_size > 1:
            silence_lightning()

    def train_dataloader(self) -> TrainingBatches:
        """Batches to learn from."""
        return TrainingBatches(self._train, self._hyper, self.trainer)

    def val_dataloader(self) -> HeldOutBatches:
        """Batches to watch."""
        return HeldOutBatches(self._held_out, self._hyper.batch_size)

    def configure_optimizers(self) -> Any:
        """AdamW, whose learning rate is reduced where the loss stays."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self._hyper.learning_rate, weight_decay=WEIGHT_DECAY)
        patience = max(1, round(PLATEAU_SHARE * self._hyper.patience))
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": MONITORED}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Raise the learning rate in the first steps, while the batch norms settle."""
        step, n_steps = self.global_step, min(WARM_UP_STEPS, WARM_UP_EPOCHS * int(self.trainer.num_training_batches))
        if step < n_steps:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self._hyper.learning_rate * (step + 1) / n_steps

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of a batch."""
        contrast, labels = batch
        logits = self.network(contrast.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the average follow."""
        share = 1 - min(MOST_AVERAGED, self.global_step / (self.global_step + 9))
        with torch.no_grad():
            trained = self.network.state_dict()
            for name, mean in self.average.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(trained[name], share)
                else:
                    mean.copy_(trained[name])

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._sums = torch.zeros(3, 2, device=self.device)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        """Sum up loss, hits and tiles of each class."""
        contrast, labels = batch
        logits = self.average(contrast.contiguous(memory_format=torch.channels_last)).float()
        losses = functional.cross_entropy(logits, labels, reduction="none")
        hits = (logits.argmax(dim=1) == labels).float()
        of_class = functional.one_hot(labels, 2).float()
        self._sums += torch.stack([losses @ of_class, hits @ of_class, of_class.sum(dim=0)])

    def on_validation_epoch_end(self) -> None:
        """Record the loss with both classes weighed alike, and the share of hits."""
        losses, hits, counts = self._sums
        loss = (losses / counts.clamp(min=1)).sum() / (counts > 0).sum()
        several = self.trainer.world_size > 1
        self.log(MONITORED, loss, sync_dist=several)
        self.log("accuracy_held_out", hits.sum() / counts.sum(), sync_dist=several)


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
        names = ("loss", MONITORED, "accuracy_held_out")
        figures = {name: float(trainer.callback_metrics[name]) for name in names}
        seconds = time.monotonic() - self._started
        figures |= {"epoch": trainer.current_epoch + 1, "seconds": round(seconds, 2)}
        figures["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        is_best = all(figures[MONITORED] < earlier[MONITORED] for earlier in self.epochs)
        self.epochs.append(figures)
        if self._tell is not None and trainer.is_global_zero and (is_best or figures["epoch"] % 10 == 0):
            best = ", the best so far" if is_best else ""
            self._tell(
                f"epoch {figures['epoch']}: loss {figures['loss']:.3f}, on held-out wells {figures[MONITORED]:.3f}, "
                f"{100 * figures['accuracy_held_out']:.1f} % right, {seconds:.1f} s{best}"
            )


def silence_lightning() -> None:
    """Keep Lightning from advertising, and from warning of what is meant to be so."""
    warnings.simplefilter("ignore")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _print(line: str) -> None:
    print(line, file=sys.stderr)

"""The training of a classifier, as Lightning wants it: batches, one step, and what is watched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from artifact_mask.kernels.augmentation import augment_tile
from artifact_mask.nn.averaged_training import MONITORED, AveragedTraining, Hyperparameters, make_ahead
from artifact_mask.nn.resnet import ArtifactResNet

LABEL_SMOOTHING = 0.05
OVERLAY_CHANCE = 0.25


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

        def make(step: int) -> tuple[torch.Tensor, torch.Tensor]:
            seed = (self._hyper.seed, epoch, step, self._trainer.global_rank)
            return self._make(order[step * n : (step + 1) * n], seed)

        yield from make_ahead(make, len(self))

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


class ClassifierTraining(AveragedTraining):
    """Train a classifier.

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
        super().__init__(network, hyper, is_watched=True)
        self._train, self._held_out = train, held_out
        self._sums = torch.zeros(3, 2)

    def train_dataloader(self) -> TrainingBatches:
        """Batches to learn from."""
        return TrainingBatches(self._train, self._hyper, self.trainer)

    def val_dataloader(self) -> HeldOutBatches:
        """Batches to watch."""
        return HeldOutBatches(self._held_out, self._hyper.batch_size)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of a batch."""
        contrast, labels = batch
        logits = self.network(contrast.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=self.trainer.world_size > 1)
        return loss

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

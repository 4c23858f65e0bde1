"""The training of a U-Net, as Lightning wants it: batches of crops, one step, and what is watched."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from artifact_mask.kernels.augmentation import defocus, relight, shade
from artifact_mask.kernels.composition import Cutout, compose
from artifact_mask.kernels.crops import (
    TrainingField,
    choose_place,
    cut_crop,
    learn_false_alarms,
    prepare_field,
)
from artifact_mask.nn.averaged_training import MONITORED, AveragedTraining, Hyperparameters, make_ahead
from artifact_mask.nn.unet import ArtifactUNet

CROPS_PER_FIELD = 32
FEWEST_STEPS, MOST_STEPS = 20, 500
"""Of an epoch."""
ENTROPY_WEIGHT = 5.0
DICE_SMOOTHING_PX = 100.0

_CROPS_PER_DRAWN_FIELD = 48
_MOST_DRAWN = 64
_ALARM_EVERY, _ALARM_FIELDS = 5, 24
"""Epochs after which false alarms are looked for, and in how many fields."""

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Contrast, target and weight, each ``(n, 1, y, x)``."""


@dataclass(frozen=True)
class CropSamples:
    """Labelled fields to cut crops from.

    Attributes
    ----------
    fields
        Anything that has a length and items, so that pixels may be read when they are asked for, from several threads.
    chances
        ``(n,)``, how often crops are cut from each field; None for all alike.
    cutouts
        Debris to paste into fields.
    drawn_share
        Share of the crops that are cut from fields with artifacts and stain drawn in, see
        :func:`artifact_mask.kernels.composition.compose`.
    crop_px
        Side of the crops.
    """

    fields: Sequence[TrainingField]
    chances: NDArray[np.float64] | None = None
    cutouts: Sequence[Cutout] = ()
    drawn_share: float = 0.35
    crop_px: int = 256

    def __len__(self) -> int:
        """Count the crops of an epoch, all processes together, as far as their number is not limited."""
        return len(self.fields) * CROPS_PER_FIELD

    def choose(self, n: int, rng: np.random.Generator) -> list[int]:
        """Choose some fields, as often as their chances say."""
        p = None if self.chances is None else self.chances / self.chances.sum()
        return [int(number) for number in rng.choice(len(self.fields), n, p=p)]


class CropBatches:
    """The crops of one process and epoch.

    Parameters
    ----------
    samples
        To cut from.
    alarms
        Fields by their number whose false alarms have been learnt; filled between epochs.
    hyper
        Batch size and seed.
    trainer
        Tells epoch and process.
    """

    def __init__(
        self, samples: CropSamples, alarms: dict[int, TrainingField], hyper: Hyperparameters, trainer: pl.Trainer
    ) -> None:
        self._samples, self._alarms, self._hyper, self._trainer = samples, alarms, hyper, trainer

    def __len__(self) -> int:
        """Count the steps of an epoch."""
        n_steps = len(self._samples) // (self._hyper.batch_size * self._trainer.world_size)
        return int(np.clip(n_steps, FEWEST_STEPS, MOST_STEPS))

    def __iter__(self) -> Iterator[Batch]:
        """Make the batches, some ahead of their use."""
        seed = (self._hyper.seed, self._trainer.current_epoch, self._trainer.global_rank)
        with ThreadPoolExecutor(1) as pool:
            drawn = self._draw(pool, seed)
            yield from make_ahead(lambda step: self._make(drawn, (*seed, step)), len(self))

    def _draw(self, pool: ThreadPoolExecutor, seed: tuple[int, ...]) -> list[Future[TrainingField]]:
        """Begin to draw artifacts into some fields; the first are used while the last are drawn."""
        samples = self._samples
        n_crops = samples.drawn_share * len(self) * self._hyper.batch_size
        n_drawn = min(math.ceil(n_crops / _CROPS_PER_DRAWN_FIELD), _MOST_DRAWN)
        numbers = samples.choose(n_drawn, np.random.default_rng(seed))

        def draw(number: int, turn: int) -> TrainingField:
            rng = np.random.default_rng((*seed, turn, number))
            return prepare_field(compose(samples.fields[number].truth_field, samples.cutouts, rng))

        return [pool.submit(draw, number, turn) for turn, number in enumerate(numbers)]

    def _make(self, drawn: list[Future[TrainingField]], seed: tuple[int, ...]) -> Batch:
        rng, n = np.random.default_rng(seed), self._hyper.batch_size
        n_drawn = int(rng.binomial(n, self._samples.drawn_share)) if drawn else 0
        step = seed[-1]
        # Those that are drawn by now, as far as steps tell: what is made must not depend on how fast threads are.
        ready = 1 + step * len(drawn) // len(self)
        fields = [drawn[int(rng.integers(ready))].result() for _ in range(n_drawn)]
        fields += [self._field(number) for number in self._samples.choose(n - n_drawn, rng)]
        kinds = (rng.permutation(n) + 0.5) / n
        layers = [self._cut(field, float(kind), rng) for field, kind in zip(fields, kinds, strict=True)]
        contrast, target, weight = (torch.from_numpy(np.stack(each))[:, None] for each in zip(*layers, strict=True))
        return contrast, target, weight

    def _field(self, number: int) -> TrainingField:
        found = self._alarms.get(number)
        return self._samples.fields[number] if found is None else found

    def _cut(self, field: TrainingField, kind: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        size = self._samples.crop_px
        crop = cut_crop(field, choose_place(field, kind, size, rng), size, rng)
        return relight(defocus(shade(crop.contrast, rng), rng), rng), crop.target, crop.weight


class WholeFields:
    """The held-out fields one by one, padded to the network's stride; each of several processes judges them all."""

    def __init__(self, fields: Sequence[TrainingField], stride_px: int) -> None:
        self._fields, self._stride_px = fields, stride_px

    def __len__(self) -> int:
        """Count the fields."""
        return len(self._fields)

    def __iter__(self) -> Iterator[Batch]:
        """Give the fields; what is padded has no weight."""
        for number in range(len(self)):
            field = self._fields[number]
            yield (
                pad_to_stride(field.contrast, self._stride_px),
                pad_to_stride(field.is_artifact, self._stride_px),
                pad_to_stride(field.weight, self._stride_px, mode="constant"),
            )


def pad_to_stride(plane: NDArray[np.generic], stride_px: int, mode: str = "symmetric") -> torch.Tensor:
    """Lengthen a plane ``(y, x)`` at its far ends to multiples of a stride, as ``(1, 1, y, x)`` float32."""
    padding = [(0, -n % stride_px) for n in plane.shape]
    return torch.from_numpy(np.pad(plane.astype(np.float32), padding, mode=mode))[None, None]  # type: ignore[call-overload]


class UNetTraining(AveragedTraining):
    """Train a U-Net.

    Parameters
    ----------
    network
        To train, in place.
    train
        What to learn from.
    held_out
        What to watch; may be empty.
    stride_px
        What the network wants the sides of a field to be multiples of.
    hyper
        Batch size, learning rate, patience, seed.
    """

    def __init__(
        self,
        network: ArtifactUNet,
        train: CropSamples,
        held_out: Sequence[TrainingField],
        stride_px: int,
        hyper: Hyperparameters,
    ) -> None:
        super().__init__(network, hyper, is_watched=bool(held_out))
        self._train, self._held_out, self._stride_px = train, held_out, stride_px
        self._alarms: dict[int, TrainingField] = {}
        self._sums = torch.zeros(5)

    def train_dataloader(self) -> CropBatches:
        """Batches to learn from."""
        return CropBatches(self._train, self._alarms, self._hyper, self.trainer)

    def val_dataloader(self) -> WholeFields | list[Batch]:
        """Fields to watch."""
        return WholeFields(self._held_out, self._stride_px) if self._held_out else []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of a batch."""
        contrast, target, weight = batch
        logit = self.network(contrast.contiguous(memory_format=torch.channels_last)).float()
        loss = segmentation_loss(logit, target, weight)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def on_train_epoch_end(self) -> None:
        """Look for false alarms in some fields now and then, which the next epochs show more often."""
        epoch = self.trainer.current_epoch + 1
        if epoch % _ALARM_EVERY:
            return
        rng = np.random.default_rng((self._hyper.seed, epoch))
        numbers = rng.permutation(len(self._train.fields))[:_ALARM_FIELDS]
        self._alarms.clear()
        for number in numbers:
            field = self._train.fields[int(number)]
            self._alarms[int(number)] = learn_false_alarms(field, self._predict(field.contrast))

    def _predict(self, contrast: NDArray[np.float16]) -> NDArray[np.float32]:
        height, width = contrast.shape
        padded = pad_to_stride(contrast, self._stride_px).to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
            probability = torch.sigmoid(self.average(padded).float())
        found: NDArray[np.float32] = probability[0, 0, :height, :width].cpu().numpy()
        return found

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._sums = torch.zeros(5, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum up the loss, and what is artifact, is called so, and is both."""
        contrast, target, weight = batch
        logit = self.average(contrast.contiguous(memory_format=torch.channels_last)).float()
        called, known = (logit > 0).float(), (weight > 0).float()
        pixels = [(known * part).sum() for part in (target, called, target * called)]
        self._sums += torch.stack([segmentation_loss(logit, target, weight), torch.ones_like(pixels[0]), *pixels])

    def on_validation_epoch_end(self) -> None:
        """Record the mean loss of the fields, and F1 over all their pixels at a probability of 0.5."""
        loss, n_fields, n_true, n_called, n_both = self._sums
        several = self.trainer.world_size > 1
        self.log(MONITORED, loss / n_fields, sync_dist=several)
        self.log("f1_held_out", 2 * n_both / (n_true + n_called).clamp(min=1), sync_dist=several)


def segmentation_loss(logit: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus soft Dice over a batch.

    Parameters
    ----------
    logit, target, weight
        ``(n, 1, y, x)``; pixels of weight 0 are left out.
    """
    entropy = functional.binary_cross_entropy_with_logits(logit, target, weight=weight, reduction="sum")
    probability = torch.sigmoid(logit)
    overlap = (weight * probability * target).sum()
    total = (weight * (probability + target)).sum()
    dice = 1 - (2 * overlap + DICE_SMOOTHING_PX) / (total + DICE_SMOOTHING_PX)
    return ENTROPY_WEIGHT * entropy / weight.sum().clamp(min=1) + dice

"""Crops for training: where they are cut, how they are turned, and how their light is varied."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from training.compose import BACKGROUND, BLOB, DEBRIS, IGNORE, WELL_EDGE, LabelledField

CROP_PX = 256


class FieldOfCrops:
    """A labelled field as tensors, with the places worth cutting crops from.

    Parameters
    ----------
    field
        The field.
    """

    def __init__(self, field: LabelledField) -> None:
        contrast, classes = field
        self.shape = contrast.shape
        target = np.isin(classes, (DEBRIS, BLOB, WELL_EDGE))
        self.layers = torch.from_numpy(np.stack([contrast, target, _pixel_weights(classes)]).astype(np.float32))[None]
        self.negative = classes == BACKGROUND
        self.objects = _object_places(classes)
        # Dark, grainy background is stained cytoplasm: what a network takes for debris first.
        self.hard = _places(np.where(self.negative, ndimage.uniform_filter(np.clip(-contrast - 0.4, 0, 3), 15), 0))

    def learn_from(self, probability: NDArray[np.float32]) -> None:
        """Take the network's own false alarms on this field as the hard places from now on."""
        alarm = np.where(self.negative, probability, 0)
        alarm[alarm < 0.1] = 0
        if alarm.any():
            self.hard = np.concatenate([self.hard[-60:], _places(alarm)])

    def place(self, kind: float, rng: np.random.Generator) -> tuple[float, float]:
        """Choose a crop's centre ``(y, x)``: an object, a hard negative, or anywhere."""
        places = self.objects if kind < 0.45 else self.hard if kind < 0.75 else self.objects[:0]
        if len(places):
            y, x = places[rng.integers(len(places))] + rng.uniform(-0.4, 0.4, 2) * CROP_PX
        else:
            y, x = rng.uniform(0, self.shape)
        return float(np.clip(y, 0, self.shape[0])), float(np.clip(x, 0, self.shape[1]))


def _pixel_weights(classes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Weigh small debris up, so that an object counts for more than its area, and the large shadows down."""
    weights = np.ones(classes.shape, np.float32)
    labels, n = ndimage.label(classes == DEBRIS, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    weights_of_labels = np.concatenate([[1], np.clip(300 / np.maximum(areas, 1), 1, 4)])
    weights = weights_of_labels[labels].astype(np.float32)
    weights[(classes == BLOB) | (classes == WELL_EDGE)] = 0.8
    weights[classes == IGNORE] = 0
    return weights


def _object_places(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """List one place ``(n, 2)`` for every piece of debris and shadow, and a few along a well edge."""
    places: list[tuple[float, float]] = []
    for kind in (DEBRIS, BLOB):
        labels, n = ndimage.label(classes == kind, np.ones((3, 3)))
        places += ndimage.center_of_mass(labels > 0, labels, range(1, n + 1))
    rim = (classes == WELL_EDGE) & ~ndimage.binary_erosion(classes == WELL_EDGE, iterations=2)
    ys, xs = np.nonzero(rim)
    places += [(ys[i], xs[i]) for i in range(0, len(ys), max(len(ys) // 4, 1))]
    return np.array(places, dtype=np.float64).reshape(-1, 2)


def _places(score: NDArray[np.floating], n: int = 60) -> NDArray[np.float64]:
    """Draw ``n`` places in proportion to a non-negative score, reproducibly."""
    flat = np.cumsum(score.ravel(), dtype=np.float64)
    if flat[-1] <= 0:
        return np.zeros((0, 2))
    index = np.searchsorted(flat, (np.arange(n) + 0.5) / n * flat[-1])
    return np.stack(np.unravel_index(index, score.shape), axis=-1).astype(np.float64)


def draw_batch(
    fields: list[FieldOfCrops], weights: NDArray[np.float64], n: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut, turn and relight a batch of crops.

    Parameters
    ----------
    fields, weights
        Where from, and how often each.
    n
        Crops in the batch.
    rng
        Decides everything.

    Returns
    -------
    tuple
        Contrast, target and pixel weight, each ``(n, 1, y, x) float32``.
    """
    crops = [
        _cut(fields[i], kind, rng)
        for i, kind in zip(rng.choice(len(fields), n, p=weights), (rng.permutation(n) + 0.5) / n, strict=True)
    ]
    contrast, target, weight = torch.cat(crops).split(1, dim=1)
    return _relight(contrast, rng), target.contiguous(), weight.contiguous()


def _cut(field: FieldOfCrops, kind: float, rng: np.random.Generator) -> torch.Tensor:
    """Cut one crop, half of them turned by any angle and resized, half by right angles alone."""
    height, width = field.shape
    y, x = field.place(kind, rng)
    if rng.random() < 0.5:
        y0 = int(np.clip(y - CROP_PX / 2, 0, height - CROP_PX))
        x0 = int(np.clip(x - CROP_PX / 2, 0, width - CROP_PX))
        crop = field.layers[:, :, y0 : y0 + CROP_PX, x0 : x0 + CROP_PX].rot90(int(rng.integers(4)), dims=(2, 3))
        return crop.flip(3) if rng.random() < 0.5 else crop
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.3, 0.3))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    turn[:, 0] *= rng.choice([-1, 1])
    scale = CROP_PX / np.array([width, height])
    # Keep the turned crop mostly inside; what sticks out is a reflection.
    margin = 0.6 * CROP_PX * zoom
    centre = np.array([np.clip(x, margin, width - margin), np.clip(y, margin, height - margin)])
    theta = np.empty((1, 2, 3), np.float32)
    theta[0, :, :2] = turn * scale[:, None]
    theta[0, :, 2] = 2 * centre / [width, height] - 1
    grid = functional.affine_grid(torch.from_numpy(theta), [1, 1, CROP_PX, CROP_PX], align_corners=False)
    soft = functional.grid_sample(field.layers[:, :1], grid, padding_mode="reflection", align_corners=False)
    hard = functional.grid_sample(
        field.layers[:, 1:], grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return torch.cat([soft, hard], dim=1)


def _relight(contrast: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary gain, offset, illumination, sharpness and noise of a batch."""
    n = len(contrast)
    draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
    gain = torch.from_numpy(np.exp(rng.uniform(-0.22, 0.22, (n, 1, 1, 1))).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, 0.04, (n, 1, 1, 1)).astype(np.float32))
    slope = torch.randn((n, 1, 3, 3), generator=draw) * torch.rand((n, 1, 1, 1), generator=draw) * 0.04
    slope = functional.interpolate(slope, size=contrast.shape[2:], mode="bicubic", align_corners=True)
    varied = contrast * gain + offset + slope
    sigma = rng.uniform(0.4, 1.3)
    taps = torch.exp(-0.5 * (torch.arange(-4, 5) / sigma) ** 2)
    taps /= taps.sum()
    blurred = rng.random(n) < 0.25
    if blurred.any():
        part = functional.pad(varied[blurred], (4, 4, 4, 4), mode="reflect")
        part = functional.conv2d(functional.conv2d(part, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
        varied[blurred] = part
    noise = torch.rand((n, 1, 1, 1), generator=draw) ** 2 * 0.12
    return varied + noise * torch.randn(contrast.shape, generator=draw)

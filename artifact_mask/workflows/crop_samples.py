"""What a U-Net's crops are cut from: labelled fields, simulated ones, and debris to paste."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from artifact_mask.config import TrainUNetConfig
from artifact_mask.kernels.composition import Cutout, cut_out_debris
from artifact_mask.kernels.crops import TrainingField, prepare_field
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.truth import TruthField
from artifact_mask.workflows.training_fields import TrainingFields

if TYPE_CHECKING:
    from artifact_mask.nn.fit_unet import CropSamples

SIMULATED_SHARE = 0.125
MOST_CUTOUTS = 500
"""Pieces of debris that are kept to be pasted."""
SIMULATED_SIDE_UM = 324.0


def sample_crops(config: TrainUNetConfig, train: TrainingFields, simulated: list[TrainingField]) -> "CropSamples":
    """Put labelled and simulated fields together, with debris to paste.

    Parameters
    ----------
    config
        How much is simulated and drawn in, and how large crops are.
    train
        Labelled fields.
    simulated
        What :func:`simulate_fields` drew.
    """
    from artifact_mask.nn.fit_unet import CropSamples

    chances = None
    if simulated:
        shares = ((1 - SIMULATED_SHARE, len(train)), (SIMULATED_SHARE, len(simulated)))
        chances = np.concatenate([np.full(n, share / n) for share, n in shares])
    cutouts = _cut_out(train, config.seed) if config.drawn else []
    return CropSamples(_Chained(train, simulated), chances, cutouts, config.drawn, config.crop_px)


def _cut_out(train: TrainingFields, seed: int) -> list[Cutout]:
    """Cut debris out of fields in a random order, until there is enough."""
    cutouts: list[Cutout] = []
    for number in np.random.default_rng(seed).permutation(len(train)):
        cutouts += cut_out_debris(train[int(number)].truth_field)
        if len(cutouts) >= MOST_CUTOUTS:
            break
    return cutouts[:MOST_CUTOUTS]


def simulate_fields(n: int, pixel_size_um: float, seed: int) -> list[TrainingField]:
    """Draw simulated fields at a pixel size, crowded with artifacts."""
    side = round(SIMULATED_SIDE_UM / pixel_size_um)
    drawn = []
    for number in range(n):
        rng = np.random.default_rng((seed, number))
        density = float(np.exp(rng.uniform(-1, 1.5)))
        scene = draw_scene(
            (side, side),
            seed=(seed, number),
            dose=rng.uniform(),
            pixel_size_um=pixel_size_um,
            artifact_density=density,
        )
        contrast = normalise_by_background(scene.image[0], estimate_background(scene.image[0]))
        # Outlined as loosely as people do.
        outlined = ndimage.binary_dilation(scene.artifacts > 0, iterations=2)
        drawn.append(prepare_field(TruthField(contrast, outlined.astype(np.uint8))))
    return drawn


class _Chained(Sequence[TrainingField]):
    """Fields of two kinds, one after the other."""

    def __init__(self, first: Sequence[TrainingField], second: Sequence[TrainingField]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: int) -> TrainingField:  # type: ignore[override]  # no slices
        n = len(self._first)
        return self._first[index] if index < n else self._second[index - n]

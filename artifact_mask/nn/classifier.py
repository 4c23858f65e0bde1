"""Which tiles of a field of view show artifacts: a trained classifier on one device."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck

from artifact_mask.config import Precision
from artifact_mask.errors import ImageError
from artifact_mask.nn.checkpoint import load_model
from artifact_mask.nn.device import (
    choose_device,
    fastest_precision,
    halve_when_full,
    inference_on,
    to_device,
)
from artifact_mask.nn.model_card import ClassifierCard
from artifact_mask.nn.resnet import ARTIFACT, ArtifactResNet

_BATCH_PX = {"cpu": 600_000, "cuda": 16_000_000}
"""Pixels in one forward pass."""


@dataclass(frozen=True)
class Classifier:
    """A classifier ready to judge tiles on one device; make one with :meth:`load`.

    Attributes
    ----------
    network
        In evaluation mode, on the device.
    card
        The card of the model: the tile size and pixel size that it wants.
    device
        Where the network lies.
    dtype
        What convolutions compute in.
    """

    network: ArtifactResNet
    card: ClassifierCard
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device | None = None, *, precision: Precision | None = None
    ) -> "Classifier":
        """Read a classifier and put it on a device.

        Parameters
        ----------
        path
            The model file.
        device
            As torch names it; a GPU if there is one, else the CPU, if not given.
        precision
            What convolutions compute in. If not given, the fastest that the device computes natively.

        Raises
        ------
        ModelError
            If the file is not a classifier, see :func:`artifact_mask.nn.checkpoint.load_model`.
        """
        network, card = load_model(path, ClassifierCard)
        assert isinstance(network, ArtifactResNet)
        return cls.place(network, card, device, precision=precision)

    @classmethod
    def place(
        cls,
        network: ArtifactResNet,
        card: ClassifierCard,
        device: str | torch.device | None = None,
        *,
        precision: Precision | None = None,
    ) -> "Classifier":
        """Put a trained network on a device; it is changed, batch norms are merged into convolutions."""
        chosen = choose_device(device)
        network = network.eval().requires_grad_(False)
        fold_batch_norms(network)
        network = network.to(chosen).to(memory_format=torch.channels_last)
        return cls(network, card, chosen, getattr(torch, precision or fastest_precision(chosen)))

    def predict(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict the probability that a tile has an artifact.

        Parameters
        ----------
        tiles
            ``(n, y, x)`` contrast, normalised and sampled as the card says.

        Returns
        -------
        NDArray[np.float32]
            ``(n,)``, 0..1.

        Raises
        ------
        ImageError
            If a value is not finite: the result would mean nothing.
        """
        if not np.isfinite(tiles).all():
            raise ImageError(
                "Found values that are not finite; expected contrast against a background. "
                "Look for a background of 0 or a damaged image."
            )
        in_pass = _BATCH_PX.get(self.device.type, _BATCH_PX["cpu"])
        n_batch = max(1, in_pass // max(1, tiles.shape[1] * tiles.shape[2]))
        parts = [
            halve_when_full(self._run, np.ascontiguousarray(tiles[start : start + n_batch], np.float32))
            for start in range(0, len(tiles), n_batch)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _run(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        with inference_on(self.device, self.dtype):
            logits = self.network(to_device(tiles, self.device))
            probability: NDArray[np.float32] = torch.softmax(logits.float(), dim=1)[:, ARTIFACT].cpu().numpy()
        return probability


def fold_batch_norms(network: ArtifactResNet) -> None:
    """Merge every batch norm into the convolution before it, in place: the same numbers with less to compute."""
    _fold(network.stages, "conv1", "bn1")
    for block in network.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            for number in (1, 2, 3):
                if hasattr(block, f"conv{number}"):
                    _fold(block, f"conv{number}", f"bn{number}")
            if isinstance(block.downsample, nn.Sequential):
                _fold(block.downsample, "0", "1")


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    before, after = parent.get_submodule(convolution), parent.get_submodule(norm)
    if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
        setattr(parent, convolution, fuse_conv_bn_eval(before, after))
        setattr(parent, norm, nn.Identity())

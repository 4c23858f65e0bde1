"""Where a field of view shows artifacts: the network applied to whole fields."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.blocks.convolutions import Convolution
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from artifact_mask.config import Precision
from artifact_mask.errors import ImageError
from artifact_mask.kernels.tiles import Tile, plan_tiles
from artifact_mask.nn.checkpoint import load_model
from artifact_mask.nn.device import (
    choose_device,
    fastest_precision,
    halve_when_full,
    inference_on,
    native_precision,
    to_device,
)
from artifact_mask.nn.model_card import UNetCard, find_unet

_WHOLE_PX = 6_000_000
"""Fields up to this size are predicted whole: no halo is computed twice. About 100 bytes of memory a pixel."""
_CORE_PX = 1536
_BATCH_PX = {"cpu": 1_500_000, "cuda": 64_000_000}
"""Pixels in one forward pass. A CPU is fastest at one 1080x1080 field: more fall out of its caches."""


@dataclass(frozen=True)
class Segmenter:
    """A network ready to predict on one device; make one with :meth:`load`.

    Attributes
    ----------
    network
        In evaluation mode, on the device.
    card
        The card of the model: its threshold and smallest object are for whoever turns probabilities into labels.
    device
        Where the network lies.
    dtype
        What convolutions compute in.

    Notes
    -----
    The number of torch threads is left as the caller set it. Calls must not overlap on one device; put a lock around
    them.
    """

    network: nn.Module
    card: UNetCard
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        precision: Precision | None = None,
    ) -> "Segmenter":
        """Read a model and put it on a device.

        Parameters
        ----------
        path
            The model file; the one that artmask ships if not given.
        device
            As torch names it; a GPU if there is one, else the CPU, if not given.
        precision
            What convolutions compute in. If not given, the fastest that a GPU computes natively, and ``"float32"`` on
            a CPU.

        Raises
        ------
        ModelError
            If the file is not a model, see :func:`artifact_mask.nn.checkpoint.load_model`.

        Notes
        -----
        On real fields ``"bfloat16"`` moved probabilities by at most 0.04, and 1 artifact pixel in 1000 across
        the threshold. A CPU with AVX512-BF16 or AMX takes 0.6 of the time with it, any other CPU takes longer.
        """
        network, card = load_model(find_unet() if path is None else path, UNetCard)
        return cls._place(network, card, choose_device(device), precision)

    @classmethod
    def of(cls, network: nn.Module, card: UNetCard, device: str | torch.device | None = None) -> "Segmenter":
        """Put a copy of a network on a device, in the fastest precision that this computes natively.

        Parameters
        ----------
        network
            Trained; it stays as it is.
        card
            Its architecture, threshold and smallest object.
        device
            As in :meth:`load`.
        """
        chosen = choose_device(device)
        return cls._place(copy.deepcopy(network).eval(), card, chosen, native_precision(chosen))

    @classmethod
    def _place(
        cls, network: nn.Module, card: UNetCard, chosen: torch.device, precision: Precision | None
    ) -> "Segmenter":
        _fold_batch_norms(network)
        network = network.requires_grad_(False).to(chosen).to(memory_format=torch.channels_last)
        return cls(network, card, chosen, getattr(torch, precision or fastest_precision(chosen)))

    def predict(self, contrast: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict the probability of artifact for every pixel.

        Parameters
        ----------
        contrast
            ``(n, y, x)``, normalised as the card says, see
            :func:`artifact_mask.kernels.illumination.normalise_by_background`. Any ``n``, any size of field.

        Returns
        -------
        NDArray[np.float32]
            ``(n, y, x)``, 0..1.

        Raises
        ------
        ImageError
            If the axes are wrong, a field has no pixels, or a value is not finite: the result would look clean.

        Notes
        -----
        Fields are reflected up to the network's stride at the far ends. Large ones are cut into tiles that read a halo
        as wide as the network sees, so that tiles and whole fields give the same probabilities up to rounding.
        """
        if contrast.ndim != 3 or 0 in contrast.shape[1:]:
            raise ImageError(
                f"Found an array of shape {contrast.shape}; expected fields (n, y, x) with pixels in them. "
                "Add an axis to a single field."
            )
        if not np.isfinite(contrast).all():
            raise ImageError(
                "Found values that are not finite; expected contrast against a background. "
                "Look for a background of 0 or a damaged image."
            )
        n, height, width = contrast.shape
        spec = self.card.architecture
        stride = spec.stride_px
        padding = ((0, 0), (0, -height % stride), (0, -width % stride))
        shape = (height + padding[1][1], width + padding[2][1])
        result = np.empty(contrast.shape, np.float32)
        for tile in _tiles(shape, spec.receptive_radius_px, stride):
            ys, xs = tile.read
            n_batch = max(1, self._batch_px // ((ys.stop - ys.start) * (xs.stop - xs.start)))
            for start in range(0, n, n_batch):
                # Padding a few fields at a time: a large batch is never copied whole.
                part = np.pad(contrast[start : start + n_batch], padding, mode="reflect")
                probability = halve_when_full(self._run, np.ascontiguousarray(part[:, ys, xs], dtype=np.float32))
                target = result[(slice(start, start + n_batch), *tile.core)]  # ends where the padding starts
                target[:] = probability[(slice(None), *tile.inner)][:, : target.shape[1], : target.shape[2]]
        return result

    def planes_per_batch(self, shape: tuple[int, ...]) -> int:
        """Planes of a shape ``(y, x)`` that the device computes best at once."""
        return max(1, self._batch_px // (shape[0] * shape[1]))

    @property
    def _batch_px(self) -> int:
        return _BATCH_PX.get(self.device.type, _BATCH_PX["cpu"])

    def _run(self, fields: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict fields ``(n, y, x)`` whose sides suit the network."""
        with inference_on(self.device, self.dtype):
            logit = self.network(to_device(fields, self.device))
            array: NDArray[np.float32] = torch.sigmoid(logit.float())[:, 0].contiguous().cpu().numpy()
        return array


def _tiles(shape: tuple[int, int], halo_px: int, stride: int) -> list[Tile]:
    if shape[0] * shape[1] <= _WHOLE_PX:
        return plan_tiles(shape, core_px=max(shape), halo_px=0, multiple=stride)
    return plan_tiles(shape, core_px=_CORE_PX, halo_px=halo_px, multiple=stride)


def _fold_batch_norms(network: nn.Module) -> None:
    """Merge every batch norm into the convolution before it, in place: the same numbers with less to compute."""
    for block in list(network.modules()):
        if not isinstance(block, Convolution):
            continue
        convolution, after = block.get_submodule("conv"), block.get_submodule("adn")
        norm = getattr(after, "N", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block.conv = fuse_conv_bn_eval(convolution, norm)
            after.N = nn.Identity()

"""What a classifier says of tiles seen through the maps of one of its layers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from artifact_mask.config import Weight
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.device import gradients_on, halve_when_full, inference_on
from artifact_mask.nn.resnet import ARTIFACT, CLEAN

_BATCH_PX = {"cpu": 600_000, "cuda": 16_000_000}
"""Pixels in one forward pass. The activations of more fall out of a CPU's caches."""
_MOST_ON_CPU = 8


@dataclass(frozen=True)
class LayerMaps:
    """A layer's maps of some tiles.

    Attributes
    ----------
    maps
        ``(t, k, h, w)`` float32, after the layer's rectifier, on the classifier's device.
    logits
        ``(t, 2)`` of clean and artifact, of the whole tiles.
    """

    maps: torch.Tensor
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class MaskedScores:
    """Scores the artifact class on tiles that are hidden in part.

    Attributes
    ----------
    classifier
        Its own precision is not used.
    layer
        Name of the stage whose maps hide.
    fill
        Contrast of the pixels that are hidden.
    weight
        Whether a score is the log odds of artifact (``"probability"``), or its logit (``"softmax-logit"``).
    dtype
        What convolutions compute in. Scores are float32 from the head on.
    """

    classifier: Classifier
    layer: str
    fill: float
    weight: Weight
    dtype: torch.dtype

    def maps_of(self, tiles: NDArray[np.float32]) -> LayerMaps:
        """Compute the layer's maps of tiles ``(t, y, x)``, and the logits of these, in float32."""
        network, maps, logits = self.classifier.network, [], []
        with inference_on(self.classifier.device, torch.float32):
            for tile in tiles:  # alone, since oneDNN may compute a batch of another size by another algorithm
                passed = self._put(tile[None]).contiguous(memory_format=torch.channels_last)
                passed = passed.clamp(-network.clip, network.clip)
                for name, stage in network.stages.named_children():
                    passed = stage(passed)
                    if name == self.layer:
                        # A copy: the next stage may rectify in place.
                        maps.append(passed.to(memory_format=torch.contiguous_format, copy=True))
                logits.append(network.judge(passed).cpu().numpy())
        return LayerMaps(torch.cat(maps), np.concatenate(logits))

    def score(self, tiles: NDArray[np.float32], maps: torch.Tensor, pairs: NDArray[np.intp]) -> NDArray[np.float32]:
        """Score tiles behind masks.

        Parameters
        ----------
        tiles
            ``(t, y, x)`` contrast.
        maps
            ``(t, k, h, w)``, of :meth:`maps_of`.
        pairs
            ``(n, 2)``, tile and map of each forward pass.

        Returns
        -------
        NDArray[np.float32]
            ``(n,)``.

        Notes
        -----
        A mask is the map, interpolated linearly to the tile, less its minimum, over its range. A constant map makes an
        empty mask. Only the masks of one batch exist at a time.
        """
        source = self._put(tiles)
        n_batch, n_pairs = self._n_batch(tiles), len(pairs)
        if self.classifier.device.type == "cpu" and n_pairs:
            # Whole batches only, since oneDNN may compute one of another size by another algorithm.
            pairs = np.concatenate([pairs, np.repeat(pairs[-1:], -n_pairs % n_batch, axis=0)])

        def run(batch: NDArray[Any]) -> NDArray[np.float32]:
            which = torch.from_numpy(batch).to(self.classifier.device)
            with inference_on(self.classifier.device, self.dtype):
                seen = source[which[:, 0]]
                mask = _as_masks(maps[which[:, 0], which[:, 1]], (tiles.shape[1], tiles.shape[2]))
                result: NDArray[np.float32] = self._judge((seen - self.fill) * mask + self.fill).cpu().numpy()
            return result

        parts = [halve_when_full(run, pairs[start : start + n_batch]) for start in range(0, len(pairs), n_batch)]
        return np.concatenate(parts)[:n_pairs] if parts else np.empty(0, np.float32)

    def slopes(
        self, tile: NDArray[np.float32], maps: torch.Tensor, visibilities: tuple[float, ...]
    ) -> NDArray[np.float64]:
        """Estimate the scores of all masks to first order, from few gradients.

        Parameters
        ----------
        tile
            ``(y, x)``.
        maps
            ``(k, h, w)``, of the tile.
        visibilities
            The score is differentiated with the tile visible to these parts everywhere, and behind the mean mask.

        Returns
        -------
        NDArray[np.float64]
            ``(k, f)``, one column for the mean mask and then one for each visibility: the inner product of each mask
            with the derivative of the score by the mask.
        """
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        masks = (maps - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        source = self._put(tile[None])
        mean = functional.interpolate(masks.mean(0)[None, None], size=tile.shape, mode="bilinear", align_corners=False)
        blends = torch.cat([mean, *(torch.full_like(mean, part) for part in visibilities)])
        rows, columns = (
            functional.interpolate(torch.eye(n_in, device=maps.device)[None], size=n_out, mode="linear")[0]
            for n_in, n_out in zip(maps.shape[1:], tile.shape, strict=True)
        )
        found = []
        for blend in blends:
            with gradients_on(self.classifier.device, self.dtype):
                seen = ((source - self.fill) * blend + self.fill).requires_grad_()
                (gradient,) = torch.autograd.grad(self._judge(seen).sum(), seen)
            # The adjoint of the interpolation, instead of interpolating every mask.
            coarse = rows @ ((source - self.fill) * gradient)[0, 0].float() @ columns.T
            found.append(torch.einsum("khw,hw->k", masks, coarse))
        result: NDArray[np.float64] = torch.stack(found, dim=1).double().cpu().numpy()
        return result

    def _judge(self, seen: torch.Tensor) -> torch.Tensor:
        network = self.classifier.network
        seen = seen.contiguous(memory_format=torch.channels_last)
        logits = network.judge(network.stages(seen.clamp(-network.clip, network.clip)).float()).float()
        return logits[:, ARTIFACT] - logits[:, CLEAN] if self.weight == "probability" else logits[:, ARTIFACT]

    def _n_batch(self, tiles: NDArray[np.float32]) -> int:
        in_pass = _BATCH_PX.get(self.classifier.device.type, _BATCH_PX["cpu"])
        fitting: int = max(1, in_pass // (tiles.shape[1] * tiles.shape[2]))
        # On a CPU a power of two, so that the eight masks of a step fill whole batches.
        if self.classifier.device.type == "cuda":
            return fitting
        return min(_MOST_ON_CPU, 1 << (fitting.bit_length() - 1))

    def _put(self, tiles: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.array(tiles[:, None], np.float32)).to(self.classifier.device)


def _as_masks(maps: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Interpolate maps ``(n, h, w)`` to masks ``(n, 1, y, x)``, 0..1."""
    fine = functional.interpolate(maps[:, None], size=shape, mode="bilinear", align_corners=False)
    low, high = fine.amin((2, 3), keepdim=True), fine.amax((2, 3), keepdim=True)
    return (fine - low) / torch.where(high > low, high - low, torch.inf)

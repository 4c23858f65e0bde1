"""The weighted sum of a layer's maps from the scores of a few: ask which, tell their scores, see how sure it is."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from skimage.transform import downscale_local_mean

from artifact_mask.config import Weight
from artifact_mask.kernels.saliency import upsample
from artifact_mask.kernels.score_regression import ScoreRegression, disagreement

_POOLED = 18  # cells a side; the kernel over masks gets no better from more
_FINE = 3  # the half-maximum contour crosses few cells: it is compared on so many times finer a grid


def weigh(scores: NDArray[np.float64], weight: Weight) -> NDArray[np.float64]:
    """Weights of maps ``(..., k)`` from scores ``(..., k)``.

    Parameters
    ----------
    scores
        Log odds of artifact for ``"probability"``, its logit for ``"softmax-logit"``.
    weight
        Probability, each for itself, or softmax over all maps.

    Examples
    --------
    >>> weigh(np.array([0.0, 0.0]), "softmax-logit").tolist()
    [0.5, 0.5]
    """
    if weight == "probability":
        odds: NDArray[np.float64] = expit(scores)
        return odds
    shares: NDArray[np.float64] = softmax(scores, axis=-1)
    return shares


def combine(maps: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rectified sum of maps ``(k, h, w)`` by weights ``(k,)``, over its maximum; all 0 if nothing is positive.

    Examples
    --------
    >>> combine(np.array([[[1, 0]], [[0, 1]]], np.float32), np.array([1.0, 0.5])).tolist()
    [[1.0, 0.5]]
    """
    total = np.maximum(np.tensordot(weights.astype(np.float32), maps, axes=1), 0)
    highest = total.max()
    result: NDArray[np.float32] = total / highest if highest > 0 else np.zeros_like(total)
    return result


class MapSearch:
    """What is known of one tile's saliency map while its masks are scored.

    Parameters
    ----------
    maps
        ``(k, h, w)``.
    slopes
        ``(k, f)``, first-order estimates of the scores.
    weight
        How scores weigh.
    """

    def __init__(self, maps: NDArray[np.float32], slopes: NDArray[np.float64], weight: Weight) -> None:
        low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
        masks = (maps - low) / np.where(high > low, high - low, np.inf)
        self._regression = ScoreRegression.prior(_pooled(masks), slopes)
        self._maps = maps
        self._flat = maps.reshape(len(maps), -1)
        self._gram = (self._flat @ self._flat.T).astype(np.float64)
        self._weight: Weight = weight
        self._scores: NDArray[np.float64] | None = None

    @property
    def n_unknown(self) -> int:
        """Masks without a score."""
        return len(self._maps) - len(self._regression.chosen)

    def ask(self, n: int) -> NDArray[np.intp]:
        """Choose the masks to score next."""
        if self._scores is None:
            return self._regression.choose(self._gram, n)
        weights = weigh(self._scores, self._weight)
        # What an error of a score does to the map: the weight's derivative.
        steepness = weights * (1 - weights) if self._weight == "probability" else weights
        return self._regression.choose(self._gram * np.outer(steepness, steepness), n)

    def tell(self, chosen: NDArray[np.intp], scores: NDArray[np.float64]) -> None:
        """Add the scores of masks."""
        self._regression = self._regression.learn(chosen, scores)
        self._scores, self._factor = self._regression.predict()

    def weights(self) -> NDArray[np.float64]:
        """Weights ``(k,)`` of all maps, those of scored masks as they are."""
        assert self._scores is not None
        return weigh(self._scores, self._weight)

    def error(self) -> float:
        """Estimate ``1 - IoU`` of the map to the one from all scores, both cut at half of their maximum."""
        assert self._scores is not None
        if not self.n_unknown:
            return 0.0
        drawn = weigh(self._regression.draw(self._scores, self._factor), self._weight)
        totals = (drawn.astype(np.float32) @ self._flat).reshape(-1, *self._maps.shape[1:])
        fine = (self._maps.shape[1] * _FINE, self._maps.shape[2] * _FINE)
        reference = np.tensordot(self.weights().astype(np.float32), self._maps, axes=1)
        return disagreement(np.stack([upsample(total, fine) for total in totals]), upsample(reference, fine))


def _pooled(masks: NDArray[np.float32]) -> NDArray[np.float32]:
    blocks = tuple(-(-side // _POOLED) for side in masks.shape[1:])
    pooled: NDArray[np.float32] = downscale_local_mean(masks, (1, *blocks)).astype(np.float32)
    return pooled.reshape(len(masks), -1)

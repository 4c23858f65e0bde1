"""Learn the score of a mask from the scores of a few: which to score next, and how sure the sum of maps is by then.

Score-CAM weighs every map of a layer by the score of the image seen through it. The score is a smooth function of the
mask, so that a Gaussian process over masks predicts most of the scores from some. What counts is the weighted sum of
the maps: masks are chosen, and the error is judged, by what they do to that.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

_OFFSET = 4.0  # prior variance of the common mean, in units of that of the linear part
_SMOOTHNESS = 1.0  # length of the kernel over masks, in units of their median distance
_NOISE = 0.01  # variance of what masks do not explain, and of rounding in half precision
_CAUTION = 2.0  # the known scores are chosen to tell most, so that they predict each other too well
_N_DRAWS = 24


@dataclass(frozen=True)
class ScoreRegression:
    """A Gaussian process over the scores of ``k`` masks, some of which are known; begin with :meth:`prior`.

    Attributes
    ----------
    covariance
        ``(k, k)`` of the scores before any was known, but for a common factor.
    chosen
        ``(n,)`` indices of the masks that were scored, in order.
    scores
        ``(n,)`` of these.
    posterior
        ``(k, k)`` covariance given that those were scored, but for the same factor; it does not depend on the scores.
    """

    covariance: NDArray[np.float64]
    chosen: NDArray[np.intp]
    scores: NDArray[np.float64]
    posterior: NDArray[np.float64]

    @classmethod
    def prior(cls, masks: NDArray[np.float32], slopes: NDArray[np.float64]) -> "ScoreRegression":
        """Begin without any score.

        Parameters
        ----------
        masks
            ``(k, m)``, each pooled to a short vector.
        slopes
            ``(k, f)``, first-order estimates of the score from gradients at ``f`` inputs, in any unit.

        Notes
        -----
        The kernel is a sum of a constant, a linear and a Gaussian one over standardised slopes, and a Gaussian one over
        the masks. The gradients say what part of the image matters; the rest says how far to trust them.
        """
        spread = slopes.std(axis=0)
        features = (slopes - slopes.mean(axis=0)) / np.where(spread > 0, spread, 1)
        n_features = max(1, features.shape[1])
        covariance = _OFFSET + features @ features.T / n_features
        covariance += np.exp(-_squared_distances(features) / (2 * n_features))
        distances = _squared_distances(masks.astype(np.float64))
        typical = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
        covariance += np.exp(-distances / (2 * _SMOOTHNESS**2 * typical))
        return cls(covariance, np.empty(0, np.intp), np.empty(0), covariance)

    def choose(self, gram: NDArray[np.float64], n: int) -> NDArray[np.intp]:
        """Choose the masks to score next: those that together leave the least variance in the sum of the maps.

        Parameters
        ----------
        gram
            ``(k, k)`` inner products of the maps.
        n
            How many; fewer if fewer are left.

        Notes
        -----
        Greedy. Scoring mask ``j`` takes ``c_j' G c_j / (C_jj + noise)`` from the variance ``tr(G C)`` of the map.
        """
        posterior = self.posterior.copy()
        product = gram @ posterior
        known = np.zeros(len(gram), np.bool_)
        known[self.chosen] = True
        picked: list[int] = []
        for _ in range(min(n, int((~known).sum()))):
            gain = np.einsum("ij,ij->j", posterior, product) / (np.diag(posterior) + _NOISE)
            best = int(np.where(known, -np.inf, gain).argmax())
            picked.append(best)
            known[best] = True
            column = posterior[:, best].copy()
            column /= np.sqrt(column[best] + _NOISE)
            product -= np.outer(gram @ column, column)
            posterior -= np.outer(column, column)
        return np.array(picked, np.intp)

    def learn(self, chosen: NDArray[np.intp], scores: NDArray[np.float64]) -> "ScoreRegression":
        """Add the scores of masks."""
        posterior = self.posterior.copy()
        for index in chosen:
            column = posterior[:, index].copy()
            column /= np.sqrt(column[index] + _NOISE)
            posterior -= np.outer(column, column)
        return replace(
            self,
            chosen=np.concatenate([self.chosen, chosen]),
            scores=np.concatenate([self.scores, scores]),
            posterior=posterior,
        )

    def predict(self) -> tuple[NDArray[np.float64], float]:
        """Predict every score.

        Returns
        -------
        tuple[NDArray[np.float64], float]
            ``(k,)`` expected scores, the known ones as they are; and the factor of :attr:`posterior`, from how well
            each known score is predicted by the others.
        """
        among = self.covariance[np.ix_(self.chosen, self.chosen)] + _NOISE * np.eye(len(self.chosen))
        centre = float(self.scores.mean())
        inverse = cho_solve(cho_factor(among, lower=True), np.eye(len(self.chosen)))
        solved = inverse @ (self.scores - centre)
        expected = centre + self.covariance[:, self.chosen] @ solved
        expected[self.chosen] = self.scores
        return expected, float(np.mean(solved**2 / np.diag(inverse)))

    def draw(self, expected: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        """Draw sets of scores ``(n, k)`` that the known ones allow; the same ones each time."""
        unknown = np.setdiff1d(np.arange(len(expected)), self.chosen)
        draws = np.repeat(expected[None], _N_DRAWS, axis=0)
        if len(unknown) and factor > 0:
            among = self.posterior[np.ix_(unknown, unknown)] + _NOISE * np.eye(len(unknown))
            root = np.linalg.cholesky(among)
            draws[:, unknown] += np.random.default_rng(0).standard_normal((_N_DRAWS, len(unknown))) @ (
                _CAUTION * np.sqrt(factor) * root.T
            )
        return draws


def disagreement(maps: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Compute one minus the mean overlap (intersection over union) of maps with a reference.

    Parameters
    ----------
    maps
        ``(n, y, x)``.
    reference
        ``(y, x)``.

    Returns
    -------
    float
        0..1. Each map is cut at half of its own maximum.

    Examples
    --------
    >>> disagreement(np.array([[[4, 3, 0, 0]]], np.float32), np.array([[4, 3, 3, 0]], np.float32))
    0.33333333333333337
    """
    kept = maps > maps.max(axis=(1, 2), keepdims=True) / 2
    wanted = reference > reference.max() / 2
    union = (kept | wanted).sum(axis=(1, 2))
    overlap = np.where(union > 0, (kept & wanted).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)
    return float(1 - overlap.mean())


def _squared_distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    products = rows @ rows.T
    squares = np.diag(products)
    distances: NDArray[np.float64] = np.maximum(squares[:, None] + squares - 2 * products, 0)
    return distances

"""Which part of a tile made the classifier call it artifact: Score-CAM, exact or from a few forward passes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from artifact_mask.config import Fill, Precision, Weight
from artifact_mask.errors import ImageError, ModelError
from artifact_mask.kernels.map_search import MapSearch, combine, weigh
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.device import native_precision
from artifact_mask.nn.masked_scores import LayerMaps, MaskedScores
from artifact_mask.nn.resnet import ARTIFACT, CLEAN

_VISIBILITIES = (0.5, 1.0)
_FORWARDS_OF_A_GRADIENT = 3
_FIRST, _STEP = 16, 8
_TILES_PX = 600_000
"""Pixels of the tiles whose maps and covariances are held at once."""
_SATURATED = 0.02
"""Range of the weights, relative to the highest, up to which they say nothing."""


@dataclass(frozen=True)
class Saliency:
    """Where the classifier sees artifact in one tile.

    Attributes
    ----------
    map
        ``(h, w)`` at the layer's resolution, 0..1: its maximum is 1, or it is 0 everywhere.
    probability
        Of artifact, of the whole tile.
    weights
        ``(k,)`` of the maps, predicted ones included.
    n_forwards
        Masked forward passes spent on the tile; a gradient counts as three, which is what it takes.
    error
        Expected ``1 - IoU`` to the exact map, both cut at half of their maximum; 0 if all masks were scored.
    saturated
        Whether the weights are so much alike that the map is the plain mean of the maps.
    """

    map: NDArray[np.float32]
    probability: float
    weights: NDArray[np.float32]
    n_forwards: int
    error: float
    saturated: bool


@dataclass(frozen=True)
class ScoreCam:
    """Score-CAM of the artifact class: every map of a layer, weighed by the score of the tile seen through it.

    Attributes
    ----------
    classifier
        Its precision is not used, see ``precision``.
    layer
        Stage whose maps are weighed, such as ``"layer2"``; the network's last if not given.
    weight
        ``"probability"`` of artifact, each for itself; or ``"softmax-logit"``, a softmax of the artifact logit over
        maps, as published.
    fill
        What hidden pixels become: ``"background"``, or ``"zero"`` intensity, as published. Black pixels look like
        debris, which saturates the scores.
    tolerance
        Expected error of the map, as :attr:`Saliency.error`, at which to stop scoring masks and predict the rest. None
        scores all.
    max_forwards
        At which to stop anyway, if there is a tolerance; at least 25 are spent.
    precision
        What the masked passes compute in; the fastest that the device computes natively if not given.

    Notes
    -----
    The map is ``ReLU(sum_k w_k A_k)`` of the rectified maps as they are, as in the paper, grad-cam and torchcam; only
    the masks are brought to 0..1, after interpolation. A constant map is scored as an empty mask.

    References
    ----------
    Wang et al., Score-CAM, CVPR Workshops (2020), https://arxiv.org/abs/1910.01279

    Raises
    ------
    ModelError
        If the network has no such layer.
    """

    classifier: Classifier
    layer: str | None = None
    weight: Weight = "probability"
    fill: Fill = "background"
    tolerance: float | None = None
    max_forwards: int = 73
    precision: Precision | None = None

    def __post_init__(self) -> None:
        _find_layer(self.classifier, self.layer)

    def explain(self, tiles: NDArray[np.float32]) -> list[Saliency]:
        """Explain tiles.

        Parameters
        ----------
        tiles
            ``(n, y, x)`` contrast, normalised and sampled as the classifier's card says.

        Raises
        ------
        ImageError
            If the axes are wrong or a value is not finite.

        Notes
        -----
        A CPU gives the same bytes each time, whichever tiles are explained together. A few tiles are held at a time.
        """
        _check(tiles)
        n_group = max(1, _TILES_PX // max(1, tiles.shape[1] * tiles.shape[2]))
        return [
            saliency
            for start in range(0, len(tiles), n_group)
            for saliency in self._explain_group(np.asarray(tiles[start : start + n_group], np.float32))
        ]

    def scorer(self) -> MaskedScores:
        """Return what scores tiles behind masks, as configured."""
        return MaskedScores(
            self.classifier,
            layer=_find_layer(self.classifier, self.layer),
            fill=0.0 if self.fill == "background" else -1 / self.classifier.card.normalisation.contrast_unit,
            weight=self.weight,
            dtype=getattr(torch, self.precision or native_precision(self.classifier.device)),
        )

    def _explain_group(self, tiles: NDArray[np.float32]) -> list[Saliency]:
        scorer = self.scorer()
        found = scorer.maps_of(tiles)
        if self.tolerance is None:
            return self._score_all(scorer, tiles, found)
        return self._score_some(scorer, tiles, found, self.tolerance)

    def _score_all(self, scorer: MaskedScores, tiles: NDArray[np.float32], found: LayerMaps) -> list[Saliency]:
        n_maps = found.maps.shape[1]
        pairs = np.stack(np.divmod(np.arange(len(tiles) * n_maps), n_maps), axis=1)
        weights = weigh(scorer.score(tiles, found.maps, pairs).reshape(-1, n_maps).astype(np.float64), self.weight)
        return [
            _saliency(maps.cpu().numpy(), logits, weight, n_maps, 0.0)
            for maps, logits, weight in zip(found.maps, found.logits, weights, strict=True)
        ]

    def _score_some(
        self, scorer: MaskedScores, tiles: NDArray[np.float32], found: LayerMaps, tolerance: float
    ) -> list[Saliency]:
        arrays = [maps.cpu().numpy() for maps in found.maps]
        searches = [
            MapSearch(array, scorer.slopes(tile, maps, _VISIBILITIES), self.weight)
            for tile, maps, array in zip(tiles, found.maps, arrays, strict=True)
        ]
        spent = [_FORWARDS_OF_A_GRADIENT * (1 + len(_VISIBILITIES))] * len(tiles)
        errors = [1.0] * len(tiles)
        open_tiles, n_next = list(range(len(tiles))), _FIRST
        while open_tiles:
            asked = {i: searches[i].ask(n_next) for i in open_tiles}
            pairs = np.concatenate([np.stack([np.full_like(masks, i), masks], axis=1) for i, masks in asked.items()])
            scores = scorer.score(tiles, found.maps, pairs).astype(np.float64)
            for i, masks in asked.items():
                searches[i].tell(masks, scores[pairs[:, 0] == i])
                spent[i] += len(masks)
                errors[i] = searches[i].error()
            n_next = _STEP
            open_tiles = [
                i
                for i in open_tiles
                if errors[i] > tolerance and searches[i].n_unknown and spent[i] + n_next <= self.max_forwards
            ]
        return [
            _saliency(array, logits, search.weights(), n_forwards, error)
            for array, logits, search, n_forwards, error in zip(
                arrays, found.logits, searches, spent, errors, strict=True
            )
        ]


def mean_of_maps(
    classifier: Classifier, tiles: NDArray[np.float32], *, layer: str | None = None
) -> list[NDArray[np.float32]]:
    """Compute the plain mean of a layer's maps ``(h, w)`` for each tile, over its maximum: what Score-CAM has to beat.

    Parameters
    ----------
    classifier, tiles, layer
        As for :class:`ScoreCam`.

    Raises
    ------
    ImageError, ModelError
        As :class:`ScoreCam` does.
    """
    found = _maps_of(classifier, tiles, _find_layer(classifier, layer))
    return [combine(maps.cpu().numpy(), np.ones(len(maps))) for maps in found]


def class_activation(classifier: Classifier, tiles: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Compute CAM ``(h, w)`` for each tile: the last maps by the weights of artifact less those of clean, rectified.

    Parameters
    ----------
    classifier, tiles
        As for :class:`ScoreCam`.

    Raises
    ------
    ImageError
        As :class:`ScoreCam` does.

    References
    ----------
    Zhou et al., CVPR (2016), https://arxiv.org/abs/1512.04150
    """
    weights = classifier.network.fc.weight.detach().double().cpu().numpy()
    found = _maps_of(classifier, tiles, _find_layer(classifier, None))
    return [combine(maps.cpu().numpy(), weights[ARTIFACT] - weights[CLEAN]) for maps in found]


def _maps_of(classifier: Classifier, tiles: NDArray[np.float32], layer: str) -> list[torch.Tensor]:
    _check(tiles)
    scorer = MaskedScores(classifier, layer, 0.0, "probability", getattr(torch, native_precision(classifier.device)))
    return [scorer.maps_of(np.asarray(tile[None], np.float32)).maps[0] for tile in tiles]


def _saliency(
    maps: NDArray[np.float32], logits: NDArray[np.float32], weights: NDArray[np.float64], n_forwards: int, error: float
) -> Saliency:
    margin = logits[[ARTIFACT]].astype(np.float64) - logits[[CLEAN]]
    probability = float(weigh(margin, "probability")[0])
    saturated = bool(np.ptp(weights) <= _SATURATED * weights.max())
    return Saliency(combine(maps, weights), probability, weights.astype(np.float32), n_forwards, error, saturated)


def _find_layer(classifier: Classifier, layer: str | None) -> str:
    known = [name for name, _ in classifier.network.stages.named_children() if name.startswith("layer")]
    if layer is not None and layer not in known:
        raise ModelError(
            f"The classifier has no layer {layer!r}; expected one of {', '.join(known)}. Name one of these."
        )
    return layer or known[-1]


def _check(tiles: NDArray[np.float32]) -> None:
    if tiles.ndim != 3 or 0 in tiles.shape[1:]:
        raise ImageError(
            f"Found an array of shape {tiles.shape}; expected tiles (n, y, x) with pixels in them. "
            "Add an axis to a single tile."
        )
    if not np.isfinite(tiles).all():
        raise ImageError(
            "Found values that are not finite; expected contrast against a background. "
            "Look for a background of 0 or a damaged image."
        )

"""From a plane to a weak label: tiles are judged, what the classifier looked at is sharpened, cut, and checked."""

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import Fill, Refinement, SaliencyMethod, Weight
from artifact_mask.kernels.edges import darkness_map, edge_map
from artifact_mask.kernels.labels import grow_into_dark, label_objects
from artifact_mask.kernels.saliency import cut_level, isolate, upsample
from artifact_mask.kernels.tiles import Window, plan_tiles
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.score_cam import Saliency, ScoreCam, class_activation, mean_of_maps
from artifact_mask.workflows.planes import resample, scaled_shape

MAX_CHECKED = 50
"""Objects of a tile that are checked, those with the strongest evidence; further ones are dropped."""

Plane = NDArray[np.float32]
Result = TypeVar("Result")


class ExplanationParameters(Protocol):
    """How planes are explained; see :class:`artifact_mask.config.ExplanationConfig`."""

    @property
    def scale(self) -> float:
        """How many times more pixels a side the classifier wants."""

    @property
    def threshold(self) -> float:
        """Probability from which a tile has an artifact."""

    @property
    def weight(self) -> Weight:
        """What weighs a map."""

    @property
    def fill(self) -> Fill:
        """What masked pixels become."""

    @property
    def layer(self) -> str | None:
        """Stage whose maps are weighed."""

    @property
    def saliency(self) -> SaliencyMethod:
        """What finds where the classifier looks."""

    @property
    def tolerance(self) -> float:
        """Expected error at which no more maps are scored; 0 for never."""

    @property
    def refinement(self) -> Refinement:
        """What sharpens the saliency."""

    @property
    def cut(self) -> float | None:
        """Share of the refined map's range; None for Otsu."""

    @property
    def object_threshold(self) -> float:
        """Probability that an object shown alone must reach; 0 for no such check."""

    @property
    def min_object_px(self) -> int:
        """Objects of fewer pixels are dropped."""

    @property
    def reach_px(self) -> float:
        """How far objects grow over dark pixels."""


@dataclass(frozen=True)
class Explanation:
    """How the label of a plane came about.

    Attributes
    ----------
    probability
        Of the tile that shows an artifact most clearly.
    n_tiles, n_artifact_tiles
        Tiles of the plane, and those called artifact.
    saliency, detail, refined
        ``(y, x)``, 0..1: what the classifier looked at, what sharpens that, and the product. Tiles called clean have no
        saliency.
    labels
        ``(y, x)`` int32; all 0 for a plane called clean.
    n_forwards
        Masked forward passes.
    error
        Largest estimated error of a tile's saliency.
    n_saturated
        Tiles whose saliency is no more than the mean of the maps.
    """

    probability: float
    n_tiles: int
    n_artifact_tiles: int
    saliency: Plane
    detail: Plane
    refined: Plane
    labels: NDArray[np.int32]
    n_forwards: int
    error: float
    n_saturated: int


@dataclass(frozen=True)
class _Tile:
    """A tile that is called artifact: what the classifier sees of it, and its window of the plane."""

    pixels: Plane
    window: Window


@dataclass(frozen=True)
class Look:
    """What a classifier makes of a plane.

    Attributes
    ----------
    probabilities
        Of all tiles, in reading order.
    tiles, saliencies
        Those called artifact, and where in them it looked.
    """

    probabilities: list[float]
    tiles: list[_Tile]
    saliencies: list[Saliency]


class Explainer:
    """A classifier that explains planes.

    Parameters
    ----------
    classifier
        On its device.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @classmethod
    def load(cls, path: str | Path) -> "Explainer":
        """Read a classifier and put it on the best device of this machine.

        Raises
        ------
        ModelError
            If the file is not a classifier.
        """
        return cls(Classifier.load(path))

    @property
    def planes_per_batch(self) -> int:
        """Planes whose tiles the device computes best at once."""
        return 8 if self.classifier.device.type == "cuda" else 1

    def explain(self, contrasts: Sequence[Plane], parameters: ExplanationParameters) -> list[Explanation]:
        """Explain planes ``(y, x)`` of contrast.

        Raises
        ------
        ImageError
            If a value is not finite.
        ModelError
            If the classifier has no such layer.
        """
        looks = self.look(contrasts, parameters)
        return [self.label(contrast, look, parameters) for contrast, look in zip(contrasts, looks, strict=True)]

    def look(
        self,
        contrasts: Sequence[Plane],
        parameters: ExplanationParameters,
        *,
        called: Container[tuple[int, int]] | None = None,
    ) -> list[Look]:
        """Judge the tiles of planes, and find where in those called artifact the classifier looks.

        Tiles of one shape are explained together, whatever plane they are of.

        Parameters
        ----------
        contrasts
            ``(y, x)`` each.
        parameters
            How.
        called
            First rows and columns of the tiles that a person called artifact, if one did: these and no others are
            explained, whatever the classifier says of them.
        """
        judged = [self._judge(contrast, parameters, called) for contrast in contrasts]
        shown = [tile.pixels for tiles, _ in judged for tile in tiles]
        saliencies = iter(_by_shape(shown, partial(self._find_saliency, parameters)))
        return [Look(p, tiles, list(islice(saliencies, len(tiles)))) for tiles, p in judged]

    def _find_saliency(self, parameters: ExplanationParameters, tiles: Plane) -> list[Saliency]:
        """Find where the classifier looks in tiles ``(n, y, x)``."""
        if parameters.saliency == "score-cam":
            score_cam = ScoreCam(
                self.classifier,
                layer=parameters.layer,
                weight=parameters.weight,
                fill=parameters.fill,
                tolerance=parameters.tolerance or None,
            )
            return score_cam.explain(tiles)
        if parameters.saliency == "mean":
            maps = mean_of_maps(self.classifier, tiles, layer=parameters.layer)
        else:
            maps = class_activation(self.classifier, tiles)
        no_weights = np.empty(0, np.float32)
        return [Saliency(m, math.nan, no_weights, n_forwards=0, error=0.0, saturated=False) for m in maps]

    def _judge(
        self, contrast: Plane, parameters: ExplanationParameters, called: Container[tuple[int, int]] | None
    ) -> tuple[list[_Tile], list[float]]:
        """Tiles called artifact, and the probabilities of all."""
        seen = resample(contrast, scaled_shape(contrast.shape, parameters.scale))
        height, width = seen.shape
        tiles = [
            _Tile(seen[tile.core], _rescale(tile.core, seen.shape, contrast.shape))
            for tile in plan_tiles((height, width), core_px=self.classifier.card.tile_px, halo_px=0)
        ]
        probabilities = _by_shape([tile.pixels for tile in tiles], self.classifier.predict)
        if called is None:
            shown = [t for t, p in zip(tiles, probabilities, strict=True) if p >= parameters.threshold]
        else:
            shown = [t for t in tiles if (t.window[0].start, t.window[1].start) in called]
        return shown, [float(p) for p in probabilities]

    def label(self, contrast: Plane, look: Look, parameters: ExplanationParameters) -> Explanation:
        """Sharpen what the classifier looked at, and cut it into objects."""
        saliency = np.zeros(contrast.shape, np.float32)
        for tile, found in zip(look.tiles, look.saliencies, strict=True):
            window = saliency[tile.window]
            window[:] = upsample(found.map, window.shape)
        detail = _map_detail(contrast, parameters.refinement)
        refined = saliency * detail
        artifact = np.zeros(contrast.shape, bool)
        for tile in look.tiles:
            artifact[tile.window] = self._cut(tile, refined[tile.window], contrast[tile.window], parameters)
        if parameters.refinement != "published":
            artifact = grow_into_dark(artifact, contrast, reach_px=parameters.reach_px)
        # Once more, over the whole plane: an object that lies across tiles is one.
        labels = label_objects(artifact.astype(np.float32), threshold=0.5, min_object_px=1)
        return Explanation(
            probability=max(look.probabilities),
            n_tiles=len(look.probabilities),
            n_artifact_tiles=len(look.tiles),
            saliency=saliency,
            detail=detail,
            refined=refined,
            labels=labels,
            n_forwards=sum(found.n_forwards for found in look.saliencies),
            error=max((found.error for found in look.saliencies), default=0.0),
            n_saturated=sum(found.saturated for found in look.saliencies),
        )

    def _cut(
        self, tile: _Tile, refined: Plane, contrast: Plane, parameters: ExplanationParameters
    ) -> NDArray[np.bool_]:
        """Cut a tile's refined map into objects and drop those that are no artifact by themselves."""
        level = cut_level(refined, parameters.cut)
        if parameters.refinement == "published":
            return refined > level
        above = (refined > level).astype(np.float32)
        objects = label_objects(above, threshold=0.5, min_object_px=parameters.min_object_px)
        if not parameters.object_threshold:
            return objects > 0
        return self._check(tile, objects, refined, contrast, parameters.object_threshold)

    def _check(
        self,
        tile: _Tile,
        objects: NDArray[np.int32],
        refined: Plane,
        contrast: Plane,
        threshold: float,
    ) -> NDArray[np.bool_]:
        """Keep the objects that, shown alone, the classifier calls artifact."""
        if not objects.any():
            return objects > 0
        peaks = [(refined[objects == number].max(), number) for number in range(1, int(objects.max()) + 1)]
        numbers = [number for _, number in sorted(peaks, reverse=True)[:MAX_CHECKED]]
        alone = np.stack([resample(isolate(contrast, objects == number), tile.pixels.shape) for number in numbers])
        convincing = self.classifier.predict(alone) >= threshold
        return np.isin(objects, np.array(numbers)[convincing])


def _map_detail(contrast: Plane, refinement: Refinement) -> Plane:
    """Map what an artifact may be made of, 0..1."""
    if refinement == "none":
        return np.ones(contrast.shape, np.float32)
    if refinement == "published":
        return edge_map(contrast, saturated=0)
    if refinement == "darkness":
        return darkness_map(contrast)
    edges = edge_map(contrast)
    return edges if refinement == "edges" else np.maximum(edges, darkness_map(contrast))


def _rescale(window: Window, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Window:
    """Find a window in the same image sampled otherwise; windows that meet still do."""
    rows, columns = (
        slice(round(part.start * m / n), round(part.stop * m / n))
        for part, n, m in zip(window, shape, wanted, strict=True)
    )
    return rows, columns


def _by_shape(tiles: Sequence[Plane], work: Callable[[Plane], Iterable[Result]]) -> list[Result]:
    """Do some work on tiles, those of one shape at once; results in the order of the tiles."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, tile in enumerate(tiles):
        groups[tile.shape].append(number)
    results: dict[int, Result] = {}
    for numbers in groups.values():
        results |= dict(zip(numbers, work(np.stack([tiles[number] for number in numbers])), strict=True))
    return [results[number] for number in range(len(tiles))]

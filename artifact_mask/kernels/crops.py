"""Crops of labelled fields for training a segmentation network: where they are cut, and how they are turned."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE, TruthField

OBJECT_SHARE, HARD_SHARE = 0.45, 0.3
"""Of the crops that show an artifact, and a place that is easily taken for one; the rest is cut anywhere."""

_TURNED_FREELY = 0.5
_LARGEST_ZOOM = 0.3
"""Largest logarithm of the factor by which a crop is resized."""
_EVEN_AREA_PX = 300
_MOST_WEIGHT = 4.0
"""Small objects are weighed up to count as much as one of the even area, at most this many times."""
_N_HARD = 60
_DENSE_STAIN = -0.4
_FALSE_ALARM = 0.1
_NO_PLACES = np.zeros((0, 2), np.float32)
_PLACES_OF_AN_OBJECT_PX = 4_000
"""An object has one place to cut a crop at for every so many pixels, and one at least."""


@dataclass(frozen=True)
class TrainingField:
    """A labelled field, with the places worth cutting crops from.

    Attributes
    ----------
    contrast
        ``(y, x)`` float16.
    is_artifact
        ``(y, x)`` bool.
    weight
        ``(y, x)`` float16 of each pixel in the loss; 0 where the truth leaves it out.
    objects, hard
        ``(n, 2)`` places ``(y, x)``: artifacts, and what is easily taken for one.
    """

    contrast: NDArray[np.float16]
    is_artifact: NDArray[np.bool_]
    weight: NDArray[np.float16]
    objects: NDArray[np.float32]
    hard: NDArray[np.float32]

    @property
    def truth_field(self) -> TruthField:
        """The field as it was before its pixels were weighed."""
        truth = np.where(self.weight > 0, self.is_artifact, IGNORE).astype(np.uint8)
        return TruthField(self.contrast.astype(np.float32), truth)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(a.nbytes for a in (self.contrast, self.is_artifact, self.weight, self.objects, self.hard))


@dataclass(frozen=True)
class Crop:
    """A square piece of a field: contrast, target (0 or 1) and weight, each ``(y, x)`` float32."""

    contrast: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]


def prepare_field(field: TruthField) -> TrainingField:
    """Weigh the pixels of a field, and find the places to cut crops from.

    Small objects are weighed up, so that one counts for more than its few pixels. Dark, grainy background is stained
    cytoplasm: what a network takes for debris first.
    """
    contrast, truth = field
    labels, n = ndimage.label(truth == ARTIFACT, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    of_label = np.concatenate([[1], np.clip(_EVEN_AREA_PX / np.maximum(areas, 1), 1, _MOST_WEIGHT)])
    weight = of_label[labels].astype(np.float16)
    weight[truth == IGNORE] = 0
    dense = np.where(truth == BACKGROUND, np.clip(_DENSE_STAIN - contrast, 0, 3), 0)
    hard = _spread_places(np.where(truth == BACKGROUND, ndimage.uniform_filter(dense, 15), 0))
    return TrainingField(contrast.astype(np.float16), labels > 0, weight, _object_places(labels, areas), hard)


def learn_false_alarms(field: TrainingField, probability: NDArray[np.float32]) -> TrainingField:
    """Take what a network falsely calls artifact in a field for its hard places from now on, beside those before.

    Parameters
    ----------
    field
        Left as it is.
    probability
        ``(y, x)``, what the network says.
    """
    alarm = np.where(~field.is_artifact & (field.weight > 0) & (probability >= _FALSE_ALARM), probability, 0)
    if not alarm.any():
        return field
    return replace(field, hard=np.concatenate([field.hard[-_N_HARD:], _spread_places(alarm)]))


def choose_place(field: TrainingField, kind: float, crop_px: int, rng: np.random.Generator) -> tuple[float, float]:
    """Choose the centre ``(y, x)`` of a crop.

    Parameters
    ----------
    field
        To cut from.
    kind
        0..1; below :data:`OBJECT_SHARE` an artifact is shown, in the next :data:`HARD_SHARE` a hard place.
    crop_px
        Side of the crop; what is shown need not lie in its middle.
    rng
        Decides.
    """
    shape = field.is_artifact.shape
    places = field.objects if kind < OBJECT_SHARE else field.hard if kind < OBJECT_SHARE + HARD_SHARE else _NO_PLACES
    if len(places):
        y, x = places[rng.integers(len(places))] + rng.uniform(-0.4, 0.4, 2) * crop_px
    else:
        y, x = rng.uniform(0, shape)
    return float(np.clip(y, 0, shape[0])), float(np.clip(x, 0, shape[1]))


def cut_crop(field: TrainingField, place: tuple[float, float], crop_px: int, rng: np.random.Generator) -> Crop:
    """Cut a crop around a place, half of them turned by any angle and resized, half in right angles alone.

    Parameters
    ----------
    field
        To cut from; what lies beyond its borders is their reflection.
    place
        Wanted centre ``(y, x)``; the crop is moved so that it lies within the field as far as it can.
    crop_px
        Side in pixels.
    rng
        Decides.
    """
    is_free = rng.random() < _TURNED_FREELY
    zoom = float(np.exp(rng.uniform(-_LARGEST_ZOOM, _LARGEST_ZOOM))) if is_free else 1.0
    angle = rng.uniform(0, 2 * np.pi) if is_free else 0.0
    side = int(np.ceil(crop_px * zoom * (abs(np.cos(angle)) + abs(np.sin(angle))))) + (2 if is_free else 0)
    layers = [_window(layer, place, side) for layer in (field.contrast, field.is_artifact, field.weight)]
    if is_free:
        layers = _turn(layers, angle, zoom, crop_px)
    k, is_mirrored = int(rng.integers(4)), rng.random() < 0.5
    turned = (np.rot90(layer, k) for layer in layers)
    contrast, target, weight = (np.ascontiguousarray(t[:, ::-1] if is_mirrored else t) for t in turned)
    return Crop(contrast, target, weight)


def _window(layer: NDArray[np.generic], place: tuple[float, float], side: int) -> NDArray[np.float32]:
    """Cut a square around a place, moved into the field; reflected where the field is smaller."""
    starts = [int(np.clip(p - side / 2, 0, max(n - side, 0))) for p, n in zip(place, layer.shape, strict=True)]
    part = layer[starts[0] : starts[0] + side, starts[1] : starts[1] + side].astype(np.float32)
    missing = [side - n for n in part.shape]
    if not any(missing):
        return part
    return np.pad(part, [(n // 2, n - n // 2) for n in missing], mode="symmetric")


def _turn(layers: list[NDArray[np.float32]], angle: float, zoom: float, crop_px: int) -> list[NDArray[np.float32]]:
    """Sample a turned and resized square from the middle of larger ones; target and weight stay what they are."""
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(layers[0].shape) - 1) / 2
    offset = middle - matrix @ np.full(2, (crop_px - 1) / 2)
    shape = (crop_px, crop_px)
    return [
        ndimage.affine_transform(layer, matrix, offset, shape, order=order, mode="nearest")
        for layer, order in zip(layers, (1, 0, 0), strict=True)
    ]


def _object_places(labels: NDArray[np.int32], areas: NDArray[np.intp]) -> NDArray[np.float32]:
    """List a place for every object, several for a large one."""
    places: list[NDArray[np.intp]] = []
    for number, (box, area) in enumerate(zip(ndimage.find_objects(labels), areas, strict=True), start=1):
        inside = np.argwhere(labels[box] == number)
        n = 1 + area // _PLACES_OF_AN_OBJECT_PX
        chosen = inside[((np.arange(n) + 0.5) / n * len(inside)).astype(np.intp)]
        places.append(chosen + [part.start for part in box])
    return np.concatenate(places).astype(np.float32) if places else _NO_PLACES


def _spread_places(score: NDArray[np.floating]) -> NDArray[np.float32]:
    """List places in proportion to a non-negative score; always the same ones."""
    flat = np.cumsum(score.ravel(), dtype=np.float64)
    if flat[-1] <= 0:
        return _NO_PLACES
    index = np.searchsorted(flat, (np.arange(_N_HARD) + 0.5) / _N_HARD * flat[-1])
    return np.stack(np.unravel_index(index, score.shape), axis=-1).astype(np.float32)

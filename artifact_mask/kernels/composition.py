"""Draw into real fields what they show too little of: shadows, well edges, debris, densely stained cells.

Everything is done on transmission (intensity over background), where objects in the light path multiply.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.kernels.illumination import CONTRAST_UNIT, estimate_background
from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE, TruthField

LARGEST_CUTOUT_PX = 6000
_FAINTEST_CUTOUT = -0.4
"""Mean contrast from which on an object is too faint to be worth pasting."""
_FAINTEST_SHADOW = 0.034
"""Depth below which it is a matter of taste whether a shadow is an artifact."""

Light = NDArray[np.float32]
Truth = NDArray[np.uint8]


class Cutout(NamedTuple):
    """One piece of debris: transmission loss ``(y, x)``, feathered to 0 at the rim, and its outline."""

    loss: NDArray[np.float32]
    outline: NDArray[np.bool_]


def cut_out_debris(field: TruthField, *, margin_px: int = 6) -> list[Cutout]:
    """Cut every piece of debris out of a field: the artifacts that are neither large nor faint.

    Parameters
    ----------
    field
        With its truth.
    margin_px
        Rim around the object in which the loss fades.
    """
    contrast, truth = field
    cutouts = []
    labels, _ = ndimage.label(truth == ARTIFACT, np.ones((3, 3)))
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == index
        if np.count_nonzero(inside) > LARGEST_CUTOUT_PX or contrast[box][inside].mean() > _FAINTEST_CUTOUT:
            continue
        window = tuple(
            slice(max(s.start - margin_px, 0), min(s.stop + margin_px, n))
            for s, n in zip(box, truth.shape, strict=True)
        )
        outline = labels[window] == index
        feather = np.clip(1.5 - ndimage.distance_transform_edt(~outline) / 4, 0, 1)
        cutouts.append(Cutout((-CONTRAST_UNIT * contrast[window] * feather).astype(np.float32), outline))
    return cutouts


def compose(field: TruthField, cutouts: Sequence[Cutout], rng: np.random.Generator) -> TruthField:
    """Draw a random choice of artifacts into a field.

    Parameters
    ----------
    field
        A real field; unchanged.
    cutouts
        Debris to paste.
    rng
        Decides everything.

    Returns
    -------
    TruthField
        A new field.
    """
    light = 1 + CONTRAST_UNIT * field.contrast
    truth = field.truth.copy()
    if rng.random() < 0.6:
        _stain_cells(light, rng)
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 4)):
            _add_round_cell(light, truth, rng)
    if cutouts and rng.random() < 0.7:
        for _ in range(rng.integers(2, 10)):
            _paste(light, truth, _choose(cutouts, rng), _anywhere(truth.shape, rng), rng)
    if cutouts and rng.random() < 0.5:
        for _ in range(rng.integers(1, 3)):
            _paste_aggregate(light, truth, cutouts, rng)
    for _ in range(rng.integers(1, 6)):
        _add_blob(light, truth, rng)
    edge = _add_well_edge(light, truth, rng) if rng.random() < 0.35 else None
    if rng.random() < 0.6:  # otherwise as if the flat field had come from elsewhere
        light = light / np.maximum(estimate_background(light), 1e-6)
    contrast = ((light - 1) / CONTRAST_UNIT).astype(np.float32)
    if edge is not None:  # where a wide edge has become the background itself, nothing is left to see
        truth[edge & (ndimage.uniform_filter(contrast, 15) > -0.3)] = IGNORE
    return TruthField(contrast, truth)


def _stain_cells(light: Light, rng: np.random.Generator) -> None:
    """Stain some cells densely, in place: the dark that is not an artifact, and that few wells show.

    Stain is granular, which tells it from the smooth shadow of a defocused blob.
    """
    shape = light.shape
    texture = np.abs(light - ndimage.gaussian_filter(light, 4))[::4, ::4]
    cells = np.clip(ndimage.gaussian_filter(texture, 4) / 0.02 - 0.5, 0, 1)
    places = np.argwhere(cells > 0.5)
    if not len(places):
        return
    rows, columns = np.ogrid[: cells.shape[0], : cells.shape[1]]
    stain = np.zeros(cells.shape)
    for _ in range(rng.integers(1, 7)):
        y, x = places[rng.integers(len(places))]
        radius = rng.uniform(6, 35)
        stain = np.maximum(stain, rng.uniform(0.3, 1) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / radius**2))
    stain *= ndimage.gaussian_filter(cells, rng.uniform(0.5, 3))
    stain = ndimage.zoom(stain, [n / m for n, m in zip(shape, stain.shape, strict=True)], order=1)
    grain = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.9, 2.5, 2))
    if rng.random() < 0.6:  # the relief of oblique light
        grain = grain - np.roll(grain, rng.integers(-3, 4, 2), axis=(0, 1)) + 0.3 * grain
    grain /= max(grain.std(), 1e-6)
    depth, roughness = rng.uniform(0.05, 0.65), rng.uniform(0.1, 0.6)
    # Little more relief than there was: bright and dark side by side are crystals.
    light += (light - 1) * rng.uniform(0, 0.5) * stain
    light *= np.exp(-depth * stain * np.clip(1 + roughness * grain, 0, None))


def _add_round_cell(light: Light, truth: Truth, rng: np.random.Generator) -> None:
    """Add a densely stained cell that has rounded up, in place: black in the middle, its rim frayed and grainy.

    It is no artifact, though it is as dark as one.
    """
    shape = truth.shape
    y, x = (rng.uniform(0, n) for n in shape)
    radius, stretch = np.exp(rng.uniform(np.log(14), np.log(45))), np.exp(rng.uniform(-0.4, 0.4))
    reach = int(3.5 * radius * max(stretch, 1 / stretch))
    window = slice(max(int(y) - reach, 0), int(y) + reach), slice(max(int(x) - reach, 0), int(x) + reach)
    part = light[window]
    rows = np.arange(window[0].start, window[0].start + part.shape[0])[:, None]
    columns = np.arange(window[1].start, window[1].start + part.shape[1])
    angle = rng.uniform(0, np.pi)
    along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    distance = np.hypot(along * stretch, across / stretch) / radius
    body = np.exp(-(distance ** rng.uniform(1.2, 3)))
    grain = ndimage.gaussian_filter(rng.normal(size=part.shape), rng.uniform(0.8, 2.0))
    grain /= max(grain.std(), 1e-6)
    coarse = ndimage.gaussian_filter(rng.normal(size=part.shape), radius / 5)
    coarse /= max(coarse.std(), 1e-6)
    density = rng.uniform(0.3, 1.5) * body * np.clip(1 + 0.25 * coarse, 0.2, None)
    # Grain fades where hardly any light is left.
    density *= np.clip(1 + rng.uniform(0.05, 0.35) * np.exp(-density) * grain, 0, None)
    free = truth[window] == BACKGROUND
    part[free] *= np.exp(-density[free])


def _paste_aggregate(light: Light, truth: Truth, cutouts: Sequence[Cutout], rng: np.random.Generator) -> None:
    """Heap debris up, in place: an aggregate is one artifact, gaps and all."""
    middle = _anywhere(truth.shape, rng)
    spread = rng.uniform(8, 35)
    before = truth == ARTIFACT
    for _ in range(int(rng.integers(4, 8 + int(spread)))):
        y, x = rng.normal(middle, spread)
        _paste(light, truth, _choose(cutouts, rng), (int(y), int(x)), rng)
    reach = int(5 * spread)
    window = tuple(slice(max(m - reach, 0), m + reach) for m in middle)
    heap = ndimage.binary_closing((truth[window] == ARTIFACT) & ~before[window], iterations=4)
    truth[window][ndimage.binary_fill_holes(heap)] = ARTIFACT


def _choose(cutouts: Sequence[Cutout], rng: np.random.Generator) -> Cutout:
    return cutouts[int(rng.integers(len(cutouts)))]


def _anywhere(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Choose a place ``(y, x)``."""
    return int(rng.integers(shape[0])), int(rng.integers(shape[1]))


def _paste(light: Light, truth: Truth, cutout: Cutout, place: tuple[int, int], rng: np.random.Generator) -> None:
    """Paste debris turned and resized around a place, in place; what reaches beyond the field is cut off."""
    loss, outline = cutout
    angle, zoom = rng.uniform(0, 360), np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    loss = ndimage.zoom(ndimage.rotate(loss, angle, order=1), zoom, order=1)
    outline = ndimage.zoom(ndimage.rotate(outline.astype(np.float32), angle, order=1), zoom, order=1) > 0.5
    if rng.random() < 0.3:  # a little out of focus
        sigma = rng.uniform(0.5, 3.0)
        loss = ndimage.gaussian_filter(np.pad(loss, 8), sigma)
        outline = np.pad(outline, 8)
    starts = [p - n // 2 for p, n in zip(place, loss.shape, strict=True)]
    inside = tuple(
        slice(max(-start, 0), max(min(n, side - start), 0))
        for start, n, side in zip(starts, loss.shape, truth.shape, strict=True)
    )
    window = tuple(slice(start + part.start, start + part.stop) for start, part in zip(starts, inside, strict=True))
    if any(part.stop <= part.start for part in inside):
        return
    light[window] *= np.maximum(1 - loss[inside] * rng.uniform(0.85, 1.15), 0)
    truth[window][outline[inside]] = ARTIFACT


def _add_blob(light: Light, truth: Truth, rng: np.random.Generator) -> None:
    """Add the shadow of an object far out of focus, in place."""
    shape = truth.shape
    y, x = (rng.uniform(-20, n + 20) for n in shape)
    radius = np.exp(rng.uniform(np.log(18), np.log(110)))
    stretch, angle = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(0, np.pi)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    distance = np.hypot(along * stretch, across / stretch) / radius
    if rng.random() < 0.4:  # not quite round
        wobble = ndimage.zoom(rng.normal(0, 0.12, (7, 7)), [n / 7 for n in shape], order=1)
        distance = distance * (1 + wobble[: shape[0], : shape[1]])
    power = rng.uniform(1.0, 3.0)
    if rng.random() < 0.5:
        profile = np.clip(1 - distance**2, 0, None) ** power
    else:
        profile = np.exp(-((distance * 1.5) ** (2 * power)))
    # Half of them as faint as most are.
    depth = np.exp(rng.uniform(np.log(0.025), np.log(0.09 if rng.random() < 0.5 else 0.45)))
    light *= 1 - depth * profile
    # The annotated outlines follow the shadow to its rim; the faintest shadows were left out of the scores.
    rim = profile > max(0.1, 0.006 / depth)
    if depth > _FAINTEST_SHADOW:
        truth[rim] = ARTIFACT
    else:
        truth[rim & (truth != ARTIFACT)] = IGNORE


def _add_well_edge(light: Light, truth: Truth, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Darken the field beyond a slightly bent line, as the wall of a well does, in place; return where it is."""
    shape = truth.shape
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    angle = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.3)
    along = (rows - shape[0] / 2) * np.sin(angle) + (columns - shape[1] / 2) * np.cos(angle)
    across = (rows - shape[0] / 2) * np.cos(angle) - (columns - shape[1] / 2) * np.sin(angle)
    reach = shape[0] / 2 - rng.uniform(20, 420)
    inside = reach - along - rng.uniform(-1, 1) * across**2 / 3000
    width = np.exp(rng.uniform(np.log(2), np.log(40)))
    darkest = rng.uniform(0, 0.5) if rng.random() < 0.7 else 0.0
    profile = 1 / (1 + np.exp(np.clip(inside / width, -50, 50)))
    light -= (light - 1) * np.clip(2 * profile, 0, 1)  # nothing is seen through the wall
    light *= 1 - (1 - darkest) * profile
    if rng.random() < 0.4:  # the bright fringe of refraction at the wall
        light *= 1 + rng.uniform(0, 0.4) * np.exp(-(((inside - 3 * width) / (2 * width)) ** 2))
    darkening = (1 - darkest) * profile
    truth[darkening > 0.02] = IGNORE
    edge: NDArray[np.bool_] = darkening > 0.12
    truth[edge] = ARTIFACT
    light += rng.normal(0, 0.01, shape) * profile
    return edge

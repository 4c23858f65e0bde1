"""Draw into real fields what they show too little of: defocused blobs, well edges, debris, densely stained cells.

Everything is done on transmission (intensity over background), where objects in the light path multiply.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.kernels.illumination import CONTRAST_UNIT, estimate_background

BACKGROUND, DEBRIS, BLOB, WELL_EDGE, IGNORE = 0, 1, 2, 3, 255


Light = NDArray[np.float32]
Classes = NDArray[np.uint8]


class LabelledField(NamedTuple):
    """A normalised field ``(y, x) float32`` and its classes ``(y, x) uint8`` (255: leave out)."""

    contrast: Light
    classes: Classes


class Cutout(NamedTuple):
    """One piece of debris: transmission loss ``(y, x)``, feathered to 0 at the rim, and its outline."""

    loss: NDArray[np.float32]
    outline: NDArray[np.bool_]


def cut_out_debris(fields: list[LabelledField], *, margin_px: int = 6) -> list[Cutout]:
    """Cut every piece of debris out of its field."""
    cutouts = []
    for contrast, classes in fields:
        labels, _ = ndimage.label(classes == DEBRIS, np.ones((3, 3)))
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            window = tuple(
                slice(max(s.start - margin_px, 0), min(s.stop + margin_px, n))
                for s, n in zip(box, classes.shape, strict=True)
            )
            outline = labels[window] == index
            feather = np.clip(1.5 - ndimage.distance_transform_edt(~outline) / 4, 0, 1)
            cutouts.append(Cutout((-CONTRAST_UNIT * contrast[window] * feather).astype(np.float32), outline))
    return cutouts


def compose(field: LabelledField, cutouts: list[Cutout], rng: np.random.Generator) -> LabelledField:
    """Draw a random choice of artifacts into a field.

    Parameters
    ----------
    field
        A real field; unchanged.
    cutouts
        Debris to paste, from training fields only.
    rng
        Decides everything.

    Returns
    -------
    LabelledField
        A new field.
    """
    light = 1 + CONTRAST_UNIT * field.contrast
    classes = field.classes.copy()
    if rng.random() < 0.6:
        _stain_cells(light, rng)
    if cutouts and rng.random() < 0.7:
        for _ in range(rng.integers(2, 10)):
            _paste(light, classes, cutouts[rng.integers(len(cutouts))], rng)
    for _ in range(rng.integers(0, 5)):
        _add_blob(light, classes, rng)
    if rng.random() < 0.35:
        _add_well_edge(light, classes, rng)
    if rng.random() < 0.6:  # otherwise as if the flat field had come from elsewhere
        light = light / np.maximum(estimate_background(light), 1e-6)
    contrast = ((light - 1) / CONTRAST_UNIT).astype(np.float32)
    # Where a wide edge has become the background itself, nothing is left to see.
    classes[(classes == WELL_EDGE) & (ndimage.uniform_filter(contrast, 15) > -0.3)] = IGNORE
    return LabelledField(contrast, classes)


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


def _paste(light: Light, classes: Classes, cutout: Cutout, rng: np.random.Generator) -> None:
    """Paste debris turned and resized at a random place, in place."""
    loss, outline = cutout
    angle, zoom = rng.uniform(0, 360), np.exp(rng.uniform(np.log(0.6), np.log(1.5)))
    loss = ndimage.zoom(ndimage.rotate(loss, angle, order=1), zoom, order=1)
    outline = ndimage.zoom(ndimage.rotate(outline.astype(np.float32), angle, order=1), zoom, order=1) > 0.5
    if rng.random() < 0.3:  # a little out of focus
        sigma = rng.uniform(0.5, 2.0)
        loss = ndimage.gaussian_filter(np.pad(loss, 6), sigma)
        outline = np.pad(outline, 6)
    height, width = loss.shape
    if height >= classes.shape[0] or width >= classes.shape[1]:
        return
    y, x = rng.integers(classes.shape[0] - height), rng.integers(classes.shape[1] - width)
    window = slice(y, y + height), slice(x, x + width)
    light[window] *= np.maximum(1 - loss * rng.uniform(0.85, 1.15), 0)
    classes[window][outline] = DEBRIS


def _add_blob(light: Light, classes: Classes, rng: np.random.Generator) -> None:
    """Add the shadow of an object far out of focus, in place."""
    shape = classes.shape
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
    depth = np.exp(rng.uniform(np.log(0.018), np.log(0.6)))
    light *= 1 - depth * profile
    # The annotated outlines follow the shadow to its rim; the faintest shadows were left out of the scores.
    rim = profile > max(0.1, 0.006 / depth)
    classes[rim & (classes != DEBRIS)] = BLOB if depth > 0.034 else IGNORE


def _add_well_edge(light: Light, classes: Classes, rng: np.random.Generator) -> None:
    """Darken the field beyond a slightly bent line, as the wall of a well does, in place."""
    shape = classes.shape
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
    edge = (1 - darkest) * profile
    classes[edge > 0.02] = IGNORE
    classes[edge > 0.12] = WELL_EDGE
    light += rng.normal(0, 0.01, shape) * profile

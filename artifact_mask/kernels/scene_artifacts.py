"""Synthetic imaging artifacts: crystals, specks, fibres, defocused blobs, well edges and harmless look-alikes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from skimage import draw, morphology

from artifact_mask.kernels.scene_optics import splat

CRYSTAL, BLOB, WELL_EDGE = 1, 2, 3
"""Classes of the artifact mask; 0 is none."""

MARGIN_UM = 0.75
"""What an outline is wider than its object."""

OBJECTS_PER_MM2 = 72.0
BLOBS_PER_MM2 = 2.6
WELL_EDGE_PROBABILITY = 0.03


@dataclass(frozen=True)
class ArtifactLayers:
    """What the artifacts of a canvas do to light, and where they are.

    Attributes
    ----------
    phase, absorbance
        ``(y, x)`` float32, of objects in focus.
    transmission
        ``(y, x)`` float32, share of the light that passes objects far from focus.
    classes
        ``(y, x)`` uint8: 0 none, 1 crystal, speck or fibre, 2 defocused blob, 3 well edge.
    """

    phase: NDArray[np.float32]
    absorbance: NDArray[np.float32]
    transmission: NDArray[np.float32]
    classes: NDArray[np.uint8]


def draw_artifacts(
    shape: tuple[int, int], rng: np.random.Generator, *, density: float, px_per_um: float
) -> ArtifactLayers:
    """Draw artifacts in the numbers and sizes of real fields.

    Parameters
    ----------
    shape
        ``(y, x)`` of the canvas, in pixels.
    rng
        Source of randomness.
    density
        Factor on the numbers of real fields; 0 draws none (harmless look-alikes stay).
    px_per_um
        Pixels per micrometre.

    Returns
    -------
    ArtifactLayers
        Optical layers and classes.
    """
    opaque, grains, glints, phase = np.zeros((4, *shape), np.float32)
    transmission = np.ones(shape, np.float32)
    classes = np.zeros(shape, np.uint8)
    area_mm2 = shape[0] * shape[1] / (px_per_um * 1000) ** 2
    crystal_rng, blob_rng, edge_rng, bead_rng = rng.spawn(4)

    _draw_look_alikes(phase, opaque, bead_rng, area_mm2, px_per_um)
    _draw_bands(transmission, bead_rng)
    thin = np.zeros(shape, bool)
    for _ in range(blob_rng.poisson(BLOBS_PER_MM2 * area_mm2 * density)):
        _draw_blob(transmission, classes, blob_rng, px_per_um)
    for _ in range(crystal_rng.poisson(OBJECTS_PER_MM2 * area_mm2 * density * crystal_rng.gamma(3.0, 1 / 3))):
        n_grains = 1 + int(min(crystal_rng.lognormal(1.8, 2.1), 800))
        _draw_aggregate(grains, glints, crystal_rng, n_grains, px_per_um)
    for _ in range(crystal_rng.poisson(1.0 * area_mm2 * density)):
        _draw_fibre(thin, crystal_rng, px_per_um)
    if edge_rng.random() < WELL_EDGE_PROBABILITY * density:
        _draw_well_edge(transmission, classes, edge_rng, px_per_um)
    opaque += ndimage.gaussian_filter(grains, 0.15 * px_per_um)
    opaque += 0.6 * ndimage.gaussian_filter(thin.astype(np.float32), 0.15 * px_per_um)
    opaque -= ndimage.gaussian_filter(glints, 0.2 * px_per_um)
    phase += 0.8 * ndimage.gaussian_filter(grains, 0.2 * px_per_um)
    # Behind the wall of the well nothing can be told apart.
    classes[_outlined((grains > 0) | thin, px_per_um) & (classes != WELL_EDGE)] = CRYSTAL
    return ArtifactLayers(phase=phase, absorbance=opaque, transmission=transmission, classes=classes)


def _outlined(solid: NDArray[np.bool_], px_per_um: float) -> NDArray[np.bool_]:
    """Objects with their margin and with the gaps between their grains closed."""
    distance = ndimage.distance_transform_edt(~solid) if solid.any() else np.full(solid.shape, np.inf)
    outlined: NDArray[np.bool_] = distance <= MARGIN_UM * px_per_um
    closed: NDArray[np.bool_] = morphology.remove_small_holes(outlined, max_size=max(1, int(6 * px_per_um**2)))
    return closed


def _draw_aggregate(
    grains: NDArray[np.float32], glints: NDArray[np.float32], rng: np.random.Generator, n_grains: int, px_per_um: float
) -> None:
    """Grow a cluster of angular grains from one spot, with glints where light slips through."""
    opacity = rng.uniform(0.45, 1.1)
    size = rng.uniform(0.6, 0.85) if n_grains <= 3 else rng.uniform(0.5, 0.75)
    stretch, turn = rng.uniform(1, 1.8), rng.uniform(0, np.pi)
    centres = np.zeros((n_grains, 2))
    for i in range(1, n_grains):
        direction = rng.uniform(0, 2 * np.pi)
        along, across = stretch * np.cos(direction), np.sin(direction)
        way = np.array([np.cos(turn) * along - np.sin(turn) * across, np.sin(turn) * along + np.cos(turn) * across])
        centres[i] = centres[rng.integers(i // 2, i)] + way * size * rng.uniform(1.2, 2.2)
    centres = centres * px_per_um + rng.uniform(0, 1, 2) * grains.shape
    for y, x in centres:
        corners = (np.arange(7) + rng.uniform(0, 0.9, 7)) * (2 * np.pi / 7)
        radius = np.maximum(size * rng.uniform(0.65, 1.3) * px_per_um * rng.uniform(0.75, 1.15, 7), 0.75)
        rows, columns = draw.polygon(y + radius * np.sin(corners), x + radius * np.cos(corners), grains.shape)
        grains[rows, columns] = opacity * rng.uniform(0.7, 1.2)
    n_glints = rng.poisson(0.4 * n_grains) if n_grains > 4 else 0
    spots = centres[rng.integers(0, n_grains, n_glints)] + rng.normal(0, 0.8 * size * px_per_um, (n_glints, 2))
    for y, x in spots:
        length, angle = rng.uniform(0.1, 0.6) * px_per_um, rng.uniform(0, np.pi)
        t = np.linspace(-1, 1, 2 * int(length) + 2)
        rows = (y + length * t * np.sin(angle)).astype(np.intp)
        columns = (x + length * t * np.cos(angle)).astype(np.intp)
        ok = (rows >= 0) & (columns >= 0) & (rows < grains.shape[0]) & (columns < grains.shape[1])
        glints[rows[ok], columns[ok]] = rng.uniform(0.4, 1.9)


def _draw_fibre(solid: NDArray[np.bool_], rng: np.random.Generator, px_per_um: float) -> None:
    """Draw a long, thin, curved fibre."""
    length = rng.uniform(25, 90) * px_per_um
    t = np.arange(0, length, 0.5)
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.0) * t / length + rng.normal(0, 0.5) * np.sin(6 * t / length)
    y = rng.uniform(0, solid.shape[0]) + np.cumsum(np.sin(heading)) * 0.5
    x = rng.uniform(0, solid.shape[1]) + np.cumsum(np.cos(heading)) * 0.5
    width = rng.uniform(0.1, 0.3) * px_per_um
    for dy, dx in rng.uniform(-width, width, (12, 2)):
        rows, columns = (y + dy).round().astype(np.intp), (x + dx).round().astype(np.intp)
        ok = (rows >= 0) & (columns >= 0) & (rows < solid.shape[0]) & (columns < solid.shape[1])
        solid[rows[ok], columns[ok]] = True


def _draw_blob(
    transmission: NDArray[np.float32], classes: NDArray[np.uint8], rng: np.random.Generator, px_per_um: float
) -> None:
    """Draw something far from focus: a soft, dark, slightly lopsided disc."""
    shape = transmission.shape
    y, x = np.ogrid[: shape[0], : shape[1]]
    y, x = y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])
    radius = rng.uniform(11, 24) * px_per_um
    lopsided = 1 + 0.12 * np.cos(2 * np.arctan2(y, x) + rng.uniform(0, 6))
    reach = np.hypot(y, x) / (radius * lopsided)
    depth = float(np.exp(rng.uniform(np.log(0.03), np.log(0.2))))
    transmission *= (1 - depth * special.expit((0.7 - reach) / rng.uniform(0.1, 0.2))).astype(np.float32)
    classes[reach <= 1] = BLOB


def _draw_well_edge(
    transmission: NDArray[np.float32], classes: NDArray[np.uint8], rng: np.random.Generator, px_per_um: float
) -> None:
    """Darken what lies beyond the wall of a round well of 6.4 mm."""
    shape = transmission.shape
    radius = 3200 * px_per_um
    angle = rng.uniform(0, 2 * np.pi)
    half = np.hypot(*shape) / 2
    inset = rng.uniform(0.1, 0.7) * half
    centre_y = shape[0] / 2 - (radius - inset) * np.sin(angle)
    centre_x = shape[1] / 2 - (radius - inset) * np.cos(angle)
    y, x = np.ogrid[: shape[0], : shape[1]]
    outside = (np.hypot(y - centre_y, x - centre_x) - radius).astype(np.float32)
    rough = ndimage.zoom(rng.normal(0, 0.35 * px_per_um, (12, 12)), [n / 12 for n in shape], order=3).astype(np.float32)
    outside += rough
    wall = special.expit(outside / (rng.uniform(0.8, 2.5) * px_per_um))
    shade = 0.25 * np.exp(np.minimum(outside, 0) / (25 * px_per_um))
    halo = 0.25 * np.exp(-(((outside + 5 * px_per_um) / (1.6 * px_per_um)) ** 2))
    transmission *= (1 - shade + halo) * (1 - wall * rng.uniform(0.8, 0.95))
    classes[outside > -2 * px_per_um] = WELL_EDGE


def _draw_bands(transmission: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draw up to three faint, wide streaks far from focus; too weak to count as artifacts."""
    shape = transmission.shape
    y, x = np.ogrid[: shape[0], : shape[1]]
    for _ in range(int(rng.integers(0, 4))):
        angle = rng.choice([0.0, rng.uniform(0, np.pi)])
        across = np.cos(angle) * (y - rng.uniform(0, shape[0])) + np.sin(angle) * (x - rng.uniform(0, shape[1]))
        width = rng.uniform(0.012, 0.05) * 1080
        transmission *= (1 + rng.normal(0, 0.006) * np.exp(-((across / width) ** 2))).astype(np.float32)


def _draw_look_alikes(
    phase: NDArray[np.float32],
    absorbance: NDArray[np.float32],
    rng: np.random.Generator,
    area_mm2: float,
    px_per_um: float,
) -> None:
    """Scatter what must not be masked: refractile beads, pale flakes, worm-like remnants and dust."""
    shape = (phase.shape[0], phase.shape[1])
    dust = _scatter(shape, rng, rng.poisson(1200 * area_mm2 * rng.gamma(2.0, 0.5)))
    phase += splat(shape, _weighted(dust, 0.06 * px_per_um**2), sigma_px=0.3 * px_per_um)
    absorbance += splat(shape, _weighted(dust[:, ::15], 0.2 * px_per_um**2), sigma_px=0.22 * px_per_um)
    for _ in range(rng.poisson(25 * area_mm2)):
        y, x = rng.uniform(0, 1, 2) * shape
        radius = rng.uniform(0.5, 1.8) * px_per_um
        rows, columns = draw.disk((y, x), max(radius, 1.0), shape=shape)
        bulge = np.sqrt(np.maximum(1 - np.hypot(rows - y, columns - x) ** 2 / max(radius, 1.0) ** 2, 0))
        phase[rows, columns] += (rng.choice([-1, 1]) * rng.uniform(0.1, 0.7) * bulge).astype(np.float32)
    worms = [np.zeros((3, 0))]
    for _ in range(rng.poisson(40 * area_mm2 * rng.gamma(2.0, 0.5))):
        # Footprints that moving cells leave behind: loose strings of fragments.
        middle, spread = rng.uniform(0, 1, 2) * shape, rng.uniform(4, 14) * px_per_um
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(2, 9))):
            start = middle + rng.normal(0, spread, 2) * [abs(np.sin(heading)) + 0.2, abs(np.cos(heading)) + 0.2]
            worms.append(_worm(start, rng, int(rng.integers(2, 9) * px_per_um), px_per_um))
    for _ in range(rng.poisson(60 * area_mm2)):
        start = rng.uniform(0, 1, 2) * shape
        worms.append(_worm(start, rng, int(rng.integers(3, 20) * px_per_um), px_per_um))
    phase += splat(shape, np.concatenate(worms, axis=1).astype(np.float32), sigma_px=0.22 * px_per_um)


def _worm(start: NDArray[np.float64], rng: np.random.Generator, length: int, px_per_um: float) -> NDArray[np.float64]:
    """Points ``(3, n)`` along a short curl."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, length))
    y, x = start[0] + np.cumsum(np.sin(heading)) * 0.7, start[1] + np.cumsum(np.cos(heading)) * 0.7
    return np.stack([y, x, rng.uniform(0, 0.28, length) * rng.uniform(0.1, 1) * px_per_um])


def _scatter(shape: tuple[int, int], rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Points ``(3, n)`` all over the canvas with skewed weights around 1."""
    weight = rng.lognormal(-0.5, 0.7, count) * rng.choice([-0.5, 1], count)
    return np.stack([rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count), weight]).astype(np.float32)


def _weighted(points: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Multiply the weights of points ``(3, n)``."""
    return np.concatenate([points[:2], points[2:] * np.float32(factor)])

"""Synthetic spread cells: outlines, fibres, nuclei and perinuclear granules, as a thin object."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from artifact_mask.kernels.scene_optics import splat
from artifact_mask.kernels.scene_outline import (
    CellPose,
    densify,
    draw_fibres,
    draw_outline,
    draw_spikes,
    fill_outline,
)

GRANULE_SIGMAS_UM = (0.2, 0.3, 0.45)
"""Sizes of stained granules: standard deviation of their absorbance profile."""

MAX_LINE_PHASE = np.float32(0.35)

CELLS_PER_MM2 = 105.0

FIBRE_SIGMA_UM = 0.26
"""Half-thickness of outlines, stress fibres and filopodia."""


@dataclass(frozen=True)
class CellLayers:
    """What the cells of a canvas do to light.

    Attributes
    ----------
    phase
        ``(y, x)`` float32, phase delay in radians.
    stain
        ``(y, x)`` float32, absorbance of the SA-beta-Gal stain.
    nuclei, body
        ``(y, x)`` float32, 0..1: how much nucleus or cell there is, for fluorescence.
    texture
        ``(y, x)`` float32 noise of standard deviation 1, fibrous along the cells.
    nucleus_labels
        ``(y, x)`` int32: the cell, from 1, whose nucleus is seen; of several that lie on each other, the brightest.
    nucleus_hidden
        ``(n + 1,)`` float32: share of each nucleus that brighter ones hide; that of 0, which is none, is 0.
    """

    phase: NDArray[np.float32]
    stain: NDArray[np.float32]
    nuclei: NDArray[np.float32]
    body: NDArray[np.float32]
    texture: NDArray[np.float32]
    nucleus_labels: NDArray[np.int32]
    nucleus_hidden: NDArray[np.float32]


class _Sheet:
    """Canvas that one cell after another is drawn on; points are collected and spread out together at the end."""

    def __init__(self, shape: tuple[int, int], px_per_um: float, blotches: NDArray[np.float32]) -> None:
        self.shape = shape
        self.px_per_um = px_per_um
        self.blotches = blotches
        self.lines: list[NDArray[np.float32]] = []
        self.granules: tuple[list[NDArray[np.float32]], ...] = tuple([] for _ in GRANULE_SIGMAS_UM)
        self.thickness, self.grain, self.diffuse, self.nuclei, self.body = np.zeros((5, *shape), np.float32)
        self.owned, self.owner, self.nucleus_px = np.zeros(shape, np.float32), np.zeros(shape, np.int32), [0]


def draw_cells(shape: tuple[int, int], rng: np.random.Generator, *, dose: float, px_per_um: float) -> CellLayers:
    """Draw spread, elongated cells that lie roughly parallel, with dose-dependent perinuclear stain.

    Parameters
    ----------
    shape
        ``(y, x)`` of the canvas, in pixels.
    rng
        Source of randomness. The same state draws the same cells for every dose.
    dose
        0..1, share of the granules that are stained.
    px_per_um
        Pixels per micrometre.

    Returns
    -------
    CellLayers
        Phase, stain, nuclei and bodies.
    """
    sheet = _Sheet(shape, px_per_um, _blotches(shape, rng, 4 * px_per_um))
    reach = 60 * px_per_um
    extent = [n + 2 * reach for n in shape]
    expected = CELLS_PER_MM2 * extent[0] * extent[1] / (px_per_um * 1000) ** 2
    count = rng.poisson(expected * rng.gamma(3.0, 1 / 3))
    main_angle = rng.uniform(0, np.pi)
    for cell_rng in rng.spawn(int(count)):
        length = 72 * px_per_um * cell_rng.lognormal(0, 0.33)
        cell = CellPose(
            centre=(cell_rng.uniform(-reach, shape[0] + reach), cell_rng.uniform(-reach, shape[1] + reach)),
            angle=main_angle + cell_rng.normal(0, 0.55),
            half_length=length,
            half_width=min(length * cell_rng.uniform(0.2, 0.62), 42 * px_per_um),
            bend=cell_rng.normal(0, 0.12),
        )
        _draw_cell(sheet, cell, cell_rng, dose)
    return _finish(sheet, rng, main_angle)


def _draw_cell(sheet: _Sheet, cell: CellPose, rng: np.random.Generator, dose: float) -> None:
    """Add one cell to the sheet."""
    scale = sheet.px_per_um
    outline_along, outline_across, strength = draw_outline(cell, rng, scale)
    outline_y, outline_x = cell.place(outline_along, outline_across)
    top, left = int(max(outline_y.min() - 2, 0)), int(max(outline_x.min() - 2, 0))
    bottom = int(min(outline_y.max() + 3, sheet.shape[0]))
    right = int(min(outline_x.max() + 3, sheet.shape[1]))
    if bottom - top < 2 or right - left < 2:
        return
    window = slice(top, bottom), slice(left, right)
    inside = fill_outline((bottom - top, right - left), outline_y - top, outline_x - left)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1].astype(np.float32)
    y, x = np.mgrid[top:bottom, left:right]
    along, across = (a.astype(np.float32) for a in cell.own(y, x))

    nucleus_along, nucleus_across, room = _roomiest_spot(cell, outline_y, outline_x)
    nucleus_half = rng.uniform(8.5, 12.0) * scale
    nucleus_width = max(min(nucleus_half * rng.uniform(0.55, 0.85), 0.8 * room), 0.5)
    reach = np.hypot((along - nucleus_along) / nucleus_half, (across - nucleus_across) / nucleus_width)
    nucleus = np.clip((1 - reach) * nucleus_width / (1.2 * scale) + 0.5, 0, 1) * inside
    spread = rng.uniform(1.3, 2.2)
    stretch = rng.uniform(1.0, 1.8)
    far = np.hypot((along - nucleus_along) / (nucleus_half * stretch), (across - nucleus_across) / nucleus_width)
    around = np.exp(-((far / (1.6 * spread)) ** 2)) * inside
    ring = around * (1 - 0.75 * nucleus) * np.clip(depth / (2.5 * scale), 0, 1)

    plump = rng.lognormal(0, 0.35)
    sheet.thickness[window] += inside * 0.05 * (1 - np.exp(-depth / (0.8 * scale)))
    sheet.thickness[window] += plump * 0.35 * around - 0.06 * nucleus
    sheet.grain[window] += inside * 0.012 + 0.03 * plump * ring
    bright = nucleus * rng.uniform(0.5, 1.0)
    sheet.nuclei[window] = np.maximum(sheet.nuclei[window], bright)
    _own(sheet, window, bright, nucleus >= 0.5)
    sheet.body[window] = np.maximum(sheet.body[window], (0.25 * inside + 0.75 * around) * rng.uniform(0.4, 1.0))

    response = rng.gamma(2.0, 0.5)
    very_dark = rng.random() < 0.10
    level = min(1.0, (0.02 + 0.98 * dose) * response)
    blotch = sheet.blotches[window]
    sheet.diffuse[window] += ring * blotch * np.float32(level * (rng.uniform(0.1, 0.35) if very_dark else 0.02))

    step = 0.5
    strength = np.minimum(strength * rng.gamma(6.0, 1 / 6, strength.size), 0.4)
    edge = np.stack([outline_y, outline_x, strength * step]).astype(np.float32)
    nucleus_spot = np.array([nucleus_along, nucleus_across])
    rim = _rim(cell, nucleus_spot, (nucleus_half, nucleus_width), rng.uniform(-0.01, 0.06))
    sheet.lines.append(rim[:, _within(inside, rim, window)])
    sheet.lines.append(densify(edge, step))
    sheet.lines.append(draw_spikes(outline_y, outline_x, strength, rng, scale))
    fibres = draw_fibres(cell, rng, scale)
    sheet.lines.append(fibres[:, _within(inside, fibres, window)])
    zone = np.array([*nucleus_spot, nucleus_half * spread * stretch, nucleus_width * spread])
    granules = _granules(cell, rng, zone, scale)
    granules = granules[:, _within(depth > 1.2 * scale, granules, window)]
    _add_granules(sheet, granules, rng, level)


def _own(sheet: _Sheet, window: tuple[slice, slice], bright: NDArray[np.floating], nucleus: NDArray[np.bool_]) -> None:
    """Give the pixels of a nucleus to it, but those of brighter ones."""
    seen = nucleus & (bright > sheet.owned[window])
    sheet.owned[window][seen] = bright[seen]
    sheet.owner[window][seen] = len(sheet.nucleus_px)
    sheet.nucleus_px.append(int(np.count_nonzero(nucleus)))


def _rim(
    cell: CellPose, spot: NDArray[np.float64], half_axes: tuple[float, float], weight: float
) -> NDArray[np.float32]:
    """Envelope of the nucleus: points ``(3, n)`` along an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 160)
    y, x = cell.place(spot[0] + half_axes[0] * np.cos(turn), spot[1] + half_axes[1] * np.sin(turn))
    return np.stack([y, x, np.full(turn.size, weight)]).astype(np.float32)


def _blotches(shape: tuple[int, int], rng: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    """Smooth positive noise of mean about 1 that makes the diffuse stain uneven."""
    coarse = rng.standard_normal([int(n / sigma) + 3 for n in shape], dtype=np.float32)
    smooth = ndimage.zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    blotches: NDArray[np.float32] = np.exp(0.5 * smooth - 0.08)
    return blotches


def _within(mask: NDArray[np.bool_], points: NDArray[np.float32], window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Tell which points ``(3, n)`` lie on a mask that fills a window of the canvas."""
    y = points[0].astype(np.intp) - window[0].start
    x = points[1].astype(np.intp) - window[1].start
    on: NDArray[np.bool_] = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
    on[on] = mask[y[on], x[on]]
    return on


def _roomiest_spot(
    cell: CellPose, outline_y: NDArray[np.float64], outline_x: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Find where the nucleus fits best: the cell's own ``(along, across)``, and the distance to the outline."""
    step = max(1.0, cell.half_width / 12)
    top, left = outline_y.min(), outline_x.min()
    y, x = (outline_y - top) / step + 1, (outline_x - left) / step + 1
    depth = ndimage.distance_transform_edt(fill_outline((int(y.max()) + 3, int(x.max()) + 3), y, x))
    deepest = np.unravel_index(np.argmax(depth), depth.shape)
    along, across = cell.own(np.array([(deepest[0] - 1) * step + top]), np.array([(deepest[1] - 1) * step + left]))
    return float(along[0]), float(across[0]), float(depth[deepest]) * step


def _granules(cell: CellPose, rng: np.random.Generator, zone: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """Scatter granules around the nucleus: points ``(3, n)`` with the absorbance of each when fully stained."""
    along_0, across_0, reach_along, reach_across = zone
    count = rng.poisson(min(2000.0, 2.7 * reach_along * reach_across / scale**2 * rng.lognormal(0, 0.5)))
    radius = np.sqrt(rng.exponential(0.6, count)) + rng.uniform(0.2, 0.45)
    turn = rng.uniform(0, 2 * np.pi, count)
    along = along_0 + radius * np.cos(turn) * reach_along
    across = across_0 + radius * np.sin(turn) * reach_across
    depth = np.minimum(0.05 + rng.exponential(0.14, count), 0.8) * rng.uniform(0.6, 1.4)
    y, x = cell.place(along, across)
    return np.stack([y, x, depth]).astype(np.float32)


def _add_granules(sheet: _Sheet, points: NDArray[np.float32], rng: np.random.Generator, level: float) -> None:
    """Add granules to the sheet: all delay the light a little, those drawn below ``level`` are stained."""
    count = points.shape[1]
    stained = rng.random(count) < level
    size = rng.choice(3, count, p=[0.45, 0.4, 0.15])
    for i, sigma_um in enumerate(GRANULE_SIGMAS_UM):
        area = np.float32(2 * np.pi * (sigma_um * sheet.px_per_um) ** 2)
        chosen = points[:, stained & (size == i)]
        chosen[2] *= area
        sheet.granules[i].append(chosen)
    area = np.float32(2 * np.pi * (FIBRE_SIGMA_UM * sheet.px_per_um) ** 2)
    faint = points * np.array([[1], [1], [area]], np.float32)
    faint[2] *= rng.choice([-0.15, 0.9], count, p=[0.3, 0.7])
    sheet.lines.append(faint)


def _finish(sheet: _Sheet, rng: np.random.Generator, angle: float) -> CellLayers:
    """Turn the collected points into layers and add the grain of the cytoplasm."""
    none = np.zeros((3, 0), np.float32)
    scale = sheet.px_per_um
    phase = sheet.thickness
    lines = splat(sheet.shape, np.concatenate([none, *sheet.lines], axis=1), sigma_px=FIBRE_SIGMA_UM * scale)
    # Where many lines meet, such as at the tip of a cell, they do not pile up without end.
    phase += MAX_LINE_PHASE * np.tanh(lines / MAX_LINE_PHASE)
    grain, dust = _grain(sheet.shape, rng, sigma_px=0.34 * scale, angle=angle)
    phase += sheet.grain * grain
    phase += np.float32(0.004) * dust
    stain = sheet.diffuse * np.maximum(1 + 0.3 * dust, 0)
    for sigma_um, points in zip(GRANULE_SIGMAS_UM, sheet.granules, strict=True):
        stain += splat(sheet.shape, np.concatenate([none, *points], axis=1), sigma_px=sigma_um * scale)
    phase += 0.4 * np.minimum(stain, 1)
    n_seen = np.bincount(sheet.owner.ravel(), minlength=len(sheet.nucleus_px))
    return CellLayers(
        phase=phase,
        stain=stain,
        nuclei=sheet.nuclei,
        body=sheet.body,
        texture=grain,
        nucleus_labels=sheet.owner,
        nucleus_hidden=np.append(0, 1 - n_seen[1:] / np.maximum(sheet.nucleus_px[1:], 1)).astype(np.float32),
    )


def _grain(
    shape: tuple[int, int], rng: np.random.Generator, *, sigma_px: float, angle: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the grain of the cytoplasm, long along ``angle``, and round grain; both of standard deviation 1."""
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    y = fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    x = fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    scale = np.float32(2 * (np.pi * sigma_px) ** 2)
    along, across = (c * x + s * y) ** 2, (c * y - s * x) ** 2
    round_grains = np.exp(-scale * (along + across))
    long_grains = np.exp(-scale * (25 * along + 0.6 * across))
    round_grain = fft.irfft2(spectrum * round_grains, s=shape)
    long_grain = round_grain + 2 * fft.irfft2(spectrum * long_grains, s=shape)
    return long_grain / max(float(long_grain.std()), 1e-6), round_grain / max(float(round_grain.std()), 1e-6)

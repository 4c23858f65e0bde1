"""Outline of a synthetic spread cell: ragged fronts, concave sides, filopodia and stress fibres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class CellPose:
    """Pose of one cell: its own x axis is its long axis."""

    centre: tuple[float, float]
    angle: float
    half_length: float
    half_width: float
    bend: float

    def place(self, along: NDArray[np.float64], across: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Map the cell's own coordinates (pixels) onto the canvas as ``(y, x)``."""
        across = across + self.bend * (along**2 / self.half_length - 0.3 * self.half_length)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre[0] + s * along + c * across, self.centre[1] + c * along - s * across

    def own(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Map canvas coordinates onto the cell's own ``(along, across)``: the inverse of :meth:`place`."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        y, x = y - self.centre[0], x - self.centre[1]
        along = c * x + s * y
        return along, c * y - s * x - self.bend * (along**2 / self.half_length - 0.3 * self.half_length)


def draw_outline(
    cell: CellPose, rng: np.random.Generator, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Outline in the cell's own coordinates: ragged fronts joined by concave arcs, and how sharp each spot is."""
    n_extra = int(rng.integers(0, 4))
    angles = np.sort(
        np.concatenate([np.array([0, np.pi]) + rng.normal(0, 0.12, 2), rng.uniform(0, 2 * np.pi, n_extra)])
    )
    radii = np.hypot(cell.half_length * np.cos(angles), cell.half_width * np.sin(angles)) * rng.uniform(
        0.8, 1.15, angles.size
    )
    tips = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    fronts = rng.uniform(0.06, 0.85, angles.size) * cell.half_width
    sideways = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    starts, ends = tips - sideways * fronts[:, None] / 2, tips + sideways * fronts[:, None] / 2
    pieces, weights = [], []
    for i in range(angles.size):
        n_front = max(4, int(fronts[i] / (0.9 * scale)))
        t = np.linspace(0, 1, n_front)[:, None]
        outwards = tips[i] / max(radii[i], 1e-6)
        bulge = np.sin(np.pi * t) * 0.25 * fronts[i]
        ragged = rng.gamma(1.2, 0.8 * scale, (n_front, 1)) * rng.uniform(0.3, 1.6) * min(1.0, fronts[i] / (12 * scale))
        pieces.append(starts[i] * (1 - t) + ends[i] * t + outwards * (bulge + ragged))
        weights.append(rng.uniform(0.02, 0.18, n_front))
        j = (i + 1) % angles.size
        middle = (ends[i] + starts[j]) / 2
        narrow = rng.uniform(0.45, 1.25)
        length = np.hypot(*(starts[j] - ends[i]))
        n_arc = max(6, int(length / (1.5 * scale)))
        t = np.linspace(0, 1, n_arc)[:, None]
        arc = ends[i] * (1 - t) ** 2 + 2 * t * (1 - t) * middle * narrow + starts[j] * t**2
        sag = np.array([ends[i, 1] - starts[j, 1], starts[j, 0] - ends[i, 0]]) * rng.normal(0, 0.09)
        arc += sag * np.sin(np.pi * t)
        wobble = ndimage.gaussian_filter1d(rng.normal(0, 1.6 * scale, (n_arc, 2)), 5, axis=0)
        wobble += rng.normal(0, rng.uniform(0.02, 0.12) * scale, (n_arc, 2))
        pieces.append(arc + wobble * np.sin(np.pi * t))
        sharp = rng.choice([0.04, 0.12, 0.3], p=[0.45, 0.4, 0.15])
        weights.append(sharp * np.exp(ndimage.gaussian_filter1d(rng.normal(0, 2, n_arc), 4)))
    outline = np.concatenate(pieces)
    return outline[:, 0], outline[:, 1], np.concatenate(weights)


def densify(edge: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Points every ``step`` pixels along a closed outline ``(3, n)``."""
    closed = np.concatenate([edge, edge[:, :1]], axis=1)
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed[:2])))])
    at = np.arange(0, way[-1], step)
    return np.stack([np.interp(at, way, row) for row in closed]).astype(np.float32)


def draw_spikes(
    outline_y: NDArray[np.float64],
    outline_x: NDArray[np.float64],
    strength: NDArray[np.float64],
    rng: np.random.Generator,
    scale: float,
) -> NDArray[np.float32]:
    """Filopodia: thin straight hairs that stick out of the ragged fronts; points ``(3, n)``."""
    chosen = rng.choice(outline_y.size, min(outline_y.size, rng.poisson(14)), replace=False)
    away_y = np.gradient(ndimage.gaussian_filter1d(outline_x, 3, mode="wrap"))[chosen]
    away_x = -np.gradient(ndimage.gaussian_filter1d(outline_y, 3, mode="wrap"))[chosen]
    norm = np.maximum(np.hypot(away_y, away_x), 1e-6)
    length = rng.exponential(4.0, chosen.size) * scale
    t = np.linspace(-0.8, 1, max(2, int(16 * scale)))[None, :]
    y = outline_y[chosen][:, None] + t * (length * away_y / norm)[:, None]
    x = outline_x[chosen][:, None] + t * (length * away_x / norm)[:, None]
    weight = (rng.uniform(0.03, 0.25, chosen.size) * length / t.size)[:, None] * (1 - np.abs(t))
    return np.stack([y.ravel(), x.ravel(), weight.ravel()]).astype(np.float32)


def draw_fibres(cell: CellPose, rng: np.random.Generator, scale: float) -> NDArray[np.float32]:
    """Stress fibres that follow the outline: points ``(3, n)`` with signed weights."""
    count = rng.poisson(3.2 * cell.half_width / scale) + 10
    per_um = 2.2 / scale
    steps = int(2 * cell.half_length * per_um * scale / 2.2 * 1.6) + 4
    t = np.linspace(0, 1, steps)[None, :]
    start = rng.uniform(-0.95, 0.6, (count, 1))
    stop = start + rng.beta(1, 2, (count, 1)) * 1.1 + 0.1
    along = np.minimum(start + (stop - start) * t, 0.93)
    lane = rng.uniform(-0.95, 0.95, (count, 1)) + rng.normal(0, 0.1, (count, 1)) * (along - start)
    across = lane * cell.half_width * (1 - 0.75 * np.abs(along) ** 1.5)
    across += rng.normal(0, 0.8 * scale, (count, 1)) * np.sin(7 * along + rng.uniform(0, 6, (count, 1)))
    weight = (
        rng.gamma(1.0, 0.075, (count, 1))
        * rng.choice([-1, 1], (count, 1))
        * np.sqrt(np.sin(np.pi * t))
        * (stop - start)
        * cell.half_length
        / steps
    )
    y, x = cell.place(along * cell.half_length, across)
    return np.stack([y.ravel(), x.ravel(), weight.ravel()]).astype(np.float32)


def fill_outline(shape: tuple[int, int], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Fill a closed outline by its winding number; unlike skimage's, in time that does not grow as corners x pixels."""
    y_next, x_next = np.roll(y, -1), np.roll(x, -1)
    first = np.clip(np.ceil(np.minimum(y, y_next)), 0, shape[0]).astype(np.intp)
    last = np.clip(np.ceil(np.maximum(y, y_next)), 0, shape[0]).astype(np.intp)
    counts = last - first
    edge = np.repeat(np.arange(y.size), counts)
    row = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (row - y[edge]) / (y_next[edge] - y[edge])
    column = np.clip(np.ceil(x[edge] + share * (x_next[edge] - x[edge])), 0, shape[1]).astype(np.intp)
    turns = np.bincount(
        row * (shape[1] + 1) + column, weights=np.sign(y_next[edge] - y[edge]), minlength=shape[0] * (shape[1] + 1)
    )
    filled: NDArray[np.bool_] = turns.reshape(shape[0], -1)[:, :-1].cumsum(axis=1).round() != 0
    return filled

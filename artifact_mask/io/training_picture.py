"""Pictures of a training: how it went, and what the classifier gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLUMNS = 6
DARKEST, BRIGHTEST = -2.5, 1.25
"""Contrast that is shown as black and as white."""


@dataclass(frozen=True)
class JudgedTile:
    """A tile of the sheet.

    Attributes
    ----------
    contrast
        ``(y, x)``.
    title
        What stands above it.
    """

    contrast: NDArray[np.floating]
    title: str


def save_sheet(path: Path, tiles: Sequence[JudgedTile], heading: str) -> None:
    """Save a PNG with tiles in rows under a heading; the heading alone if there are none."""
    rows = -(-len(tiles) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, 0.7 + 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=11)
    if tiles:
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, tile in zip(axes, tiles, strict=False):
            axis.imshow(tile.contrast.astype(np.float32), cmap="gray", vmin=DARKEST, vmax=BRIGHTEST)
            axis.set_title(tile.title, fontsize=7)
    figure.savefig(path, dpi=100)


@dataclass(frozen=True)
class Curve:
    """How good a network is at all thresholds.

    Attributes
    ----------
    x, y
        ``(k,)``; empty where there is no curve.
    xlabel, ylabel, title
        What stands at the axes, and above.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xlabel: str
    ylabel: str
    title: str


def save_curves(path: Path, epochs: Sequence[dict[str, float]], best_epoch: int, curve: Curve, loss: str) -> None:
    """Save a PNG with the losses over the epochs, and a curve of how good the network is.

    Parameters
    ----------
    path
        To write.
    epochs
        Figures of each: ``loss``, and ``loss_held_out`` if anything was held out.
    best_epoch
        Which is marked, counted from 1.
    curve
        Of the held-out samples.
    loss
        Name of the loss.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    numbers = range(1, len(epochs) + 1)
    left.plot(numbers, [figures["loss"] for figures in epochs], label="training")
    if all("loss_held_out" in figures for figures in epochs):
        left.plot(numbers, [figures["loss_held_out"] for figures in epochs], label="held-out wells")
    left.axvline(best_epoch, color="grey", linewidth=0.8, linestyle="--", label="kept")
    left.set(xlabel="epoch", ylabel=loss)
    left.legend(frameon=False)
    right.plot(curve.x, curve.y, drawstyle="steps-post")
    right.set(xlabel=curve.xlabel, ylabel=curve.ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    right.set_title(curve.title, fontsize=10)
    figure.savefig(path, dpi=100)

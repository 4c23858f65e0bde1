"""Plates and fields drawn with matplotlib, for notebooks: each into axes, as :mod:`xarray` does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from artifact_mask.io.picture import OUTLINE_COLOUR
from artifact_mask.metadata import row_name

_SHOWN_PERCENT = (0.5, 99.5)
_UNKNOWN_COLOUR = "#f2c4c1"
_MISSING_COLOUR = "0.92"


def draw_heatmap(
    values: NDArray[np.floating[Any]],
    *,
    title: str = "",
    unit: str = "",
    axes: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw a value for each well at its place on the plate.

    Parameters
    ----------
    values
        ``(row, column)`` of the whole plate; NaN where there is no value.
    title, unit
        What it is.
    axes
        To draw into; new ones if not given.
    style
        For :meth:`matplotlib.axes.Axes.pcolormesh`, such as ``cmap`` or ``vmin``.
    """
    rows, columns = values.shape
    axes = axes or plt.subplots(figsize=(2 + columns * 0.3, 1.2 + rows * 0.3), layout="constrained")[1]
    mesh = axes.pcolormesh(
        np.arange(columns + 1) + 0.5,
        np.arange(rows + 1) + 0.5,
        np.ma.masked_invalid(values),
        edgecolors="white",
        linewidth=0.5,
        **style,
    )
    axes.set_facecolor(_MISSING_COLOUR)
    axes.set(aspect="equal", title=title)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    step = 1 if columns <= 24 else 2
    axes.set_xticks(range(1, columns + 1, step))
    axes.set_yticks(range(1, rows + 1, step), [row_name(row) for row in range(1, rows + 1, step)])
    axes.tick_params(length=0, labelsize=8)
    axes.figure.colorbar(mesh, ax=axes, label=unit, shrink=0.8)
    return axes


def draw_field(
    image: NDArray[Any],
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    title: str = "",
    axes: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw a field with the outlines of its labels.

    Parameters
    ----------
    image
        ``(y, x)``.
    labels
        ``(y, x)``; a field whose labels are below 0 is not known, and is framed.
    title
        What it is.
    axes
        To draw into; new ones if not given.
    style
        For :meth:`matplotlib.axes.Axes.imshow`.
    """
    axes = axes or plt.subplots(figsize=(6, 6), layout="constrained")[1]
    if not style.keys() >= {"vmin", "vmax"}:
        known = image[np.isfinite(image)] if image.dtype.kind == "f" else image
        low, high = np.percentile(known, _SHOWN_PERCENT) if known.size else (0, 1)
        style = {"vmin": low, "vmax": high, **style}
    axes.imshow(image, **{"cmap": "gray", **style})
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    if labels is not None and (labels < 0).any():
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=_UNKNOWN_COLOUR, linewidth=4)
        axes.add_patch(frame)
        axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center", color=OUTLINE_COLOUR)
    elif labels is not None and (labels > 0).any():
        axes.contour(labels > 0, levels=[0.5], colors=[OUTLINE_COLOUR], linewidths=0.9)
    return axes


def draw_montage(
    images: Sequence[Sequence[NDArray[Any] | None]],
    labels: Sequence[Sequence[NDArray[np.integer[Any]] | None]] | None = None,
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    **style: Any,
) -> NDArray[Any]:
    """Draw fields in a grid, all with the same range of grey values.

    Parameters
    ----------
    images, labels
        Rows of fields ``(y, x)``; None where there is none.
    row_titles, column_titles
        At the left and at the top.
    style
        For :meth:`matplotlib.axes.Axes.imshow`.

    Returns
    -------
    numpy.ndarray
        The axes ``(row, column)``.
    """
    n_rows, n_columns = len(images), max(len(row) for row in images)
    _, grid = plt.subplots(
        n_rows, n_columns, figsize=(0.5 + 1.9 * n_columns, 1.9 * n_rows + 0.3), layout="constrained", squeeze=False
    )
    some = [image for row in images for image in row if image is not None]
    low, high = np.nanpercentile(np.concatenate([image[::4, ::4].ravel() for image in some]), _SHOWN_PERCENT)
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            axes = grid[r, c]
            if image is None:
                axes.set(xticks=[], yticks=[], facecolor=_MISSING_COLOUR)
            else:
                draw_field(image, labels[r][c] if labels else None, axes=axes, **{"vmin": low, "vmax": high, **style})
        if row_titles:
            grid[r, 0].text(-0.06, 0.5, row_titles[r], transform=grid[r, 0].transAxes, ha="right", va="center")
    for axes, title in zip(grid[0], column_titles, strict=False):
        axes.set_title(title, fontsize=9)
    return grid

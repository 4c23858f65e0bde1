"""Pictures of masked fields that a person can judge."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

OUTLINE_COLOUR = "#ff3b30"


@dataclass(frozen=True)
class MaskedField:
    """What one row of the picture shows.

    Attributes
    ----------
    title
        Which field it is.
    image, masked
        ``(y, x)``, before and after masking.
    labels
        ``(y, x)``; the objects found.
    """

    title: str
    image: NDArray[np.uint16]
    masked: NDArray[np.uint16]
    labels: NDArray[np.int32]


def save_masking_picture(path: Path, fields: list[MaskedField]) -> None:
    """Save a PNG with a row a field: as taken, with the outlines of what was found, and masked."""
    figure = Figure(figsize=(12, 4.1 * len(fields)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(fields), 3, squeeze=False)
    for axes, field in zip(rows, fields, strict=True):
        median = float(np.median(field.image))
        grey = {"cmap": "gray", "vmin": 0.6 * median, "vmax": 1.25 * median}
        for axis, image in zip(axes, (field.image, field.image, field.masked), strict=True):
            axis.imshow(image, **grey)
            axis.set_axis_off()
        axes[1].contour(field.labels > 0, levels=[0.5], colors=[OUTLINE_COLOUR], linewidths=0.9)
        n_objects = len(np.unique(field.labels[field.labels > 0]))
        axes[0].set_title(field.title)
        axes[1].set_title(f"artifacts: {n_objects}, {100 * np.mean(field.labels > 0):.1f} % of the field")
        axes[2].set_title("masked")
    figure.savefig(path, dpi=110)


@dataclass(frozen=True)
class ExplainedField:
    """How the label of a field came about.

    Attributes
    ----------
    title
        Which field it is.
    contrast
        ``(y, x)`` against the background; what is shown as the original.
    saliency, detail, refined
        ``(y, x)``, 0..1.
    detail_name
        What the detail is, such as edges.
    labels
        ``(y, x)``; 0 is background.
    """

    title: str
    contrast: NDArray[np.float32]
    saliency: NDArray[np.float32]
    detail: NDArray[np.float32]
    detail_name: str
    refined: NDArray[np.float32]
    labels: NDArray[np.int32]


def save_explanation_picture(path: Path, field: ExplainedField) -> None:
    """Save a PNG with original, saliency, detail, refined map and label side by side."""
    figure = Figure(figsize=(20, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 5)
    grey = {"cmap": "gray", "vmin": -2.0, "vmax": 1.25}
    maps = {"saliency": field.saliency, field.detail_name: field.detail, "refined": field.refined}
    axes[0].imshow(field.contrast, **grey)
    axes[0].set_title("field")
    for axis, (name, values) in zip(axes[1:4], maps.items(), strict=True):
        axis.imshow(values, cmap="magma", vmin=0, vmax=max(float(values.max()), 1e-6))
        axis.set_title(name)
    axes[4].imshow(field.contrast, **grey)
    if field.labels.any():
        axes[4].contour(field.labels > 0, levels=[0.5], colors=[OUTLINE_COLOUR], linewidths=0.9)
    n_objects = len(np.unique(field.labels[field.labels > 0]))
    axes[4].set_title(f"label: {n_objects} objects, {100 * np.mean(field.labels > 0):.2f} % of the field")
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(field.title)
    figure.savefig(path, dpi=90)

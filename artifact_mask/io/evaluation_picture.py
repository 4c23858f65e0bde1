"""The picture of an evaluation: precision over recall, scores of the fields, and the worst of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

TRUTH_COLOUR, PREDICTED_COLOUR, LEFT_OUT_COLOUR = "#00a5ff", "#ff8c00", "#c77cff"
_CURVE_COLOURS = ("#404040", "#c44e52")
_MOST_PX = 1200
"""Side of a field beyond which every other pixel is shown, and so on."""


class Curve(NamedTuple):
    """Precision over recall, ``(k,)`` each, and the area below."""

    name: str
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float


class Distribution(NamedTuple):
    """A score of some fields ``(n,)``; NaN where it has no meaning."""

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class ComparedField:
    """A field with truth and prediction, ``(y, x)`` each; ``image`` is None where there is none."""

    title: str
    image: NDArray[np.uint16] | None
    truth: NDArray[np.bool_]
    left_out: NDArray[np.bool_]
    predicted: NDArray[np.bool_]


def save_evaluation_picture(
    path: Path,
    curves: Sequence[Curve],
    points: Sequence[tuple[float, float]],
    distributions: Sequence[Distribution],
    worst: Sequence[ComparedField],
) -> None:
    """Save a PNG.

    Parameters
    ----------
    path
        To write.
    curves
        Precision over recall; empty where there are no probabilities.
    points
        Recall and precision of the masks as they are, strict and tolerant.
    distributions
        Scores of the fields.
    worst
        Fields to show with both outlines.
    """
    figure = Figure(figsize=(12, 8.8 if worst else 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2 if worst else 1, 1, squeeze=False, height_ratios=[1, 1][: 2 if worst else 1])[:, 0]
    left, right = parts[0].subplots(1, 2)
    _draw_curves(left, curves, points)
    _draw_distributions(right, distributions)
    if worst:
        _draw_fields(parts[1], worst)
    figure.savefig(path, dpi=110)


def _draw_curves(axis: Any, curves: Sequence[Curve], points: Sequence[tuple[float, float]]) -> None:
    for curve, colour in zip(curves, _CURVE_COLOURS, strict=False):
        label = f"{curve.name}: average precision {curve.average_precision:.3f}"
        axis.plot(curve.recall, curve.precision, color=colour, label=label)
    names = ("as evaluated, strict", "as evaluated, tolerant")
    for (recall, precision), name, colour in zip(points, names, _CURVE_COLOURS, strict=False):
        label = f"{name}: precision {precision:.2f}, recall {recall:.2f}"
        axis.plot(recall, precision, "o", color=colour, label=label)
    axis.set(xlabel="recall (pixels of artifacts)", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_title("all fields pooled" if curves else "all fields pooled; masks have no curve", fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _draw_distributions(axis: Any, distributions: Sequence[Distribution]) -> None:
    rng = np.random.default_rng(0)
    for place, (_, values) in enumerate(distributions):
        known = values[~np.isnan(values)]
        if known.size:
            axis.boxplot(
                known, positions=[place], widths=0.55, showfliers=False, medianprops={"color": PREDICTED_COLOUR}
            )
            axis.plot(place + rng.uniform(-0.18, 0.18, known.size), known, "o", markersize=3, color="#40404080")
            axis.annotate(f"{np.median(known):.2f}", (place + 0.31, np.median(known)), fontsize=8, va="center")
    axis.set_xticks(range(len(distributions)), [one.name for one in distributions])
    axis.set(xlim=(-0.6, len(distributions) - 0.3), ylim=(-0.02, 1.02))
    n_fields = max((one.values.size for one in distributions), default=0)
    axis.set_title(f"artifact class, {n_fields} fields with artifacts (line: median)", fontsize=10)


def _draw_fields(figure: Any, fields: Sequence[ComparedField]) -> None:
    figure.suptitle("the worst fields", fontsize=10)
    axes = figure.subplots(1, max(len(fields), 2), squeeze=False)[0]
    for axis in axes:
        axis.set_axis_off()
    for axis, field in zip(axes, fields, strict=False):
        step = -(-max(field.truth.shape) // _MOST_PX)
        if field.image is None:
            axis.imshow(np.full(field.truth[::step, ::step].shape, 0.93), cmap="gray", vmin=0, vmax=1)
        else:
            low, high = np.percentile(field.image, (0.5, 99.5))
            axis.imshow(field.image[::step, ::step], cmap="gray", vmin=low, vmax=max(high, low + 1))
        for mask, colour, style in (
            (field.left_out, LEFT_OUT_COLOUR, "dotted"),
            (field.truth, TRUTH_COLOUR, "solid"),
            (field.predicted, PREDICTED_COLOUR, "solid"),
        ):
            shown = mask[::step, ::step]
            if shown.any():
                # The rim closes outlines that end at the border.
                rim = np.pad(shown, 1)
                axis.contour(
                    np.arange(-1, rim.shape[1] - 1),
                    np.arange(-1, rim.shape[0] - 1),
                    rim,
                    levels=[0.5],
                    colors=[colour],
                    linewidths=0.8,
                    linestyles=style,
                )
        axis.set(xlim=(-0.5, shown.shape[1] - 0.5), ylim=(shown.shape[0] - 0.5, -0.5))
        axis.set_title(field.title, fontsize=8)
    keys = {"truth": TRUTH_COLOUR, "predicted": PREDICTED_COLOUR, "left out (dotted)": LEFT_OUT_COLOUR}
    handles = [Line2D([], [], color=colour, label=name) for name, colour in keys.items()]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=8)

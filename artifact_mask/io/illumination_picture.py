"""The picture of flat fields: each beside what fields look like on average, before and after."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_CM, _DPI = 1 / 2.54, 110


class IlluminatedChannel(NamedTuple):
    """A channel's flat field, and the fields that it was found from.

    Attributes
    ----------
    name
        Of the channel.
    flat_field
        ``(y, x)`` of mean 1.
    blocks
        ``(n, y, x)``: fields, reduced to blocks.
    before, after
        ``(n,)``: variation of each field's background.
    """

    name: str
    flat_field: NDArray[np.float32]
    blocks: NDArray[np.float32]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def draw_illumination(title: str, channels: Sequence[IlluminatedChannel]) -> bytes:
    """Draw a PNG, a row a channel: the flat field, the median field before and after, and each field's variation."""
    figure = Figure(figsize=(26 * _CM, (6.5 * len(channels) + 1.5) * _CM), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(len(channels), 4, squeeze=False)
    for row, channel in zip(axes, channels, strict=True):
        n, y, x = channel.blocks.shape
        level = np.median(channel.blocks.reshape(n, -1), axis=1)[:, np.newaxis, np.newaxis]
        before = np.median(channel.blocks / np.where(level > 0, level, 1), axis=0)
        coarse = _shrink(channel.flat_field, (y, x))
        reach = max(float(np.abs(channel.flat_field - 1).max()), float(np.abs(before - 1).max()), 0.005)
        pictures = (
            (channel.flat_field, f"{channel.name}\nflat field"),
            (before, f"median of {n} fields"),
            (before / coarse, "the same, divided"),
        )
        for axis, (picture, name) in zip(row, pictures, strict=False):
            shown = axis.imshow(picture, vmin=1 - reach, vmax=1 + reach, cmap="RdBu_r")
            axis.set_title(name, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        figure.colorbar(shown, ax=list(row[:3]), shrink=0.9)
        most = 105 * max(float(channel.before.max()), float(channel.after.max()), 1e-4)
        row[3].plot([0, most], [0, most], color="0.7", linewidth=1)
        row[3].plot(100 * channel.before, 100 * channel.after, "o", markersize=4, color="#1f6f8b", alpha=0.7)
        row[3].set(xlim=(0, most), ylim=(0, most), aspect="equal")
        row[3].set_xlabel("variation before (%)", fontsize=8)
        row[3].set_ylabel("after (%)", fontsize=8)
        row[3].set_title("each field, by the others'", fontsize=9)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


def _shrink(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Pixels in the middle of blocks: a flat field is smooth."""
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(shape, image.shape, strict=True))
    return image[np.ix_(rows, columns)]

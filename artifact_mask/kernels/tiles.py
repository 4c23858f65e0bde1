"""Cut an image into tiles: read the halo, write the core."""

from itertools import product
from typing import NamedTuple

Window = tuple[slice, slice]


class Tile(NamedTuple):
    """One tile of an image ``(y, x)``.

    Attributes
    ----------
    core
        What the tile answers for, in the image.
    read
        The core and its halo, cut off at the image's border, in the image.
    inner
        The core within what was read.
    """

    core: Window
    read: Window
    inner: Window


def plan_tiles(shape: tuple[int, int], *, core_px: int, halo_px: int, multiple: int = 1) -> list[Tile]:
    """Cover an image with tiles of about equal size, every pixel by exactly one core.

    Parameters
    ----------
    shape
        ``(y, x)`` of the image, in pixels.
    core_px
        Largest side of a core; rounded up to the multiple.
    halo_px
        Neighbourhood to read around a core; rounded up to the multiple.
    multiple
        Everything a tile starts at is a multiple of this, as a network with strides needs it. If the image's sides are
        multiples, so are the sides of all tiles.

    Returns
    -------
    list[Tile]
        In reading order.

    Raises
    ------
    ValueError
        If a size is not positive or the halo is negative.

    Examples
    --------
    >>> [(t.core[1], t.read[1], t.inner[1]) for t in plan_tiles((4, 10), core_px=5, halo_px=2)]
    [(slice(0, 5, None), slice(0, 7, None), slice(0, 5, None)), \
(slice(5, 10, None), slice(3, 10, None), slice(2, 7, None))]
    """
    if min(*shape, core_px, multiple) < 1 or halo_px < 0:
        raise ValueError(
            f"Cannot plan tiles for shape={shape}, core_px={core_px}, halo_px={halo_px}, multiple={multiple}; "
            "expected positive sizes and a halo of 0 or more."
        )
    halo = -(-halo_px // multiple) * multiple
    rows, columns = (_spans(size, core_px, multiple) for size in shape)
    return [
        Tile((ys.core, xs.core), (ys.read, xs.read), (ys.inner, xs.inner))
        for ys, xs in product(
            (_with_halo(span, halo, shape[0]) for span in rows),
            [_with_halo(span, halo, shape[1]) for span in columns],
        )
    ]


class _Axis(NamedTuple):
    core: slice
    read: slice
    inner: slice


def _spans(size: int, core_px: int, multiple: int) -> list[tuple[int, int]]:
    """Cut ``size`` into the fewest spans no longer than the core, as even as the multiple allows."""
    n_cells = -(-size // multiple)
    n_spans = -(-n_cells // -(-core_px // multiple))
    edges = [n_cells * i // n_spans * multiple for i in range(n_spans)] + [size]
    return [(edges[i], edges[i + 1]) for i in range(n_spans)]


def _with_halo(span: tuple[int, int], halo: int, size: int) -> _Axis:
    start, stop = span
    read = slice(max(start - halo, 0), min(stop + halo, size))
    return _Axis(slice(start, stop), read, slice(start - read.start, stop - read.start))

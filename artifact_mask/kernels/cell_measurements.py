"""What is measured of each cell of a plane, all cells at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CellFigures(NamedTuple):
    """Figures of the ``n`` cells of a plane, by the names of the table's columns, in the order of their labels.

    Attributes
    ----------
    label
        int32, of the cell in its label image.
    y_px, x_px
        float64, middle of the cell's pixels.
    nucleus_area_px
        int64, pixels of nuclei in the cell.
    nucleus_mean_intensity
        float64, mean of the nuclear channel there; NaN where there are none.
    cell_area_px
        int64.
    cell_mean_od
        float64, mean of the optical density outside of artifacts; NaN where nothing is left.
    cell_integrated_od_px
        float64, sum of the optical density outside of artifacts.
    artifact_fraction
        float64, share of the cell's pixels in artifacts.
    touches_border
        bool, whether the cell's nucleus, or the cell itself if it has none, reaches the border of the field.
    """

    label: NDArray[np.int32]
    y_px: NDArray[np.float64]
    x_px: NDArray[np.float64]
    nucleus_area_px: NDArray[np.int64]
    nucleus_mean_intensity: NDArray[np.float64]
    cell_area_px: NDArray[np.int64]
    cell_mean_od: NDArray[np.float64]
    cell_integrated_od_px: NDArray[np.float64]
    artifact_fraction: NDArray[np.float64]
    touches_border: NDArray[np.bool_]


def measure_cells(
    cells: NDArray[np.int32],
    nuclei: NDArray[np.int32] | None,
    *,
    nuclear: NDArray[np.generic] | None,
    density: NDArray[np.floating],
    is_artifact: NDArray[np.bool_],
) -> CellFigures:
    """Measure every cell of a plane.

    Parameters
    ----------
    cells
        ``(y, x)``; 0 is none. Any numbers, in any order.
    nuclei
        ``(y, x)``; 0 is none. A nucleus is the cell's whose pixels it lies in, whatever its number. None if unknown.
    nuclear
        ``(y, x)`` grey values of the nuclear channel; None if there is none.
    density
        ``(y, x)`` optical density.
    is_artifact
        ``(y, x)``.

    Examples
    --------
    >>> cells = np.array([[7, 7, 0, 9]], np.int32)
    >>> density = np.array([[0.1, 0.3, 0.5, 0.2]])
    >>> found = measure_cells(cells, None, nuclear=None, density=density, is_artifact=density == 0.3)
    >>> found.label.tolist(), found.cell_mean_od.tolist(), found.artifact_fraction.tolist()
    ([7, 9], [0.1, 0.2], [0.5, 0.0])
    """
    y, x = np.nonzero(cells)
    numbers, cell = np.unique(cells[y, x], return_inverse=True)
    n = len(numbers)
    area = np.bincount(cell, minlength=n)
    clean = ~is_artifact[y, x]
    n_clean = np.bincount(cell[clean], minlength=n)
    summed = np.bincount(cell[clean], density[y, x][clean], n)
    in_nucleus = np.zeros(y.size, bool) if nuclei is None else nuclei[y, x] > 0
    nucleus_area = np.bincount(cell[in_nucleus], minlength=n)
    light = np.full(n, np.nan)
    if nuclear is not None:
        light = _ratio(np.bincount(cell[in_nucleus], nuclear[y, x][in_nucleus], n), nucleus_area)
    rows, columns = cells.shape
    at_border = (y == 0) | (x == 0) | (y == rows - 1) | (x == columns - 1)
    touching = np.bincount(cell[at_border & (in_nucleus | (nucleus_area[cell] == 0))], minlength=n) > 0
    return CellFigures(
        label=numbers.astype(np.int32),
        y_px=_ratio(np.bincount(cell, y, n), area),
        x_px=_ratio(np.bincount(cell, x, n), area),
        nucleus_area_px=nucleus_area,
        nucleus_mean_intensity=light,
        cell_area_px=area,
        cell_mean_od=_ratio(summed, n_clean),
        cell_integrated_od_px=summed.astype(np.float64),
        artifact_fraction=_ratio(area - n_clean, area),
        touches_border=touching,
    )


def _ratio(sums: NDArray[np.generic], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide; NaN where there is nothing."""
    nothing = np.full(len(counts), np.nan)
    ratio: NDArray[np.float64] = np.divide(sums, counts, out=nothing, where=counts > 0)
    return ratio

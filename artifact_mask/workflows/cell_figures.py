"""From what `cells` counted in each field to figures: which cells are senescent is decided for the whole plate."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from artifact_mask.config import CellsConfig, RunConfig
from artifact_mask.engine.journal import FieldRecord
from artifact_mask.kernels.staining import DensityHistogram
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.measurements import find_rejected

CELL_DENSITIES = "cell_density_counts"
"""Key of a record's densities of cells, which is no column."""


def choose_senescence_thresholds(
    plate: Plate,
    records: Mapping[FieldKey, FieldRecord],
    config: CellsConfig,
    run: tuple[Mapping[FieldKey, FieldRecord], RunConfig] | None,
) -> dict[FieldKey, float]:
    """Density from which on a cell of each measured field counts as senescent.

    Parameters
    ----------
    plate
        Its content. Acquisitions are told apart: they may have been taken with another light.
    records
        Of `cells`.
    config
        How to choose it.
    run
        Records of `run`, whose rejected fields have no part in it, and its configuration, whose negative controls are
        taken where ``config`` names none.

    Returns
    -------
    dict[FieldKey, float]
        NaN where there are neither a threshold nor controls.
    """
    counted = {key: record.row for key, record in records.items() if CELL_DENSITIES in record.row}
    if config.senescence_threshold is not None:
        return dict.fromkeys(counted, config.senescence_threshold)
    selection = config.negative_controls or (run[1].negative_controls if run else ())
    rejected = find_rejected(*run) if run else frozenset()
    controls = find_controls(plate, selection)
    of_control = {well.path for well in plate.wells if well.name in controls}
    thresholds: dict[FieldKey, float] = {}
    for acquisition in plate.acquisitions:
        keys = [key for key in acquisition.field_keys if key in counted]
        chosen = find_senescence_threshold(
            (
                DensityHistogram.unpack(counted[key][CELL_DENSITIES])
                for key in keys
                if key[0] in of_control and key not in rejected
            ),
            config.senescence_percentile,
        )
        thresholds |= dict.fromkeys(keys, chosen)
    return thresholds


def find_senescence_threshold(controls: Iterable[DensityHistogram], percent: float) -> float:
    """Find the density that at most ``100 - percent`` percent of the control wells' cells reach; NaN if there are none.

    Examples
    --------
    >>> import numpy as np
    >>> find_senescence_threshold([DensityHistogram.of(np.arange(100) / 1000)], 95)
    0.095
    """
    return DensityHistogram.total(controls).percentile(percent)


def describe_cells(row: Mapping[str, Any], *, threshold: float) -> dict[str, Any]:
    """Figures of a field's cells, by the names of :mod:`artifact_mask.columns`.

    Parameters
    ----------
    row
        What `cells` recorded.
    threshold
        Density from which on a cell is senescent; NaN if there is none.
    """
    described = {name: value for name, value in row.items() if name != CELL_DENSITIES}
    if CELL_DENSITIES not in row:
        return described
    described |= {"senescence_threshold_od": threshold, "n_senescent_cells": math.nan, "senescent_fraction": math.nan}
    if not math.isnan(threshold):
        cells = DensityHistogram.unpack(row[CELL_DENSITIES])
        n_senescent, _ = cells.above(threshold)
        described |= {
            "n_senescent_cells": n_senescent,
            "senescent_fraction": n_senescent / cells.n if cells.n else math.nan,
        }
    return described

"""From what `cells` counted in each field to figures: which cells are senescent is decided for the whole plate."""

import math
from collections.abc import Mapping
from typing import Any

from artifact_mask.config import CellsConfig, RunConfig
from artifact_mask.engine.journal import FieldRecord
from artifact_mask.kernels.staining import DensityHistogram
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.workflows.controls import find_control_paths
from artifact_mask.workflows.measurements import find_rejected, pool_by_acquisition

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
    counted = {key: record.row[CELL_DENSITIES] for key, record in records.items() if CELL_DENSITIES in record.row}
    if config.senescence_threshold is not None:
        return dict.fromkeys(counted, config.senescence_threshold)
    selection = config.negative_controls or (run[1].negative_controls if run else ())
    rejected = find_rejected(*run) if run else frozenset()
    controls = find_control_paths(plate, selection)
    kept = {key for key in counted if key[0] in controls and key not in rejected}
    thresholds: dict[FieldKey, float] = {}
    for keys, total in pool_by_acquisition(plate, counted, kept):
        thresholds |= dict.fromkeys(keys, total.percentile(config.senescence_percentile))
    return thresholds


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

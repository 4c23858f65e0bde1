"""One row a well, and one a plate: fields pooled, their spread, and the wells against the controls."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from artifact_mask.columns import PLATE, order_columns
from artifact_mask.config import RunConfig
from artifact_mask.kernels.plate_statistics import bootstrap_ratio, robust_z, z_prime
from artifact_mask.metadata import Plate
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.measurements import describe_sizes, stain_figures

_KEYS = ["plate", "well", "row", "column", "acquisition"]
_SUMMED = (
    "n_weak_objects",
    "weak_area_um2",
    "field_area_um2",
    "analysed_area_um2",
    "n_cells",
    "n_excluded_cells",
    "n_senescent_cells",
)
_AVERAGED = ("artifact_probability", "weak_fraction", "stain_threshold_od", "senescence_threshold_od")
_PAIRS = ("stained_area{}_um2", "stained_integrated_od{}_um2")
_RATIOS = {
    "artifact_fraction": ("artifact_area_um2", "field_area_um2"),
    "stained_fraction": ("stained_area_um2", "analysed_area_um2"),
    "senescent_fraction": ("n_senescent_cells", "n_cells"),
}
"""Fractions with a confidence interval, and what is divided."""
SCORED = ("stained_fraction", "senescent_fraction")
"""What is compared with the controls."""


def tabulate_wells(
    plate: Plate, fields: pd.DataFrame, artifact_px: Sequence[Sequence[int]], config: RunConfig | None
) -> pd.DataFrame:
    """One row a well and acquisition: fields counted, areas and objects summed, fractions of these sums.

    Parameters
    ----------
    plate
        Its content.
    fields
        Table of the fields.
    artifact_px
        Pixels of the artifacts of each row of ``fields``.
    config
        Of `run`; None if it has not been run.

    Notes
    -----
    Fields that failed or were rejected have no part in the figures. A well without a measured field has none: NaN,
    never 0.
    """
    measured = _is_measured(fields)
    pixel_area = {number: a.pixel_size_um**2 for number, a in enumerate(plate.acquisitions)}
    rows = []
    for key, group in fields.groupby(_KEYS, sort=False):
        used = group[measured[group.index]]
        row: dict[str, Any] = dict(zip(_KEYS, key, strict=True)) | _count(group, used)
        row |= {name: used[name].mean() for name in _AVERAGED if name in used}
        row |= {name: used[name].sum(min_count=1) for name in _SUMMED if name in used}
        if "artifact_fraction" in used:
            sizes = [px for index in used.index for px in artifact_px[index]]
            described = describe_sizes(sizes, pixel_area[row["acquisition"]])
            row |= described if len(used) else dict.fromkeys(described, math.nan)
        if "stained_area_um2" in used:
            row |= _pool_stain(used)
            row["stained_fraction_sd"] = used["stained_fraction"].std()
        rows.append(row | _fractions(used, seed=(row["row"], row["column"], row["acquisition"])))
    wells = pd.DataFrame(rows)
    wells = _count_as_integers(wells)
    return _score(plate, wells, config) if config else wells


def tabulate_plate(fields: pd.DataFrame, wells: pd.DataFrame, config: RunConfig | None) -> pd.DataFrame:
    """One row an acquisition: what was counted, and how far the controls are apart."""
    measured = _is_measured(fields)
    rows = []
    for (name, number), group in fields.groupby(["plate", "acquisition"], sort=False):
        used, of_wells = group[measured[group.index]], wells[wells["acquisition"] == number]
        row: dict[str, Any] = {"plate": name, "acquisition": number, "n_wells": len(of_wells)} | _count(group, used)
        sums = ("n_artifacts", "n_cells", "n_excluded_cells", "n_senescent_cells")
        row |= {column: used[column].sum(min_count=1) for column in sums if column in used}
        row |= {column: used[column].mean() for column in _AVERAGED if column in used}
        row |= {name: _ratio(used, *of) for name, of in _RATIOS.items() if of[0] in used}
        if "stained_area_um2" in used:
            row |= _pool_stain(used)
        if config:
            method = config.stain_threshold
            row["stain_threshold_method"] = method if isinstance(method, str) else "fixed"
            row |= _separate_controls(of_wells)
        rows.append(row)
    table = _count_as_integers(pd.DataFrame(rows))
    known = {column.name for column in PLATE}
    return table[[column for column in order_columns("plate", map(str, table)) if column in known]]


def _is_measured(fields: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a field has a part in the figures."""
    figure = next((name for name in ("artifact_fraction", "weak_fraction") if name in fields), None)
    measured = fields[figure].notna() if figure else pd.Series(False, index=fields.index)
    return measured & (fields["rejected"] == "") if "rejected" in fields else measured


def _count(group: pd.DataFrame, used: pd.DataFrame) -> dict[str, int]:
    return {
        "n_fields": len(group),
        "n_failed_fields": int((group["error"] != "").sum()),
        "n_rejected_fields": int((group["rejected"] != "").sum()) if "rejected" in group else 0,
        "n_measured_fields": len(used),
    }


def _pool_stain(used: pd.DataFrame) -> dict[str, float]:
    """Figures of stain of some fields together."""
    before_and_after = ("_raw", "")
    stained, density = (
        np.array([used[pair.format(when)].sum(min_count=1) for when in before_and_after], np.float64) for pair in _PAIRS
    )
    area = np.array([used[name].sum(min_count=1) for name in ("field_area_um2", "analysed_area_um2")], np.float64)
    return {name: float(value) for name, value in stain_figures(stained, density, area, 1.0).items()}


def _fractions(used: pd.DataFrame, *, seed: tuple[int, int, int]) -> dict[str, float]:
    """Fractions of the fields together, with their confidence intervals."""
    row: dict[str, float] = {}
    for name, (above, below) in _RATIOS.items():
        if above not in used:
            continue
        known = used[[above, below]].dropna()
        low, high = bootstrap_ratio(known[above].to_list(), known[below].to_list(), seed=seed)
        row |= {name: _ratio(used, above, below), f"{name}_low": low, f"{name}_high": high}
    return row


def _ratio(used: pd.DataFrame, above: str, below: str) -> float:
    known = used[[above, below]].dropna()
    total = float(known[below].sum())
    return float(known[above].sum()) / total if total else math.nan


def _score(plate: Plate, wells: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    """Add which wells are controls, and how far each is from the rest."""
    control = pd.Series("", index=wells.index)
    for kind in ("negative", "positive"):
        names = find_controls(plate, getattr(config, f"{kind}_controls"))
        control[wells["well"].isin(names)] = kind
    scores: dict[str, Any] = {"control": control}
    for name in (name for name in SCORED if name in wells):
        against_all, against_controls = (pd.Series(math.nan, index=wells.index) for _ in range(2))
        for _, group in wells.groupby("acquisition"):
            values = group[name].to_numpy(np.float64)
            negative = values[(control[group.index] == "negative").to_numpy()]
            against_all[group.index] = robust_z(values, values)
            against_controls[group.index] = robust_z(values, negative)
        scores |= {f"{name}_robust_z": against_all, f"{name}_control_z": against_controls}
    return wells.assign(**scores)


def _separate_controls(wells: pd.DataFrame) -> dict[str, float]:
    """How far the negative and the positive control wells of an acquisition are apart."""
    row: dict[str, float] = {}
    for name in (name for name in SCORED if name in wells):
        groups = {kind: wells.loc[wells["control"] == kind, name].to_numpy(np.float64) for kind in _KINDS}
        row |= {f"{name}_{kind}": _median(values) for kind, values in groups.items()}
        row[f"{name}_z_prime"] = z_prime(groups["positive"], groups["negative"])
        row[f"{name}_robust_z_prime"] = z_prime(groups["positive"], groups["negative"], robust=True)
    return row


_KINDS = ("negative", "positive")


def _median(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _count_as_integers(table: pd.DataFrame) -> pd.DataFrame:
    """Give counts the type of whole numbers, where none is missing."""
    counts = [c for c in table if str(c).startswith("n_") and table[c].notna().all()]
    return table.astype(dict.fromkeys(counts, "int64"))

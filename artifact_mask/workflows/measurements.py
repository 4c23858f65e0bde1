"""From what `run` and `cells` counted in each field to figures: thresholds first, then stain and artifacts."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import RunConfig
from artifact_mask.engine.journal import FieldRecord
from artifact_mask.kernels.field_measurements import PlaneCounts
from artifact_mask.kernels.staining import DensityHistogram, choose_threshold
from artifact_mask.metadata import OD_STEP, FieldKey, Plate
from artifact_mask.workflows.controls import find_control_paths

OUTSIDE, INSIDE, ARTIFACT_PX = "density_counts", "artifact_density_counts", "artifact_px"
"""Keys of a record's counts, which are no columns."""

Counts = Mapping[str, Any]


def pack_counts(planes: Iterable[PlaneCounts]) -> dict[str, list[int]]:
    """Write the counts of a field, over its planes, for its record."""
    counted = list(planes)
    return {
        OUTSIDE: DensityHistogram.total(plane.outside for plane in counted).pack(),
        INSIDE: DensityHistogram.total(plane.inside for plane in counted).pack(),
        ARTIFACT_PX: [int(px) for plane in counted for px in plane.artifact_px],
    }


def artifact_sizes(record: FieldRecord | None) -> list[int]:
    """Pixels of each artifact of a field; none where it was not measured."""
    return list(record.row.get(ARTIFACT_PX, ())) if record else []


def choose_stain_thresholds(
    plate: Plate, records: Mapping[FieldKey, FieldRecord], config: RunConfig
) -> dict[FieldKey, float]:
    """Optical density from which on a pixel of each measured field counts as stained.

    Parameters
    ----------
    plate
        Its content. Acquisitions are told apart: they may have been taken with another light.
    records
        Of `run`.
    config
        How to choose it. Rejected fields, and artifacts, have no part in it.

    Returns
    -------
    dict[FieldKey, float]
        NaN where there is nothing to choose from.
    """
    counted = {key: record.row for key, record in records.items() if OUTSIDE in record.row}
    method = config.stain_threshold
    if isinstance(method, float):
        return dict.fromkeys(counted, method)
    if method != "controls" and config.stain_scope == "field":
        return {key: choose_threshold(DensityHistogram.unpack(row[OUTSIDE]), method) for key, row in counted.items()}
    rejected = find_rejected(records, config)
    controls = find_control_paths(plate, config.negative_controls) if method == "controls" else None
    kept = {key for key in counted if key not in rejected and (controls is None or key[0] in controls)}
    thresholds: dict[FieldKey, float] = {}
    for keys, total in pool_by_acquisition(plate, {key: row[OUTSIDE] for key, row in counted.items()}, kept):
        chosen = (
            # What reaches no step at all would be everything.
            max(total.percentile(config.control_percentile), OD_STEP)
            if method == "controls"
            else choose_threshold(total, method)
        )
        thresholds |= dict.fromkeys(keys, chosen)
    return thresholds


def pool_by_acquisition(
    plate: Plate, packed: Mapping[FieldKey, list[int]], kept: Container[FieldKey]
) -> Iterator[tuple[list[FieldKey], DensityHistogram]]:
    """Pool the histograms of some fields of each acquisition.

    Parameters
    ----------
    plate
        Its content.
    packed
        Histograms by field.
    kept
        Fields whose histograms are pooled.

    Yields
    ------
    tuple[list[FieldKey], DensityHistogram]
        All fields of an acquisition that have a histogram, and what is pooled.
    """
    for acquisition in plate.acquisitions:
        keys = [key for key in acquisition.field_keys if key in packed]
        yield keys, DensityHistogram.total(DensityHistogram.unpack(packed[key]) for key in keys if key in kept)


def why_rejected(row: Counts, config: RunConfig) -> str:
    """Why a field has no part in its well's figures; empty if it has."""
    most, fraction = config.max_artifact_fraction, row.get("artifact_fraction", math.nan)
    if most is not None and fraction > most:
        return f"artifact_fraction {fraction:.3f} is more than {most:g}"
    return ""


def find_rejected(records: Mapping[FieldKey, FieldRecord], config: RunConfig) -> frozenset[FieldKey]:
    """Fields that have no part in the figures of wells and plates, nor in what is chosen from controls."""
    return frozenset(key for key, record in records.items() if why_rejected(record.row, config))


def describe_field(row: Counts, *, threshold: float, pixel_area_um2: float) -> dict[str, float | int]:
    """Figures of a field, by the names of :mod:`artifact_mask.columns`.

    Parameters
    ----------
    row
        What `run` recorded.
    threshold
        Optical density from which on a pixel counts as stained; NaN if there is none.
    pixel_area_um2
        Area of a pixel, in square micrometre.
    """
    outside, inside = DensityHistogram.unpack(row[OUTSIDE]), DensityHistogram.unpack(row[INSIDE])
    n, n_outside = outside.n + inside.n, outside.n
    kept = {name: value for name, value in row.items() if name not in (OUTSIDE, INSIDE, ARTIFACT_PX)}
    described = {
        **kept,
        "field_area_um2": n * pixel_area_um2,
        "analysed_area_um2": n_outside * pixel_area_um2,
        "artifact_fraction": inside.n / n if n else math.nan,
        **describe_sizes(row[ARTIFACT_PX], pixel_area_um2),
        "stain_threshold_od": threshold,
    }
    if math.isnan(threshold):
        return described
    (n_after, od_after), (n_hidden, od_hidden) = outside.above(threshold), inside.above(threshold)
    stained = stain_figures(
        np.array([n_after + n_hidden, n_after], np.float64),
        np.array([od_after + od_hidden, od_after], np.float64),
        np.array([n, n_outside], np.float64),
        pixel_area_um2,
    )
    return described | {name: float(value) for name, value in stained.items()}


def describe_sizes(pixels: Iterable[int], pixel_area_um2: float) -> dict[str, float | int]:
    """Count some artifacts and tell their sizes, by the names of :mod:`artifact_mask.columns`."""
    areas = np.array(list(pixels), np.float64) * pixel_area_um2
    median, p90 = np.percentile(areas, (50, 90)) if areas.size else (math.nan, math.nan)
    return {
        "n_artifacts": areas.size,
        "artifact_area_um2": float(areas.sum()),
        "artifact_median_um2": float(median),
        "artifact_p90_um2": float(p90),
        "largest_artifact_um2": float(areas.max(initial=0)),
    }


def stain_figures(
    stained: NDArray[np.float64], density: NDArray[np.float64], area: NDArray[np.float64], unit_um2: float
) -> dict[str, NDArray[np.float64]]:
    """Figures of stain, from sums before masking and after it.

    Parameters
    ----------
    stained, density, area
        ``(2, ...)``: stained units of area, their summed optical densities, and units that were looked at; of all, and
        outside of the artifacts.
    unit_um2
        Unit of area, in square micrometre.

    Returns
    -------
    dict[str, NDArray[np.float64]]
        ``(...)``; NaN where there is nothing to divide by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "stained_fraction_raw": stained[0] / area[0],
            "stained_fraction_masked": stained[1] / area[0],
            "stained_fraction": stained[1] / area[1],
            "stained_area_raw_um2": stained[0] * unit_um2,
            "stained_area_um2": stained[1] * unit_um2,
            "stained_mean_od_raw": density[0] / stained[0],
            "stained_mean_od": density[1] / stained[1],
            "stained_integrated_od_raw_um2": density[0] * unit_um2,
            "stained_integrated_od_um2": density[1] * unit_um2,
            "stained_od_per_area_raw": density[0] / area[0],
            "stained_od_per_area_masked": density[1] / area[0],
            "stained_od_per_area": density[1] / area[1],
        }

"""Every column of the tables against a plate small enough to count by hand, and what becomes of odd plates."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact_mask.columns import TABLES, describe_tables
from artifact_mask.config import CellsConfig, RunConfig
from artifact_mask.engine.journal import FieldRecord
from artifact_mask.errors import ConfigError
from artifact_mask.kernels.plate_statistics import bootstrap_ratio, robust_z, z_prime
from artifact_mask.kernels.staining import DensityHistogram
from artifact_mask.metadata import Acquisition, Field, Plate, Well
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.tabulate import NOT_REACHED, Outcome, tabulate

PIXEL_UM = 0.5
MAD = 1.4826
SCALARS = {
    "background": 1000.0,
    "clipped_fraction": 0.01,
    "sharpness": 0.3,
    "contrast_p01": -0.2,
    "contrast_p99": 0.1,
    "contrast_asymmetry": -1 / 3,
    "roughness": 0.04,
    "flat_fraction": 0.02,
}
LABELLED = {
    "artifact_probability": 0.9,
    "n_artifact_tiles": 2,
    "n_saturated_tiles": 0,
    "saliency_error": 0.02,
    "weak_fraction": 0.1,
    "n_weak_objects": 3,
    "weak_area_um2": 0.25,
}
NEGATIVE, POSITIVE = {"Compound": "DMSO", "Row": "x"}, {"Compound": "Drug", "Row": "y"}


def _pack(densities):
    return DensityHistogram.of(np.repeat(list(densities), list(densities.values()))).pack()


def _measured(outside, inside=None, artifact_px=()):
    """Row that `run` records of a field with so many pixels of each density."""
    inside = inside or {}
    n_inside, n = sum(inside.values()), sum(inside.values()) + sum(outside.values())
    return FieldRecord(
        {
            **SCALARS,
            "artifact_fraction": n_inside / n,
            "density_counts": _pack(outside),
            "artifact_density_counts": _pack(inside),
            "artifact_px": list(artifact_px),
        },
        {},
    )


def _cells(densities, n_excluded=0):
    return FieldRecord(
        {
            "n_cells": len(densities),
            "n_excluded_cells": n_excluded,
            "cell_density_counts": DensityHistogram.of(np.array(densities)).pack(),
        },
        {},
    )


def _plate():
    """Two negative controls and two positive ones in row B, the first and the third with two fields."""
    fields = tuple(Field(i, i + 1, y_um=10.0 * i, x_um=-5.0, z_um=2.0, times_s=(3.0 * i,)) for i in range(2))
    wells = (
        Well(2, 2, fields, NEGATIVE),
        Well(2, 3, fields[:1], NEGATIVE),
        Well(2, 4, fields, POSITIVE),
        Well(2, 5, fields[:1], POSITIVE),
    )
    return Plate("P1", 8, 12, (Acquisition("m", (1, 1, 1, 8, 8), PIXEL_UM, 1.0, (), wells),))


RUN = {
    ("B/2", 0): _measured({0.0: 6, 0.1: 2}, {0.0: 1, 0.2: 1}, [2]),
    ("B/2", 1): _measured({0.0: 10}),
    ("B/3", 0): _measured({0.0: 9, 0.1: 1}),
    ("B/4", 0): _measured({0.0: 4}, {0.0: 6}, [5, 1]),
    ("B/4", 1): _measured({0.0: 5, 0.1: 5}),
    ("B/5", 0): _measured({0.0: 6, 0.3: 4}),
}
CELLS = {
    ("B/2", 0): _cells([0.05, 0.1, 0.1, 0.2], n_excluded=1),
    ("B/2", 1): _cells([0.0]),
    ("B/3", 0): _cells([0.01, 0.02]),
    ("B/4", 0): _cells([]),
    ("B/4", 1): _cells([0.1, 0.2]),
    ("B/5", 0): _cells([0.3, 0.0]),
}
OPTIONS = {"negative_controls": "compound=dmso", "positive_controls": "B04,B05"}


def _outcomes(run=RUN, **options):
    keys = list(RUN)
    config = RunConfig(plates="p.zarr", **{**OPTIONS, **options})
    return {
        "ingest": Outcome({key: FieldRecord({"n_missing_planes": 0}, {}) for key in keys}),
        "label": Outcome({key: FieldRecord(LABELLED, {}) for key in keys}),
        "run": Outcome(run, config),
        "cells": Outcome(CELLS, CellsConfig(plates="p.zarr", senescence_threshold=0.1)),
    }


@pytest.fixture(scope="module")
def tables():
    return tabulate(_plate(), _outcomes())


def _compare(found, expected, table):
    """Compare a row with what is expected of it, column by column; every column of the dictionary is expected."""
    assert set(expected) == {column.name for column in TABLES[table]}
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, nan_ok=True, abs=1e-9), name


def test_every_column_of_a_field(tables):
    expected = {
        "plate": "P1",
        "well": "B02",
        "row": 2,
        "column": 2,
        "acquisition": 0,
        "field": 0,
        "field_id": 1,
        "y_um": 0.0,
        "x_um": -5.0,
        "z_um": 2.0,
        "time_s": 0.0,
        "n_missing_planes": 0,
        **LABELLED,
        **SCALARS,
        "field_area_um2": 10 * 0.25,
        "analysed_area_um2": 8 * 0.25,
        "artifact_fraction": 2 / 10,
        "n_artifacts": 1,
        "artifact_area_um2": 2 * 0.25,
        "artifact_median_um2": 0.5,
        "artifact_p90_um2": 0.5,
        "largest_artifact_um2": 0.5,
        "stain_threshold_od": 0.08,
        "stained_fraction_raw": 3 / 10,
        "stained_fraction_masked": 2 / 10,
        "stained_fraction": 2 / 8,
        "stained_area_raw_um2": 3 * 0.25,
        "stained_area_um2": 2 * 0.25,
        # A density counts as the middle of its step: 0.1 as 0.1025.
        "stained_mean_od_raw": (2 * 0.1025 + 0.2025) / 3,
        "stained_mean_od": 0.1025,
        "stained_integrated_od_raw_um2": (2 * 0.1025 + 0.2025) * 0.25,
        "stained_integrated_od_um2": 2 * 0.1025 * 0.25,
        "stained_od_per_area_raw": (2 * 0.1025 + 0.2025) / 10,
        "stained_od_per_area_masked": 2 * 0.1025 / 10,
        "stained_od_per_area": 2 * 0.1025 / 8,
        "n_cells": 4,
        "n_excluded_cells": 1,
        "senescence_threshold_od": 0.1,
        "n_senescent_cells": 3,
        "senescent_fraction": 3 / 4,
        "rejected": "",
        "error": "",
    }
    _compare(tables["fields"].iloc[0], expected, "fields")


def test_every_column_of_a_well(tables):
    fractions = np.array([2 / 18, 1 / 10, 5 / 10, 4 / 10])
    all_wells, controls = _centre(fractions), _centre(fractions[:2])
    senescent = np.array([3 / 5, 0, 1, 1 / 2])
    expected = {
        "plate": "P1",
        "well": "B02",
        "row": 2,
        "column": 2,
        "acquisition": 0,
        "n_fields": 2,
        "n_failed_fields": 0,
        "n_rejected_fields": 0,
        "n_measured_fields": 2,
        "artifact_probability": 0.9,
        "weak_fraction": 0.1,
        "n_weak_objects": 6,
        "weak_area_um2": 0.5,
        "field_area_um2": 20 * 0.25,
        "analysed_area_um2": 18 * 0.25,
        "artifact_fraction": 2 / 20,
        "n_artifacts": 1,
        "artifact_area_um2": 0.5,
        "artifact_median_um2": 0.5,
        "artifact_p90_um2": 0.5,
        "largest_artifact_um2": 0.5,
        "stain_threshold_od": 0.08,
        "stained_fraction_raw": 3 / 20,
        "stained_fraction_masked": 2 / 20,
        "stained_fraction": 2 / 18,
        "stained_area_raw_um2": 3 * 0.25,
        "stained_area_um2": 2 * 0.25,
        "stained_mean_od_raw": (2 * 0.1025 + 0.2025) / 3,
        "stained_mean_od": 0.1025,
        "stained_integrated_od_raw_um2": (2 * 0.1025 + 0.2025) * 0.25,
        "stained_integrated_od_um2": 2 * 0.1025 * 0.25,
        "stained_od_per_area_raw": (2 * 0.1025 + 0.2025) / 20,
        "stained_od_per_area_masked": 2 * 0.1025 / 20,
        "stained_od_per_area": 2 * 0.1025 / 18,
        "n_cells": 5,
        "n_excluded_cells": 1,
        "senescence_threshold_od": 0.1,
        "n_senescent_cells": 3,
        "senescent_fraction": 3 / 5,
        # Drawing two of two fields gives the one, the other or both.
        "artifact_fraction_low": 0,
        "artifact_fraction_high": 4 / 20,
        "stained_fraction_sd": np.std([2 / 8, 0], ddof=1),
        "stained_fraction_low": 0,
        "stained_fraction_high": 4 / 16,
        "senescent_fraction_low": 0,
        "senescent_fraction_high": 6 / 8,
        "control": "negative",
        "stained_fraction_robust_z": (2 / 18 - all_wells[0]) / all_wells[1],
        "stained_fraction_control_z": (2 / 18 - controls[0]) / controls[1],
        "senescent_fraction_robust_z": (3 / 5 - np.median(senescent)) / (MAD * np.median(np.abs(senescent - 0.55))),
        "senescent_fraction_control_z": (3 / 5 - 0.3) / (MAD * 0.3),
    }
    _compare(tables["wells"].iloc[0], expected, "wells")


def _centre(values):
    centre = np.median(values)
    return centre, MAD * np.median(np.abs(values - centre))


def test_every_column_of_the_plate(tables):
    # Pixels of the five fields that count: of 50, 48 are outside of artifacts, 12 of which are stained.
    expected = {
        "plate": "P1",
        "acquisition": 0,
        "n_wells": 4,
        "n_fields": 6,
        "n_failed_fields": 0,
        "n_rejected_fields": 1,
        "n_measured_fields": 5,
        "artifact_fraction": 2 / 50,
        "n_artifacts": 1,
        "stain_threshold_od": 0.08,
        "stained_fraction_raw": 13 / 50,
        "stained_fraction_masked": 12 / 50,
        "stained_fraction": 12 / 48,
        "n_cells": 11,
        "n_excluded_cells": 1,
        "senescence_threshold_od": 0.1,
        "n_senescent_cells": 6,
        "senescent_fraction": 6 / 11,
        "stain_threshold_method": "fixed",
        "stained_fraction_negative": (2 / 18 + 1 / 10) / 2,
        "stained_fraction_positive": 0.45,
        "stained_fraction_z_prime": 1
        - 3 * (np.std([2 / 18, 0.1], ddof=1) + np.std([0.5, 0.4], ddof=1)) / (0.45 - (2 / 18 + 0.1) / 2),
        "stained_fraction_robust_z_prime": 1 - 3 * MAD * ((2 / 18 - 0.1) / 2 + 0.05) / (0.45 - (2 / 18 + 0.1) / 2),
        "senescent_fraction_negative": 0.3,
        "senescent_fraction_positive": 0.75,
        "senescent_fraction_z_prime": 1 - 3 * (np.std([0.6, 0], ddof=1) + np.std([1, 0.5], ddof=1)) / 0.45,
        "senescent_fraction_robust_z_prime": 1 - 3 * MAD * (0.3 + 0.25) / 0.45,
    }
    _compare(tables["plate"].iloc[0], expected, "plate")
    assert len(tables["plate"]) == 1


def test_tables_have_the_columns_of_the_dictionary_in_its_order_then_the_layout(tables):
    for name in ("fields", "wells"):
        assert list(tables[name]) == [*(column.name for column in TABLES[name]), "Compound", "layout_Row"]
    assert tables["wells"]["Compound"].tolist() == ["DMSO", "DMSO", "Drug", "Drug"]


def test_rejected_field_stays_in_the_table_and_out_of_the_figures(tables):
    field, well = tables["fields"].iloc[3], tables["wells"].iloc[2]
    assert field["rejected"] == "artifact_fraction 0.600 is more than 0.5"
    assert field["artifact_fraction"] == 0.6
    assert (well["n_fields"], well["n_rejected_fields"], well["n_measured_fields"]) == (2, 1, 1)
    assert (well["stained_fraction"], well["artifact_fraction"], well["n_artifacts"]) == (0.5, 0, 0)
    assert math.isnan(well["stained_fraction_low"])
    kept = tabulate(_plate(), _outcomes(max_artifact_fraction=0.7))["wells"].iloc[2]
    assert (kept["n_rejected_fields"], kept["n_artifacts"]) == (0, 2)
    assert kept["stained_fraction"] == pytest.approx(5 / 14)
    assert (kept["artifact_median_um2"], kept["largest_artifact_um2"]) == (3 * 0.25, 5 * 0.25)
    assert kept["artifact_p90_um2"] == pytest.approx((1 + 0.9 * 4) * 0.25)


def test_failed_field_has_its_error_and_its_well_no_figures():
    run = RUN | {("B/3", 0): FieldRecord({"error": "the image is damaged"}, {})}
    del run["B/5", 0]
    found = tabulate(_plate(), _outcomes(run))
    assert found["fields"].iloc[2]["error"] == "the image is damaged"
    assert found["fields"].iloc[5]["error"] == NOT_REACHED
    well = found["wells"].iloc[1]
    assert (well["n_failed_fields"], well["n_measured_fields"]) == (1, 0)
    measured = ["stained_fraction", "stained_area_um2", "artifact_fraction", "n_artifacts", "field_area_um2"]
    assert well[measured].isna().all()


def test_thresholds_of_the_plate_the_fields_and_the_controls():
    two = {0.0: 50, 0.01: 30, 0.1: 10, 0.11: 10}
    run = {key: _measured(two, {0.9: 40}, [40]) for key in RUN} | {("B/5", 0): _measured({0.0: 90, 0.5: 10})}

    def thresholds(**options):
        return tabulate(_plate(), _outcomes(run, **options))["fields"]["stain_threshold_od"].tolist()

    of_plate = thresholds(stain_threshold="otsu")
    assert len(set(of_plate)) == 1
    of_fields = thresholds(stain_threshold="otsu", stain_scope="field")
    assert of_fields[:5] == [of_fields[0]] * 5
    assert 0.01 < of_fields[0] <= 0.1
    assert 0 < of_fields[5] <= 0.5
    # Of the controls' 100 pixels outside of artifacts a tenth may reach it.
    assert thresholds(stain_threshold="controls", control_percentile=90) == [0.105] * 6
    assert thresholds(stain_threshold="controls", control_percentile=89) == [0.105] * 6
    assert thresholds(stain_threshold="controls", control_percentile=80) == [0.015] * 6


def test_cells_of_rejected_controls_have_no_part_in_the_threshold():
    run = RUN | {("B/2", 0): _measured({0.0: 1}, {0.0: 9}, [9])}
    outcomes = _outcomes(run)
    outcomes["cells"] = Outcome(CELLS, CellsConfig(plates="p.zarr", senescence_percentile=50))
    # Of the controls, 0.0, 0.01 and 0.02 are left.
    assert tabulate(_plate(), outcomes)["fields"]["senescence_threshold_od"].tolist() == [0.015] * 6


def test_field_of_an_acquisition_without_the_channel_is_no_failure():
    found = tabulate(_plate(), _outcomes(RUN | {("B/3", 0): FieldRecord({}, {})}))
    assert found["fields"]["error"].eq("").all()
    assert math.isnan(found["wells"].iloc[1]["stained_fraction"])


def test_acquisitions_are_told_apart():
    one = _plate().acquisitions[0]
    later = tuple(
        replace(well, fields=tuple(replace(field, index=field.index + 2) for field in well.fields))
        for well in one.wells
    )
    plate = Plate("P1", 8, 12, (one, replace(one, measurement_id="n", wells=later)))
    run = RUN | {(well, index + 2): _measured({0.2: 5, 0.3: 5}) for well, index in RUN}
    outcomes = {"ingest": Outcome({key: FieldRecord({}, {}) for key in run})}
    outcomes["run"] = Outcome(
        run, RunConfig(plates="p.zarr", stain_threshold="controls", negative_controls="B02", control_percentile=50)
    )
    found = tabulate(plate, outcomes)
    assert found["plate"]["acquisition"].tolist() == [0, 1]
    assert found["plate"]["stained_fraction"].iloc[1] == 0.5
    assert found["wells"]["n_fields"].sum() == 12
    assert found["plate"]["stain_threshold_od"].tolist() == [0.005, 0.205]


@settings(max_examples=15)
@given(order=st.permutations(list(RUN)))
def test_the_order_of_records_does_not_matter(order, tables):
    found = tabulate(_plate(), _outcomes({key: RUN[key] for key in order}))
    for name, table in tables.items():
        pd.testing.assert_frame_equal(found[name], table)


def test_ingest_alone_has_tables(tables):
    found = tabulate(_plate(), {"ingest": Outcome({})})
    assert found["fields"]["error"].eq(NOT_REACHED).all()
    assert found["wells"]["n_failed_fields"].tolist() == [2, 1, 2, 1]
    assert found["plate"]["n_wells"].tolist() == [4]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("Z99", "Its wells are B02 to B05"),
        ("Compound=DMS0", "Did you mean 'DMSO'"),
        ("Dose=3", "Its layout has Compound, Row"),
        ("compound=", "Values of compound are DMSO, Drug"),
    ],
)
def test_controls_that_fit_no_well_are_an_error(selection, message):
    with pytest.raises(ConfigError, match=message):
        find_controls(_plate(), (selection,))


def test_controls_are_wells_or_values():
    assert find_controls(_plate(), ("b2", "Compound=drug")) == {"B02", "B04", "B05"}
    assert find_controls(_plate(), ()) == frozenset()


@pytest.mark.parametrize(
    "wrong",
    [
        {"stain_threshold": 0.083},
        {"stain_threshold": "mean"},
        {"stain_threshold": "controls", "negative_controls": ""},
        {"stain_threshold": "controls", "stain_scope": "field"},
        {"max_artifact_fraction": 0},
        {"fill": "black"},
    ],
)
def test_wrong_choices_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        RunConfig(plates="p.zarr", **{**OPTIONS, **wrong})


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = rng.binomial(1000, 0.3, size=16)
        low, high = bootstrap_ratio(found, np.full(16, 1000), seed=int(found[0]))
        covered += low <= 0.3 <= high
    assert 0.86 <= covered / 300 <= 0.99


def test_scores_without_spread_or_controls_are_nan():
    assert np.isnan(robust_z(np.ones(3), np.ones(3))).all()
    assert np.isnan(robust_z(np.ones(3), np.array([np.nan, 1.0]))).all()
    assert math.isnan(z_prime(np.ones(1), np.ones(4)))
    assert math.isnan(z_prime(np.ones(4), np.ones(4), robust=True))


def test_the_dictionary_in_the_documentation_is_that_of_the_code():
    assert (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8") == describe_tables()

"""The columns of the tables: what each means, and in which unit. `docs/tables.md` is made from this."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Column(NamedTuple):
    """A column of one or several tables.

    Attributes
    ----------
    name
        In the tables, with its unit at the end.
    unit
        For people; empty for counts, fractions and text.
    meaning
        One sentence.
    """

    name: str
    unit: str
    meaning: str


_STAINED = "whose optical density reaches `stain_threshold_od`"

PLACE = (
    Column("plate", "", "Name of the plate."),
    Column("well", "", "Name of the well, such as B03."),
    Column("row", "", "Row of the well, from 1."),
    Column("column", "", "Column of the well, from 1."),
    Column("acquisition", "", "Number of the measurement, from 0; a plate that was imaged twice has two."),
)

FIELD_PLACE = (
    Column("field", "", "Index of the field in its well, from 0: the name of its group in the store."),
    Column("field_id", "", "The microscope's own number of the field."),
    Column("y_um", "um", "Position of the field in the well, downwards."),
    Column("x_um", "um", "Position of the field in the well, to the right."),
    Column("z_um", "um", "Height of the lowest plane."),
    Column("time_s", "s", "When the field was first taken, since the measurement began."),
    Column("n_missing_planes", "", "Planes that the export lacks, or that could not be read."),
)

LABEL = (
    Column("artifact_probability", "", "`label`: largest probability of a tile to have an artifact."),
    Column("n_artifact_tiles", "", "`label`: tiles that the classifier calls artifact."),
    Column("n_saturated_tiles", "", "`label`: artifact tiles where all maps have the same weight."),
    Column("saliency_error", "", "`label`: expected error (1 - IoU) of the saliency map, the largest of the tiles."),
    Column("weak_fraction", "", "`label`: share of the pixels in weak labels."),
    Column("n_weak_objects", "", "`label`: objects in weak labels."),
    Column("weak_area_um2", "um2", "`label`: area of weak labels."),
)

ARTIFACTS = (
    Column("field_area_um2", "um2", "Area that was looked at: all pixels of all planes."),
    Column("analysed_area_um2", "um2", "The same without artifacts."),
    Column("artifact_fraction", "", "Share of the pixels in artifacts."),
    Column("n_artifacts", "", "Artifacts: objects of `labels/artifacts`."),
    Column("artifact_area_um2", "um2", "Area of all artifacts."),
    Column("artifact_median_um2", "um2", "Median area of an artifact."),
    Column("artifact_p90_um2", "um2", "Area that nine of ten artifacts do not exceed."),
    Column("largest_artifact_um2", "um2", "Area of the largest artifact; 0 where there is none."),
)

STAIN = (
    Column("stain_threshold_od", "OD", "Optical density from which a pixel counts as stained (wells: mean)."),
    Column("stained_fraction_raw", "", f"**Before masking**: pixels {_STAINED}, over all pixels."),
    Column("stained_fraction_masked", "", "**After masking, over all pixels**: what the masked image shows."),
    Column(
        "stained_fraction",
        "",
        "**After masking, the masked area excluded from the denominator**: stained pixels outside of artifacts, over "
        "all pixels outside of artifacts. The one to report.",
    ),
    Column("stained_area_raw_um2", "um2", f"Before masking: area of the pixels {_STAINED}."),
    Column("stained_area_um2", "um2", "After masking: the same, outside of artifacts."),
    Column("stained_mean_od_raw", "OD", "Before masking: mean optical density of the stained pixels."),
    Column("stained_mean_od", "OD", "After masking: the same, outside of artifacts."),
    Column("stained_integrated_od_raw_um2", "OD um2", "Before masking: optical density summed over the stained area."),
    Column("stained_integrated_od_um2", "OD um2", "After masking: the same, outside of artifacts."),
    Column("stained_od_per_area_raw", "OD", "Before masking: integrated density over the whole area."),
    Column("stained_od_per_area_masked", "OD", "After masking, over the whole area."),
    Column("stained_od_per_area", "OD", "After masking, the masked area excluded from the denominator."),
)

QUALITY = (
    Column("background", "grey values", "Mean of the estimated background."),
    Column("clipped_fraction", "", "Share of the pixels at an end of the camera's range, 0 or 65535."),
    Column("sharpness", "", "Focus: edges at the scale of 4 pixels over the contrast of the field; small is blurred."),
    Column("contrast_p01", "", "First percentile of (image / background - 1) / 0.2, outside of artifacts."),
    Column("contrast_p99", "", "99th percentile of the same."),
    Column("contrast_asymmetry", "", "Sum of these percentiles over their difference; negative where dark stands out."),
    Column("roughness", "", "Median difference of neighbouring pixels in contrast: mostly noise."),
    Column("flat_fraction", "", "Share of neighbouring pixels that are equal; large where clipped or of 8 bits."),
)

CELLS = (
    Column("n_cells", "", "`cells`: cells that were measured."),
    Column("n_excluded_cells", "", "`cells`: further cells, too much of which an artifact covers."),
    Column("senescence_threshold_od", "OD", "`cells`: density from which a cell counts as senescent."),
    Column("n_senescent_cells", "", "`cells`: senescent cells."),
    Column("senescent_fraction", "", "`cells`: senescent cells over measured cells."),
)

OUTCOME = (
    Column("rejected", "", "Why quality control left the field out of the wells' figures; empty where it did not."),
    Column("error", "", "Why the field could not be read or measured; empty where it was."),
)

COUNTS = (
    Column("n_wells", "", "Wells."),
    Column("n_fields", "", "Fields of view."),
    Column("n_failed_fields", "", "Fields with an `error`."),
    Column("n_rejected_fields", "", "Fields that are `rejected`."),
    Column("n_measured_fields", "", "Fields that the figures are made of: measured, and not rejected."),
)

SPREAD = (
    Column("artifact_fraction_low", "", "Lower end of its 95 % confidence interval: fields drawn with replacement."),
    Column("artifact_fraction_high", "", "Upper end of the same."),
    Column("stained_fraction_sd", "", "Standard deviation of `stained_fraction` over the fields."),
    Column("stained_fraction_low", "", "Lower end of its 95 % confidence interval: fields drawn with replacement."),
    Column("stained_fraction_high", "", "Upper end of the same."),
    Column("senescent_fraction_low", "", "Lower end of its 95 % confidence interval: fields drawn with replacement."),
    Column("senescent_fraction_high", "", "Upper end of the same."),
)

SCORES = (
    Column("control", "", "`negative` or `positive` where the well is such a control, else empty."),
    Column("stained_fraction_robust_z", "SD", "Robust z-score against all wells of the plate."),
    Column("stained_fraction_control_z", "SD", "Robust z-score against the negative controls."),
    Column("senescent_fraction_robust_z", "SD", "Robust z-score against all wells of the plate."),
    Column("senescent_fraction_control_z", "SD", "Robust z-score against the negative controls."),
)

CONTROLS = (
    Column("stain_threshold_method", "", "How `stain_threshold_od` was chosen: fixed, otsu, triangle or controls."),
    Column("stained_fraction_negative", "", "Median of `stained_fraction` over the negative control wells."),
    Column("stained_fraction_positive", "", "The same of the positive control wells."),
    Column("stained_fraction_z_prime", "", "Z'-factor between the controls, of means and standard deviations."),
    Column("stained_fraction_robust_z_prime", "", "Z'-factor of medians and median absolute deviations."),
    Column("senescent_fraction_negative", "", "Median of `senescent_fraction` over the negative control wells."),
    Column("senescent_fraction_positive", "", "The same of the positive control wells."),
    Column("senescent_fraction_z_prime", "", "Z'-factor between the controls, of means and standard deviations."),
    Column("senescent_fraction_robust_z_prime", "", "Z'-factor of medians and median absolute deviations."),
)

FIELDS = (*PLACE, *FIELD_PLACE, *LABEL, *ARTIFACTS, *STAIN, *QUALITY, *CELLS, *OUTCOME)
WELLS = (
    *PLACE,
    *COUNTS[1:],
    *(c for c in LABEL if c.name in ("artifact_probability", "weak_fraction", "n_weak_objects", "weak_area_um2")),
    *ARTIFACTS,
    *STAIN,
    *CELLS,
    *SPREAD,
    *SCORES,
)
PLATE = (
    PLACE[0],
    PLACE[-1],
    *COUNTS,
    *(column for column in ARTIFACTS if column.name in ("artifact_fraction", "n_artifacts")),
    STAIN[0],
    *(column for column in STAIN if column.name.startswith("stained_fraction")),
    *CELLS,
    *CONTROLS,
)

CELL = (
    *PLACE,
    *FIELD_PLACE[:2],
    Column("t", "", "Timepoint, from 0."),
    Column("z", "", "Plane of the stack that was looked at, from 0."),
    Column("label", "", "Number of the cell in the label image of its field."),
    Column("y_um", "um", "Position of the cell's middle in the well, downwards: the field's, and that in the field."),
    Column("x_um", "um", "The same to the right."),
    Column("nucleus_area_um2", "um2", "Area of nuclei in the cell; missing where nuclei are not known."),
    Column("nucleus_mean_intensity", "grey values", "Mean of the nuclear channel in the nucleus, background included."),
    Column("cell_area_um2", "um2", "Area of the cell, nucleus and artifacts included."),
    Column("cell_mean_od", "OD", "Mean optical density of the cell outside of artifacts; missing if nothing is left."),
    Column("cell_integrated_od_um2", "OD um2", "Optical density summed over the cell outside of artifacts."),
    Column("artifact_fraction", "", "Share of the cell's pixels in artifacts."),
    Column("touches_border", "", "Whether the nucleus, or a cell without one, reaches the border of the field."),
    Column("excluded", "", "Whether too much of the cell is artifact for it to be counted."),
    Column("senescent", "", "Whether `cell_mean_od` reaches `senescence_threshold_od`; missing where excluded."),
)

TABLES: dict[str, tuple[Column, ...]] = {"fields": FIELDS, "wells": WELLS, "plate": PLATE, "cells": CELL}
"""Columns of each table, in their order. A column is there once its stage has run; layers of the layout follow."""


def order_columns(table: str, found: Iterable[str]) -> list[str]:
    """Bring the columns of a table into their order; layers of the plate's layout, which only it knows, come last.

    Examples
    --------
    >>> order_columns("wells", ["Compound", "n_fields", "plate"])
    ['plate', 'n_fields', 'Compound']
    """
    names = list(found)
    known = [column.name for column in TABLES[table] if column.name in names]
    return known + [name for name in names if name not in set(known)]


_INTRODUCTION = """# The tables, column by column

Made from `artifact_mask/columns.py` by `python -m artifact_mask.columns > docs/tables.md`; a test holds them together.

`artmask run` writes `tables/fields`, `tables/wells` and `tables/plate` into each plate, as Parquet (`table.parquet`,
with each column's meaning and unit in its metadata) and CSV (`table.csv`), in the layout that `ngio` reads;
`artmask cells` adds `tables/cells`. `artmask export PLATE DEST --as tables` puts those of many plates together, also as
AnnData. A column is there once its command has run. Each layer of the plate's layout (compound, concentration ...) is a
column of its own at the end; one that has a name of ours is called `layout_<name>`.

- **Before and after masking**: `_raw` counts everything, artifacts too. `_masked` counts what is outside of artifacts
  against all pixels, as one would in the masked image. Without an ending, the masked area is left out of the
  denominator too.
- **A missing value is no zero**: a field that failed has an `error` and no figures, a field that was rejected has
  figures and a reason in `rejected`; the figures of wells and plates are made of the others. Of a well without any,
  every figure is missing.
- Figures of wells and plates are those of their fields' pixels together, not means of fractions. Confidence intervals
  draw the well's fields with replacement, 2000 times, with a seed that is the well's place: the same fields give the
  same interval, and a well of one field has none.
- Optical densities are `-log10(image / background)`, counted in steps of 0.005 that are rounded down; sums and means
  take the middle of each step. Thresholds are applied to these counts when the tables are written, so that another
  threshold needs no new run over the images.
- A robust z-score is the distance from the median in units of 1.4826 x the median absolute deviation. Z' is
  1 - 3 (s+ + s-) / |m+ - m-|.
"""
_HEAD = ("| column | unit | |", "|---|---|---|")


def describe_tables() -> str:
    """Write the data dictionary of all tables in Markdown, as ``docs/tables.md`` holds it."""
    parts = [_INTRODUCTION]
    for name, columns in TABLES.items():
        rows = [f"| `{column.name}` | {column.unit} | {column.meaning} |" for column in columns]
        parts.append("\n".join([f"## `tables/{name}`", "", _ROW_OF[name], "", *_HEAD, *rows, ""]))
    return "\n".join(parts)


_ROW_OF: Mapping[str, str] = {
    "fields": "One row a field of view.",
    "wells": "One row a well and acquisition.",
    "plate": "One row an acquisition.",
    "cells": "One row a cell.",
}

if __name__ == "__main__":
    print(describe_tables(), end="")

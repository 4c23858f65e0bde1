"""Tables of fields, wells and the plate, built from the records alone so that they cannot disagree with the arrays."""

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from artifact_mask.columns import TABLES, order_columns
from artifact_mask.config import CellsConfig, RunConfig
from artifact_mask.engine.journal import FieldRecord, open_journal, read_config, read_settings
from artifact_mask.frozen import Frozen
from artifact_mask.io.ome_zarr_plate import StoredPlate
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate, Well
from artifact_mask.workflows.cell_figures import choose_senescence_thresholds, describe_cells
from artifact_mask.workflows.measurements import (
    OUTSIDE,
    artifact_sizes,
    choose_stain_thresholds,
    describe_field,
    why_rejected,
)
from artifact_mask.workflows.progress import FieldFailure
from artifact_mask.workflows.stages import AFTER_RUN, STAGES
from artifact_mask.workflows.well_table import tabulate_plate, tabulate_wells

NOT_REACHED = "not reached: the task was lost; run the same command again"


class Outcome(NamedTuple):
    """What a stage recorded.

    Attributes
    ----------
    records
        By field. A field without one was lost.
    config
        That it was run with; None for a stage whose tables depend on none.
    """

    records: Mapping[FieldKey, FieldRecord]
    config: Frozen | None = None


def read_outcomes(root: Location, plate: Plate, ingest_digest: str, *, besides: str) -> dict[str, Outcome]:
    """Read what the stages after the ingest, but for one, recorded of the images that are there now.

    A stage that was interrupted is no error of another one's: fields that it has not reached have empty records. What
    was found with the masks of an earlier `run` is left out.
    """
    outcomes = {}
    run = open_journal(root, "run")
    for stage in STAGES[1:]:
        journal, settings = open_journal(root, stage), read_settings(root, stage)
        if stage == besides or journal is None or settings.get("ingest") != ingest_digest:
            continue
        if stage in AFTER_RUN and (run is None or settings.get("run") != run.digest):
            continue
        unreached = dict.fromkeys(plate.acquisition_of, FieldRecord({}, {}))
        outcomes[stage] = Outcome(unreached | journal.read(), _parse_config(stage, read_config(root, stage)))
    return outcomes


def _parse_config(stage: str, document: Mapping[str, Any]) -> Frozen | None:
    kinds: dict[str, type[RunConfig | CellsConfig]] = {"run": RunConfig, "cells": CellsConfig}
    kind = kinds.get(stage)
    try:
        return kind.model_validate(document) if kind else None
    except ValidationError:
        # Of another version of artmask; what it counted is as good.
        return kind.model_validate({"plates": document.get("plates")}) if kind else None


def tabulate_stage(
    root: Location,
    stored: StoredPlate,
    ingested: Mapping[FieldKey, FieldRecord],
    stage: str,
    own: Outcome,
    looked_at: Container[FieldKey],
) -> dict[str, pd.DataFrame]:
    """Tables of a plate with what a stage has just found, beside what the others have recorded.

    Parameters
    ----------
    root, stored
        The plate.
    ingested
        Records of its ingest.
    stage, own
        The stage, and what it recorded.
    looked_at
        Fields that it had to look at; that others have no record is no error.
    """
    others = read_outcomes(root, stored.plate, stored.ingest_digest, besides=stage)
    skipped = {key: FieldRecord({}, {}) for key in stored.plate.acquisition_of if key not in looked_at}
    own = own._replace(records={**own.records, **skipped})
    return tabulate(stored.plate, {"ingest": Outcome(ingested), **others, stage: own})


def tabulate(plate: Plate, outcomes: Mapping[str, Outcome]) -> dict[str, pd.DataFrame]:
    """Tables ``fields``, ``wells`` and ``plate``.

    Parameters
    ----------
    plate
        Its content; a field without a record has a row too.
    outcomes
        By stage, the ingest among them.
    """
    ordered = {stage: outcomes[stage] for stage in STAGES if stage in outcomes}
    figures = {stage: _figures(stage, plate, ordered) for stage in ordered}
    config = outcomes["run"].config if "run" in outcomes else None
    config = config if isinstance(config, RunConfig) else None
    rows = []
    for well in plate.wells:
        for field in well.fields:
            key = (well.path, field.index)
            row: dict[str, object] = {
                "plate": plate.name,
                "well": well.name,
                "row": well.row,
                "column": well.column,
                "acquisition": plate.acquisition_of[key],
                "field": field.index,
                "field_id": field.field_id,
                "y_um": field.y_um,
                "x_um": field.x_um,
                "z_um": field.z_um,
                "time_s": field.times_s[0] if field.times_s else math.nan,
            }
            error = None
            for of_stage in figures.values():
                values = dict(of_stage.get(key, {"error": NOT_REACHED}))
                # The first error of a field is the one that led to the others.
                error = error or values.pop("error", None)
                values.pop("error", None)
                row.update(values)
            if config:
                row["rejected"] = why_rejected(row, config)
            rows.append({**row, "error": error or ""})
    layers = layout_columns(plate.wells)
    fields = _join_layout(pd.DataFrame(rows), layers)
    fields = fields[order_columns("fields", map(str, fields))]
    run = ordered["run"].records if "run" in ordered else {}
    sizes = [artifact_sizes(run.get((well.path, field.index))) for well in plate.wells for field in well.fields]
    wells = tabulate_wells(plate, fields, sizes, config)
    wells = _join_layout(wells, layers)
    wells = wells[order_columns("wells", map(str, wells))]
    return {"fields": fields, "wells": wells, "plate": tabulate_plate(fields, wells, config)}


def _figures(stage: str, plate: Plate, outcomes: Mapping[str, Outcome]) -> Mapping[FieldKey, Mapping[str, Any]]:
    """Columns that a stage has to say something of, by field."""
    records, config = outcomes[stage]
    rows = {key: record.row for key, record in records.items()}
    if stage == "run" and isinstance(config, RunConfig):
        thresholds = choose_stain_thresholds(plate, records, config)
        pixel_um = {key: plate.acquisitions[number].pixel_size_um for key, number in plate.acquisition_of.items()}
        return {
            key: describe_field(row, threshold=thresholds[key], pixel_area_um2=pixel_um[key] ** 2)
            if OUTSIDE in row
            else row
            for key, row in rows.items()
        }
    if stage == "cells" and isinstance(config, CellsConfig):
        run = outcomes.get("run")
        of_run = (run.records, run.config) if run and isinstance(run.config, RunConfig) else None
        senescence = choose_senescence_thresholds(plate, records, config, of_run)
        return {key: describe_cells(row, threshold=senescence.get(key, math.nan)) for key, row in rows.items()}
    if stage == "stain":
        # Its labels are the pixels that the tables count; it has nothing to add but its errors.
        return {key: {"error": row["error"]} if row.get("error") else {} for key, row in rows.items()}
    return rows


def layout_columns(wells: Iterable[Well]) -> dict[str, dict[str, str | float]]:
    """Values of each layer of the plate's layout by the name of the well, by the name of the layer's column.

    A layer whose name a column of our own has is called ``layout_<name>``.
    """
    taken = {column.name for columns in TABLES.values() for column in columns}
    layers: dict[str, dict[str, str | float]] = {}
    for well in wells:
        for layer, value in well.layout.items():
            column = f"layout_{layer}" if layer.lower() in taken else layer
            layers.setdefault(column, {})[well.name] = value
    return layers


def _join_layout(frame: pd.DataFrame, layers: Mapping[str, Mapping[str, str | float]]) -> pd.DataFrame:
    return frame.assign(**{column: frame["well"].map(values) for column, values in layers.items()})


def list_failures(fields: pd.DataFrame) -> tuple[FieldFailure, ...]:
    """Fields that have an error."""
    failed = fields.loc[fields["error"] != "", ["plate", "well", "field_id", "error"]]
    return tuple(FieldFailure(*row) for row in failed.itertuples(index=False, name=None))

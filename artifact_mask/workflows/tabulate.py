"""Tables of fields and wells, built from the records alone so that they cannot disagree with the arrays."""

import math
from collections.abc import Mapping
from itertools import chain

import pandas as pd

from artifact_mask.engine.journal import FieldRecord, open_journal, read_settings
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.workflows.progress import FieldFailure
from artifact_mask.workflows.stages import STAGES

NOT_REACHED = "not reached: the task was lost; run the same command again"


def read_other_stages(
    root: Location, plate: Plate, ingest_digest: str, *, besides: str
) -> list[dict[FieldKey, FieldRecord]]:
    """Read what the stages after the ingest, but for one, recorded of the images that are there now.

    A stage that was interrupted is no error of another one's: fields that it has not reached have empty records.
    """
    stages = []
    for stage in STAGES[1:]:
        journal = open_journal(root, stage)
        if stage == besides or journal is None or read_settings(root, stage).get("ingest") != ingest_digest:
            continue
        unreached = dict.fromkeys(chain.from_iterable(a.field_keys for a in plate.acquisitions), FieldRecord({}, {}))
        stages.append(unreached | journal.read())
    return stages


def tabulate_fields(plate: Plate, *stages: Mapping[FieldKey, FieldRecord]) -> pd.DataFrame:
    """One row a field of view: where it is, what each stage measured, and what went wrong.

    Parameters
    ----------
    plate
        Whose fields to list; one without a record has a row too.
    stages
        Records of each stage, the earliest first. The first error of a field is kept.
    """
    rows = []
    for well in plate.wells:
        for field in well.fields:
            number = plate.acquisition_of[well.path, field.index]
            row: dict[str, object] = {
                "plate": plate.name,
                "well": well.name,
                "row": well.row,
                "column": well.column,
                "acquisition": number,
                "field": field.index,
                "field_id": field.field_id,
                "y_um": field.y_um,
                "x_um": field.x_um,
                "z_um": field.z_um,
                "time_s": field.times_s[0] if field.times_s else math.nan,
            }
            error = None
            for records in stages:
                record = records.get((well.path, field.index))
                values = dict(record.row) if record else {"error": NOT_REACHED}
                error = error or values.pop("error", None)
                row.update(values)
            rows.append({**row, "error": error or ""})
    frame = pd.DataFrame(rows)
    # Last, wherever the first complete row put it.
    return frame[[column for column in frame if column != "error"] + ["error"]]


_AVERAGED = ("artifact_probability", "weak_fraction", "artifact_fraction", "stained_fraction_raw", "stained_fraction")


def tabulate_wells(plate: Plate, fields: pd.DataFrame) -> pd.DataFrame:
    """One row a well and acquisition: fields counted, areas and objects summed, fractions averaged.

    Averages are of the measured fields. Each layer of the assay layout is a column; one whose name a measurement has
    is called ``layout_<name>``.
    """
    keys = ["plate", "well", "row", "column", "acquisition"]
    sums = [name for name in ("n_artifacts", "artifact_area_um2", "n_weak_objects", "weak_area_um2") if name in fields]
    means = [name for name in _AVERAGED if name in fields]
    wells = fields.groupby(keys, sort=False).agg(
        n_fields=("field", "size"), n_failed_fields=("error", lambda errors: int((errors != "").sum()))
    )
    grouped = fields.groupby(keys, sort=False)
    # A well without a measured field has no measurement: NaN, never 0.
    measured = wells.join(grouped[means].mean()).join(grouped[sums].sum(min_count=1)).reset_index()
    taken = {str(column).lower() for column in measured}
    for layer in {name: None for well in plate.wells for name in well.layout}:
        column = f"layout_{layer}" if layer.lower() in taken else layer
        measured[column] = measured["well"].map({well.name: well.layout.get(layer) for well in plate.wells})
    return measured


def list_failures(fields: pd.DataFrame) -> tuple[FieldFailure, ...]:
    """Fields that have an error."""
    failed = fields.loc[fields["error"] != "", ["plate", "well", "field_id", "error"]]
    return tuple(FieldFailure(*row) for row in failed.itertuples(index=False, name=None))

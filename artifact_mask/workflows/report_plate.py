"""What a report says of a plate, read from its tables, its records and its metadata."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from artifact_mask.engine.journal import FieldRecord, open_journal, read_config, read_settings
from artifact_mask.errors import PlateError
from artifact_mask.io.ome_zarr_plate import StoredPlate
from artifact_mask.io.report_content import PlateContent, StageState
from artifact_mask.io.tables import list_tables, read_table
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.nn.model_card import ModelCard, UNetCard
from artifact_mask.workflows.planes import find_channel, scale_between, stored_flat_fields
from artifact_mask.workflows.report_pictures import PictureSource
from artifact_mask.workflows.report_provenance import describe_provenance, read_models, say_time
from artifact_mask.workflows.status import StageStatus, read_status
from artifact_mask.workflows.tabulate import Outcome, layout_columns, read_outcomes, tabulate
from artifact_mask.workflows.unfamiliar import describe_unfamiliar

_TABLES = ("fields", "wells", "plate")
_MAX_NAMED = 12
"""Wells that a warning names; there may be hundreds."""


def read_content(root: Location, stored: StoredPlate) -> PlateContent:
    """Read what a report says of a plate; pixels are not read.

    Raises
    ------
    StorageError
        If the store cannot be reached.
    """
    plate = stored.plate
    tables = _read_tables(root, stored)
    statuses = read_status([root])
    stages = [_describe_stage(status) for status in statuses]
    models = read_models(root)
    run_is_ours = read_settings(root, "run").get("ingest") == stored.ingest_digest
    return PlateContent(
        name=plate.name,
        place=str(root),
        n_rows=plate.n_rows,
        n_columns=plate.n_columns,
        tables=tables,
        layers=[name for name in layout_columns(plate.wells) if name in tables["wells"]],
        state=_describe_state({status.stage: status for status in statuses}, is_ours=run_is_ours),
        stages=stages,
        warnings=list(_warn(root, plate, tables, stages, models["run"], is_ours=run_is_ours)),
        provenance=describe_provenance(root, stored, models),
        label=_shown_label(root, stored),
    )


def find_pictures(root: Location, stored: StoredPlate, label: str) -> PictureSource:
    """Find out which channel is shown: that which `run` looked at, else the brightfield one, else the first."""
    plate = stored.plate
    of_run = read_config(root, "run") if label == "artifacts" else {}
    name = of_run.get("channel")
    channels = {}
    for number, acquisition in enumerate(plate.acquisitions):
        try:
            channels[number] = find_channel(acquisition, name)
        except PlateError:
            # Better than nothing; `run` has passed over these fields, too.
            channels[number] = 0
    flat_fields = stored_flat_fields(root, stored.ingest_digest, of_run.get("illumination", "stored"))
    return PictureSource(root, plate, channels, label, flat_fields)


def _read_tables(root: Location, stored: StoredPlate) -> dict[str, pd.DataFrame]:
    """Tables of a plate; where they have not been written yet, what the records say."""
    if set(_TABLES) <= set(list_tables(root)):
        return {name: read_table(root, name) for name in _TABLES}
    ingest = open_journal(root, "ingest")
    ingested = Outcome(ingest.read() if ingest else {})
    others = read_outcomes(root, stored.plate, stored.ingest_digest, besides="ingest")
    return tabulate(stored.plate, {"ingest": ingested, **others})


def _describe_stage(status: StageStatus) -> StageState:
    last = say_time(status.written_ns) if status.written_ns else ""
    return StageState(status.stage, status.n_done, status.n_failed, status.n_left, last, status.running or "")


def _describe_state(statuses: Mapping[str, StageStatus], *, is_ours: bool) -> str:
    at_work = next((status for status in statuses.values() if status.running), None)
    if at_work:
        return f"{at_work.stage} is running"
    ingest, run = statuses["ingest"], statuses["run"]
    if ingest.n_left:
        return "ingest is not finished"
    if not (run.n_done or run.n_failed):
        return "not run yet"
    if not is_ours:
        return "run is of other images"
    return "run is not finished" if run.n_left else "finished"


def _warn(
    root: Location,
    plate: Plate,
    tables: Mapping[str, pd.DataFrame],
    stages: Sequence[StageState],
    card: ModelCard | None,
    *,
    is_ours: bool,
) -> Iterator[str]:
    states = {state.stage: state for state in stages}
    ingest, run = states["ingest"], states["run"]
    fields, wells = tables["fields"], tables["wells"]
    has_figures = "artifact_fraction" in fields
    if ingest.n_left:
        yield f"The ingest is not finished: {ingest.n_left} of {plate.n_fields} fields have no images yet."
    journal = open_journal(root, "run")
    if journal is None:
        yield "`artmask run` has not been done on this plate: it has no masks, and no figures of artifacts or stain."
    elif not is_ours:
        yield "The images were ingested again after `artmask run`: run it again, to have masks and figures of them."
    elif run.n_left:
        figures = "The figures are those of its last end" if has_figures else "There are no figures yet"
        yield (
            f"`artmask run` is not finished: {run.n_left} of {plate.n_fields} fields are left. {figures}; "
            "the same command goes on from there."
        )
    n_failed = int((fields["error"] != "").sum())
    if n_failed:
        yield f"{_count(n_failed, 'field')} failed and {_have(n_failed)} no figures: see the reasons below."
    n_rejected = int((fields["rejected"] != "").sum()) if "rejected" in fields else 0
    if n_rejected:
        yield (
            f"{_count(n_rejected, 'field')} {'was' if n_rejected == 1 else 'were'} rejected by quality control and "
            f"{_have(n_rejected)} no part in the figures of wells and plate."
        )
    if has_figures:
        empty = wells.loc[wells["n_measured_fields"] == 0, "well"].tolist()
        if empty:
            more = f" and {len(empty) - _MAX_NAMED} more" if len(empty) > _MAX_NAMED else ""
            yield f"No field could be used of {', '.join(empty[:_MAX_NAMED])}{more}: nothing is known of these wells."
    if journal is not None and is_ours and isinstance(card, UNetCard):
        yield from _warn_of_unfamiliar(plate, journal.read(), card)


def _warn_of_unfamiliar(plate: Plate, records: Mapping[FieldKey, FieldRecord], card: UNetCard) -> Iterator[str]:
    resampled = any(scale_between(a.pixel_size_um, card.pixel_size_um) != 1 for a in plate.acquisitions)
    for warning in describe_unfamiliar(plate, records, card.seen, resampled=resampled):
        yield warning.removeprefix("Warning: ")


def _shown_label(root: Location, stored: StoredPlate) -> str:
    """Label image that the pictures show: of `run`, or of `label` where that was not run."""
    for stage, name in (("run", "artifacts"), ("label", "weak")):
        if open_journal(root, stage) is not None and read_settings(root, stage).get("ingest") == stored.ingest_digest:
            return name
    return ""


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"

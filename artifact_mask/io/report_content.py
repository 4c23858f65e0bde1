"""What a report says of a plate, and the same as a document for the page's scripts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from artifact_mask.columns import TABLES, Column

_DIGITS = 6
"""Of numbers on the page; the tables of the plate have all."""
_PLACE = ("row", "column", "acquisition", "field", "field_id")


@dataclass(frozen=True)
class StageState:
    """How far a stage is.

    Attributes
    ----------
    stage
        Such as ``run``.
    n_done, n_failed, n_left
        Fields.
    last
        When it last finished a field, for people; empty if it never did.
    running
        Who works on it; empty if nobody does.
    """

    stage: str
    n_done: int
    n_failed: int
    n_left: int
    last: str = ""
    running: str = ""


@dataclass(frozen=True)
class PlateContent:
    """What a report says of a plate.

    Attributes
    ----------
    name, place
        Of the plate, and of its store.
    n_rows, n_columns
        Size of the plate.
    tables
        ``fields``, ``wells`` and ``plate``.
    layers
        Columns that come from the plate's layout.
    state
        How far the work is, in a word or two.
    stages
        How far each stage is.
    warnings
        What a reader has to know before looking at the figures.
    provenance
        Titles, each with names and values.
    label
        Label image that the pictures show; empty for none.
    pictures
        Of the fields of each well, in their order in the table, as
        :func:`artifact_mask.io.report_fields.encode_pictures` writes them; none for a report without pictures.
    """

    name: str
    place: str
    n_rows: int
    n_columns: int
    tables: Mapping[str, pd.DataFrame]
    layers: Sequence[str]
    state: str
    stages: Sequence[StageState]
    warnings: Sequence[str]
    provenance: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    label: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)


def figures_of(table: pd.DataFrame) -> list[str]:
    """Columns of a table that hold numbers and are not places."""
    numbers = table.select_dtypes("number")
    return [str(name) for name in numbers if name not in _PLACE]


def describe_columns(table: str, names: Iterable[str]) -> dict[str, Column]:
    """Meaning and unit of columns of a table; layers of the layout have none."""
    known = {column.name: column for column in TABLES[table]}
    return {name: known.get(name, Column(name, "", "Of the plate's layout.")) for name in names}


def plate_document(content: PlateContent, column: str | None) -> dict[str, Any]:
    """Write a plate for the page's scripts; each table column by column.

    Parameters
    ----------
    content
        The plate.
    column
        That it is coloured by at first; None for one that is chosen here.
    """
    wells, fields = content.tables["wells"], content.tables["fields"]
    of_wells, of_fields = figures_of(wells), figures_of(fields.drop(columns=list(content.layers), errors="ignore"))
    texts = [name for name in content.layers if name in wells and name not in of_wells]
    return {
        "name": content.name,
        "rows": content.n_rows,
        "columns": content.n_columns,
        "first": first_column(of_wells, column),
        "figures": {"wells": of_wells, "fields": of_fields},
        "layers": {
            "numbers": [name for name in content.layers if name in of_wells],
            "texts": texts,
        },
        "wells": _by_column(wells, ["well", "row", "column", "acquisition", "control", *texts, *of_wells]),
        "fields": _by_column(fields, ["well", "acquisition", "field", "field_id", "error", "rejected", *of_fields]),
        "label": content.label,
        "pictured": bool(content.pictures),
    }


def first_column(known: Sequence[str], wanted: str | None) -> str:
    """Choose the column that a plate is coloured by at first: what is wanted, or what says most of what is known."""
    order = (wanted, "stained_fraction", "artifact_fraction", "weak_fraction", "n_fields", *known)
    return next((name for name in order if name is not None and name in known), "")


def _by_column(table: pd.DataFrame, names: Iterable[str]) -> dict[str, list[Any]]:
    return {name: [_plain(value) for value in table[name].tolist()] for name in names if name in table}


def _plain(value: Any) -> Any:
    """Value for JSON: what is missing is null, and numbers have as many digits as anyone reads."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None if value is None or pd.isna(value) else str(value)

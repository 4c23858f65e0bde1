"""The tables of a report as HTML: what is read without JavaScript, and printed."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from artifact_mask.columns import TABLES, Column
from artifact_mask.io.report_content import PlateContent, describe_columns, figures_of

MISSING = "\u2014"
"""What a missing value looks like."""
_WELLS = (
    "well",
    "acquisition",
    "control",
    "n_fields",
    "n_measured_fields",
    "artifact_fraction",
    "n_artifacts",
    "weak_fraction",
    "stained_fraction_raw",
    "stained_fraction",
    "stained_fraction_low",
    "stained_fraction_high",
    "stained_fraction_control_z",
    "n_cells",
    "senescent_fraction",
)
"""Columns that are always shown; the others only when asked for, and never printed."""
_FIELDS = (
    "well",
    "acquisition",
    "field",
    "field_id",
    "artifact_fraction",
    "n_artifacts",
    "weak_fraction",
    "stained_fraction_raw",
    "stained_fraction",
    "sharpness",
    "n_cells",
    "rejected",
    "error",
)
_PROBLEMS = ("well", "acquisition", "field", "field_id", "artifact_fraction", "rejected", "error")
_OVERVIEW = ("artifact_fraction", "stained_fraction_raw", "stained_fraction", "stained_fraction_z_prime")
_DIGITS = 4


def write_wells(content: PlateContent) -> str:
    """Write the table of wells, with the layers of the layout after the names of the wells."""
    wells = content.tables["wells"]
    order = [_WELLS[0], *content.layers, *_WELLS[1:]]
    named = [name for name in order if name in wells and _says_something(wells, name)]
    rest = [name for name in figures_of(wells) if name not in named]
    return _write_table("wells", wells, [*named, *rest], more=frozenset(rest))


def write_fields(content: PlateContent) -> str:
    """Write the table of fields: what people look at first; the page's scripts show the rest of it."""
    fields = content.tables["fields"]
    names = [name for name in _FIELDS if name in fields and _says_something(fields, name)]
    return _write_table("fields", fields, names)


def write_problems(content: PlateContent) -> str:
    """Write the fields that failed or were rejected, with the reasons; empty if all is well."""
    fields = content.tables["fields"]
    outcomes = fields[[name for name in ("error", "rejected") if name in fields]]
    bad = fields[(outcomes != "").any(axis=1)]
    names = [name for name in _PROBLEMS if name in bad and _says_something(bad, name)]
    return _write_table("fields", bad, names) if len(bad) else ""


def write_controls(content: PlateContent) -> str:
    """Write what is known of the plate as a whole: a row a figure, with its meaning."""
    plate = content.tables["plate"]
    names = [name for name in plate if name not in ("plate", "acquisition")]
    described = describe_columns("plate", map(str, names))
    numbers = plate["acquisition"].tolist()
    heads = [f"acquisition {number}" for number in numbers] if len(numbers) > 1 else ["value"]
    rows = [
        f'<tr><th scope="row">{html.escape(str(name))}</th>'
        + "".join(f'<td class="n">{_show(value)}</td>' for value in plate[name].tolist())
        + f"<td>{html.escape(described[str(name)].unit)}</td><td>{_prose(described[str(name)].meaning)}</td></tr>"
        for name in names
    ]
    head = "".join(f'<th scope="col" class="n">{head}</th>' for head in heads)
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">figure</th>{head}<th scope="col">unit</th>'
        f'<th scope="col">meaning</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def write_stages(content: PlateContent) -> str:
    """Write how far each stage is."""
    rows = [
        f'<tr><th scope="row">artmask {html.escape(state.stage)}</th>'
        + "".join(f'<td class="n">{n}</td>' for n in (state.n_done, state.n_failed, state.n_left))
        + f"<td>{html.escape(state.last or 'never')}</td><td>{html.escape(state.running)}</td></tr>"
        for state in content.stages
    ]
    head = "".join(
        f'<th scope="col"{kind}>{name}</th>'
        for name, kind in (
            ("stage", ""),
            *((name, ' class="n"') for name in ("fields done", "failed", "left")),
            ("last field", ""),
            ("running", ""),
        )
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Write names and values."""
    rows = "".join(f'<tr><th scope="row">{html.escape(n)}</th><td>{html.escape(v)}</td></tr>' for n, v in pairs)
    return f'<div class="wide"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def write_meanings() -> str:
    """Write what each column of the tables means."""
    parts = []
    for table in ("fields", "wells", "plate"):
        rows = "".join(
            f'<tr><th scope="row">{column.name}</th><td>{html.escape(column.unit)}</td>'
            f"<td>{_prose(column.meaning)}</td></tr>"
            for column in TABLES[table]
        )
        parts.append(f'<h4>Table of {table}</h4><div class="wide"><table><tbody>{rows}</tbody></table></div>')
    return "".join(parts)


def overview_cells(plate: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Write counts and figures of a plate for the overview; of several measurements, the figures side by side."""
    counts = ("n_wells", "n_fields", "n_measured_fields", "n_failed_fields", "n_rejected_fields")
    summed = [_show(int(plate[name].max() if name == "n_wells" else plate[name].sum())) for name in counts]
    figures = [
        " / ".join(_show(value) for value in plate[name].tolist()) if name in plate else "" for name in _OVERVIEW
    ]
    return summed, figures


def overview_heads() -> list[tuple[str, str]]:
    """Heads of the overview's numbers, and what they mean."""
    described = describe_columns("plate", _OVERVIEW)
    counts = [("wells", ""), ("fields", ""), ("measured", ""), ("failed", ""), ("rejected", "")]
    return counts + [(name, column.meaning.replace("**", "")) for name, column in described.items()]


def _write_table(table: str, frame: pd.DataFrame, names: Sequence[str], *, more: frozenset[str] = frozenset()) -> str:
    described = describe_columns(table, names)
    classes = {name: _class_of(name, frame[name], more) for name in names}
    head = "".join(
        f'<th scope="col"{classes[name]} title="{_tip(described[name])}">{breakable(name)}{_unit(described[name])}</th>'
        for name in names
    )
    columns = [[_cell(name, value, classes[name]) for value in frame[name].tolist()] for name in names]
    rows = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _cell(name: str, value: Any, kind: str) -> str:
    if name == "well":
        # A link that the page's scripts follow; without them it is text.
        well = html.escape(str(value), quote=True)
        return f'<th scope="row"><a data-well="{well}">{well}</a></th>'
    return f"<td{kind}>{_show(value)}</td>"


def _class_of(name: str, values: "pd.Series[Any]", more: frozenset[str]) -> str:
    kinds = [kind for kind, holds in (("n", pd.api.types.is_numeric_dtype(values)), ("m", name in more)) if holds]
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _says_something(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column is worth its room: one measurement needs no number, and empty columns say nothing."""
    values = frame[name]
    if name == "acquisition":
        return bool((values != 0).any())
    return bool(values.notna().any() and (values != "").any())


def _show(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else html.escape(str(value))


def breakable(name: str) -> str:
    """Name that may go on in the next line after an underscore: narrow numbers would have wide heads."""
    return html.escape(name).replace("_", "_<wbr>")


def _prose(meaning: str) -> str:
    """Meaning of a column, whose Markdown becomes HTML."""
    parts = html.escape(meaning, quote=False).split("`")
    text = "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
    bold = text.split("**")
    return "".join(f"<b>{part}</b>" if n % 2 else part for n, part in enumerate(bold))


def _tip(column: Column) -> str:
    return html.escape(column.meaning.replace("**", "").replace("`", ""), quote=True)


def _unit(column: Column) -> str:
    return f" <small>{html.escape(column.unit)}</small>" if column.unit else ""

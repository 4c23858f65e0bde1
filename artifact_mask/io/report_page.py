"""The page of a report: one HTML file with everything in it, readable without JavaScript and on paper."""

import html
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote

import bokeh
from bokeh.resources import Resources

from artifact_mask import __version__
from artifact_mask.columns import TABLES
from artifact_mask.io.page import fill_page, join_scripts, json_text, read_part, script_source
from artifact_mask.io.report_content import PlateContent, plate_document
from artifact_mask.io.report_figures import describe_figures
from artifact_mask.io.report_tables import (
    MISSING,
    breakable,
    overview_cells,
    overview_heads,
    write_controls,
    write_fields,
    write_meanings,
    write_pairs,
    write_problems,
    write_stages,
    write_wells,
)

_PAGE = files("artifact_mask.io") / "report_page_parts"
_SCRIPTS = ("page.js", "figures.js", "map.js", "well.js", "charts.js", "main.js")


class OverviewRow(NamedTuple):
    """A plate in the overview of a campaign.

    Attributes
    ----------
    name
        Of the plate, or of its store where that cannot be read.
    state
        How far the work is, or why nothing is known.
    counts, figures
        As :func:`artifact_mask.io.report_tables.overview_cells` writes them; empty where nothing is known.
    link
        File of its report, relative to the page; empty where it is on the page itself.
    section
        Number of its section on the page; -1 where it has none.
    """

    name: str
    state: str
    counts: Sequence[str] = ()
    figures: Sequence[str] = ()
    link: str = ""
    section: int = -1


def overview_row(content: PlateContent, *, link: str = "", section: int = -1) -> OverviewRow:
    """Write what the overview says of a plate."""
    counts, figures = overview_cells(content.tables["plate"])
    return OverviewRow(content.name, content.state, counts, figures, link, section)


def write_page(
    title: str, plates: Sequence[PlateContent], overview: Sequence[OverviewRow], *, column: str | None
) -> bytes:
    """Write the page.

    Parameters
    ----------
    title
        Of the page.
    plates
        What is shown of each plate; none on an index of other pages.
    overview
        Rows of the table of plates; none for a page about one plate.
    column
        That plates are coloured by at first; None for one that is chosen for each plate.

    Notes
    -----
    Bokeh's script is in the page. The security policy names the two scripts by their digests and rules out the
    network; what comes from outside is text everywhere, since it is escaped in HTML, in JSON and by the scripts.
    """
    report: dict[str, Any] = {
        "plates": [plate_document(content, column) for content in plates],
        "columns": {
            table: {c.name: {"unit": c.unit, "meaning": _plain(c.meaning)} for c in TABLES[table]}
            for table in ("wells", "fields")
        },
    }
    script = join_scripts(_PAGE, _SCRIPTS)
    # Without widgets, tables, WebGL and formulas, which are two thirds of it.
    drawing = "\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw) if plates else ""
    page: Mapping[str, str] = {
        "title": html.escape(title),
        "made": f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by artmask {__version__}, "
        f"Python {platform.python_version()}, Bokeh {bokeh.__version__}.",
        "policy": f"{script_source(drawing)} {script_source(script)}",
        "style": read_part(_PAGE, "style.css"),
        "overview": _write_overview(overview) if overview else "",
        "plates": "\n".join(
            _write_plate(number, content, is_titled=bool(overview)) for number, content in enumerate(plates)
        ),
        "meanings": write_meanings(),
        "report": json_text(report),
        "figures": json_text(describe_figures()),
        "pictures": "\n".join(
            f'<script type="application/json" id="pictures-{number}-{html.escape(well, quote=True)}">{text}</script>'
            for number, content in enumerate(plates)
            for well, text in content.pictures.items()
        ),
        "bokeh": drawing,
        "script": script,
    }
    return fill_page(_PAGE, page)


def _write_overview(rows: Sequence[OverviewRow]) -> str:
    heads = "".join(
        f'<th scope="col" class="n" title="{html.escape(_plain(tip), quote=True)}">{breakable(name)}</th>'
        for name, tip in overview_heads()
    )
    n_numbers = len(overview_heads())
    body = "\n".join(_write_overview_row(row, n_numbers) for row in rows)
    return (
        f'<section><h2>Plates</h2><div class="wide"><table id="overview"><thead><tr><th scope="col">plate</th>'
        f'<th scope="col">state</th>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div></section>'
    )


def _write_overview_row(row: OverviewRow, n_numbers: int) -> str:
    name = html.escape(row.name)
    if row.link:
        name = f'<a href="{html.escape(quote(row.link), quote=True)}">{name}</a>'
    elif row.section >= 0:
        name = f'<a data-plate="{row.section}">{name}</a>'
    if row.counts:
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in (*row.counts, *row.figures))
        kind = "done" if row.state == "finished" else "open"
    else:
        numbers, kind = '<td class="n"></td>' * n_numbers, "lost"
    return f'<tr><th scope="row">{name}</th><td class="state {kind}">{html.escape(row.state)}</td>{numbers}</tr>'


def _write_plate(number: int, content: PlateContent, *, is_titled: bool) -> str:
    """Write the section of a plate, all of which is there without scripts."""
    problems = write_problems(content)
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in content.warnings)
    parts = [
        f"<h2>{html.escape(content.name)}</h2>" if is_titled else "",
        f'<p class="place">{html.escape(content.place)}</p>',
        _write_facts(content),
        f'<ul class="warnings">{warnings}</ul>' if warnings else "",
        '<div class="figures"></div>',
        f"<h3>Failed and rejected fields</h3>{problems}" if problems else "",
        "<h3>The plate, and its controls</h3>",
        write_controls(content),
        '<div class="table scroll"><h3>Wells</h3>'
        '<label class="choice"><input type="checkbox" class="all"> all columns</label>',
        write_wells(content),
        "</div>",
        f'<details class="scroll"><summary>Fields</summary>{write_fields(content)}</details>',
        "<h3>How far the work is</h3>",
        write_stages(content),
        '<details class="provenance"><summary>Provenance: images, settings, models, digests</summary>',
        *(f"<h4>{html.escape(title)}</h4>{write_pairs(pairs)}" for title, pairs in content.provenance),
        "</details>",
    ]
    return f'<section class="plate" id="plate-{number}">{"".join(parts)}</section>'


def _write_facts(content: PlateContent) -> str:
    """Write the few numbers that one looks for first."""
    (wells, fields, measured, failed, rejected), figures = overview_cells(content.tables["plate"])
    cells = [
        (content.state, "state", "" if content.state == "finished" else "warn"),
        (wells, "wells", ""),
        (f"{measured} of {fields}", "fields measured", ""),
        (failed, "fields failed", "" if failed == "0" else "bad"),
        (rejected, "fields rejected", "" if rejected == "0" else "warn"),
    ]
    heads = [name.replace("_", " ") for name, _ in overview_heads()[-len(figures) :]]
    cells += [(value, name, "") for name, value in zip(heads, figures, strict=True) if value not in ("", MISSING)]
    items = "".join(
        f'<li class="{kind}"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></li>'
        for value, name, kind in cells
    )
    return f'<ul class="facts">{items}</ul>'


def _plain(meaning: str) -> str:
    """Meaning of a column without Markdown's marks."""
    return meaning.replace("**", "").replace("`", "")

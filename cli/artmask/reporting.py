"""The command that writes a report."""

from dataclasses import asdict
from typing import Annotated

import typer

from artmask.shared_options import AsJson, ConfigFile, Plates


def report(
    plates: Plates,
    dest: Annotated[
        str | None, typer.Option(help="Page to write \\[default: PLATE-report.html in the current folder].")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the table of wells to colour by \\[default: stained_fraction].")
    ] = None,
    thumbnails: Annotated[
        bool | None, typer.Option("--thumbnails/--no-thumbnails", help="Show fields as pictures \\[default: yes].")
    ] = None,
    thumbnail_px: Annotated[
        int | None, typer.Option(help="Longest side of the pictures \\[default: what fits into 15 MB].")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a page that shows what was found: plate maps, fields with outlines, distributions, tables, provenance."""
    from artifact_mask.config import ReportConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.report import write_report
    from artmask.console import ConsoleProgress
    from artmask.results import print_json

    given = {"plates": plates, "dest": dest, "column": column, "thumbnails": thumbnails, "thumbnail_px": thumbnail_px}
    settings = load_config(ReportConfig, config, given)
    with ConsoleProgress() as progress:
        written = write_report(settings, progress)
    code = 0 if written.is_whole else 3
    if as_json:
        missing = {"not_drawn": [asdict(failure) for failure in written.not_drawn], "refused": written.refused}
        print_json({"outputs": written.pages, **missing, "exit_code": code})
    else:
        typer.echo(f"Open in a browser: {written.page}")
    raise typer.Exit(code)

"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from artmask.choices import ILLUMINATION_USES, one_of

HOW_IT_RUNS = "How it runs"
"""Panel of the options that almost all commands have."""

Channel = Annotated[str | None, typer.Option(help="Channel to look at; by default the brightfield one.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with the same keys; options override it.", rich_help_panel=HOW_IT_RUNS),
]
Plates = Annotated[
    list[str], typer.Argument(help="Plates that `artmask ingest` wrote, or folders of them (campaigns).")
]
UseIllumination = Annotated[
    str | None,
    typer.Option(
        help="Flat field of `artmask illumination`, if there is one: stored or none \\[default: stored].",
        autocompletion=one_of(ILLUMINATION_USES),
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the result as one JSON document, for scripts.", rich_help_panel=HOW_IT_RUNS),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only say what would be done, how long it may take, and what it would write.",
        rich_help_panel=HOW_IT_RUNS,
    ),
]

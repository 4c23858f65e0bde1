"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Channel = Annotated[str | None, typer.Option(help="Channel to look at; by default the brightfield one.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with the same keys; options override it.")]
Plates = Annotated[
    list[str], typer.Argument(help="Plates that `artmask ingest` wrote, or folders of them (campaigns).")
]
UseIllumination = Annotated[
    str | None,
    typer.Option(help="Flat field of `artmask illumination`, if there is one: stored or none \\[default: stored]."),
]

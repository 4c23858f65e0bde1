"""The command for labels that a person corrects."""

from pathlib import Path
from typing import Annotated

import typer

from artmask.choices import LABELS, one_of
from artmask.shared_options import AsJson, Channel, ConfigFile, Plates


def correct(
    plates: Plates,
    source: Annotated[
        str | None, typer.Option("--from", help="Labels to copy \\[default: artifacts].", autocompletion=one_of(LABELS))
    ] = None,
    to: Annotated[str | None, typer.Option(help="Labels to write \\[default: corrected].")] = None,
    wells: Annotated[str | None, typer.Option(help="Wells, such as B02,B03 \\[default: all].")] = None,
    fields: Annotated[
        int | None, typer.Option(help="Only so many fields of a plate: those with most artifact, wells taking turns.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option("--import", help="Folder of edited masks to bring in instead of copying labels.")
    ] = None,
    ignore: Annotated[int | None, typer.Option(help="Value of pixels in masks to learn nothing from.")] = None,
    channel: Channel = None,
    overwrite: Annotated[bool | None, typer.Option("--overwrite", help="Replace labels that have been edited.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy labels to edit them in napari or elsewhere, or bring edited masks back; then train with them."""
    from artifact_mask.config import CorrectConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.correct import correct as work
    from artmask.results import carry_out

    given = {
        "plates": plates,
        "source": source,
        "to": to,
        "wells": wells,
        "fields": fields,
        "masks": masks,
        "ignore": ignore,
        "channel": channel,
        "overwrite": overwrite,
    }
    carry_out(work, load_config(CorrectConfig, config, given), as_json=as_json)

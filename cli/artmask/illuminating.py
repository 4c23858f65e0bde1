"""The command that finds flat fields."""

from pathlib import Path
from typing import Annotated

import typer

from artmask.choices import ILLUMINATION_METHODS, one_of
from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import AsJson, ConfigFile, Plates


@takes_cluster
def illumination(
    plates: Plates,
    method: Annotated[
        str | None,
        typer.Option(
            help="retrospective, harmony or reference \\[default: retrospective].",
            autocompletion=one_of(ILLUMINATION_METHODS),
        ),
    ] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Channel, may be repeated \\[default: all].")] = None,
    fields: Annotated[int | None, typer.Option(help="Fields to look at \\[default: 96].")] = None,
    reference: Annotated[list[Path] | None, typer.Option(help="TIFF of an empty well, may be repeated.")] = None,
    remove: Annotated[bool | None, typer.Option("--remove", help="Remove the stored flat fields.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Find the flat field of each channel and store it in the plate; what reads the plate divides by it."""
    from artifact_mask.config import IlluminationConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.illumination import estimate_illumination as work
    from artmask.results import carry_out

    given = {
        "plates": plates,
        "method": method,
        "channels": channel or None,
        "fields": fields,
        "reference": reference or None,
        "remove": remove,
        "cluster": cluster,
    }
    carry_out(work, load_config(IlluminationConfig, config, given), as_json=as_json)

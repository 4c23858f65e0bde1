"""The command that finds artifacts, masks and measures."""

from typing import Annotated

import typer

from artmask.choices import FILLS, SHIPPED_UNETS, STAIN_SCOPES, STAIN_THRESHOLDS, one_of
from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import AsJson, Channel, ConfigFile, DryRun, Plates, UseIllumination


@takes_cluster
def run(
    plates: Plates,
    channel: Channel = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model file, or weak or supervised for one of artmask.",
            autocompletion=one_of(SHIPPED_UNETS),
            rich_help_panel="Artifacts",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a pixel is an artifact.", rich_help_panel="Artifacts")
    ] = None,
    min_object_px: Annotated[
        int | None, typer.Option(help="Objects of fewer pixels are dropped.", rich_help_panel="Artifacts")
    ] = None,
    reach_um: Annotated[
        float | None, typer.Option(help="How far objects grow over dark pixels.", rich_help_panel="Artifacts")
    ] = None,
    illumination: UseIllumination = None,
    fill: Annotated[
        str | None,
        typer.Option(
            help="Artifact pixels become: median, background, inpaint, nan \\[default: median].",
            autocompletion=one_of(FILLS),
            rich_help_panel="Artifacts",
        ),
    ] = None,
    stain_threshold: Annotated[
        str | None,
        typer.Option(
            help="Optical density, or otsu, triangle, controls \\[default: 0.08].",
            autocompletion=one_of(STAIN_THRESHOLDS),
            rich_help_panel="Numbers",
        ),
    ] = None,
    stain_scope: Annotated[
        str | None,
        typer.Option(
            help="One a plate, or a field \\[default: plate].",
            autocompletion=one_of(STAIN_SCOPES),
            rich_help_panel="Numbers",
        ),
    ] = None,
    negative_controls: Annotated[
        str | None, typer.Option(help="Wells, or such as Compound=DMSO.", rich_help_panel="Numbers")
    ] = None,
    positive_controls: Annotated[str | None, typer.Option(help="The same, for Z'.", rich_help_panel="Numbers")] = None,
    max_artifact_fraction: Annotated[
        float | None,
        typer.Option(help="Fields with more artifact are rejected \\[default: 0.5].", rich_help_panel="Numbers"),
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Find the artifacts of plates, mask them, and measure fields and wells."""
    from artifact_mask.config import RunConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.run import run as work
    from artmask.results import carry_out

    given = {
        "plates": plates,
        "channel": channel,
        "model": model,
        "threshold": threshold,
        "min_object_px": min_object_px,
        "reach_um": reach_um,
        "illumination": illumination,
        "fill": fill,
        "stain_threshold": stain_threshold,
        "stain_scope": stain_scope,
        "negative_controls": negative_controls,
        "positive_controls": positive_controls,
        "max_artifact_fraction": max_artifact_fraction,
        "cluster": cluster,
    }
    carry_out(work, load_config(RunConfig, config, given), as_json=as_json, dry_run=dry_run)


@takes_cluster
def stain(
    plates: Plates,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Write labels/stain: the stained pixels outside of artifacts, as the tables of `run` count them."""
    from artifact_mask.config import StainConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.stain import label_stain as work
    from artmask.results import carry_out

    carry_out(
        work, load_config(StainConfig, config, {"plates": plates, "cluster": cluster}), as_json=as_json, dry_run=dry_run
    )

"""The command that finds artifacts, masks and measures."""

from typing import Annotated

import typer

from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import Channel, ConfigFile, Plates, UseIllumination


@takes_cluster
def run(
    plates: Plates,
    channel: Channel = None,
    model: Annotated[str | None, typer.Option(help="Model file, or weak or supervised for one of artmask.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel is an artifact.")] = None,
    min_object_px: Annotated[int | None, typer.Option(help="Objects of fewer pixels are dropped.")] = None,
    reach_um: Annotated[float | None, typer.Option(help="How far objects grow over dark pixels.")] = None,
    illumination: UseIllumination = None,
    fill: Annotated[
        str | None, typer.Option(help="Artifact pixels become: median, background, inpaint, nan \\[default: median].")
    ] = None,
    stain_threshold: Annotated[
        str | None, typer.Option(help="Optical density, or otsu, triangle, controls \\[default: 0.08].")
    ] = None,
    stain_scope: Annotated[str | None, typer.Option(help="One a plate, or a field \\[default: plate].")] = None,
    negative_controls: Annotated[str | None, typer.Option(help="Wells, or such as Compound=DMSO.")] = None,
    positive_controls: Annotated[str | None, typer.Option(help="The same, for Z'.")] = None,
    max_artifact_fraction: Annotated[
        float | None, typer.Option(help="Fields with more artifact are rejected \\[default: 0.5].")
    ] = None,
    config: ConfigFile = None,
    *,
    cluster: ClusterOptions,
) -> None:
    """Find the artifacts of plates, mask them, and measure fields and wells."""
    from artifact_mask.config import RunConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.run import run as work
    from artmask.console import ConsoleProgress, print_summary

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
    settings = load_config(RunConfig, config, given)
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary))


@takes_cluster
def stain(
    plates: Plates,
    config: ConfigFile = None,
    *,
    cluster: ClusterOptions,
) -> None:
    """Write labels/stain: the stained pixels outside of artifacts, as the tables of `run` count them."""
    from artifact_mask.config import StainConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.stain import label_stain as work
    from artmask.console import ConsoleProgress, print_summary

    settings = load_config(StainConfig, config, {"plates": plates, "cluster": cluster})
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary))

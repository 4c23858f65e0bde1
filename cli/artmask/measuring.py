"""The command that measures single cells."""

from typing import Annotated

import typer

from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import ConfigFile, Plates


@takes_cluster
def cells(
    plates: Plates,
    nuclear_channel: Annotated[
        str | None, typer.Option(help="Channel that shows nuclei \\[default: DAPI or Hoechst].")
    ] = None,
    nuclei: Annotated[str | None, typer.Option(help="Label image of nuclei to take, such as Cellpose's.")] = None,
    own_cells: Annotated[str | None, typer.Option("--cells", help="Label image of whole cells to take.")] = None,
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 0 \\[default: the middle].")] = None,
    min_nucleus_um2: Annotated[float | None, typer.Option(help="Smallest nucleus \\[default: 25].")] = None,
    max_nucleus_um2: Annotated[float | None, typer.Option(help="Largest nucleus \\[default: 2000].")] = None,
    cell_reach_um: Annotated[float | None, typer.Option(help="From nucleus to cell's edge \\[default: 9].")] = None,
    max_artifact_fraction: Annotated[
        float | None, typer.Option(help="Cells with more artifact are excluded \\[default: 0.5].")
    ] = None,
    negative_controls: Annotated[
        str | None, typer.Option(help="Wells, or such as Compound=DMSO \\[default: those of `run`].")
    ] = None,
    senescence_threshold: Annotated[float | None, typer.Option(help="Optical density, instead of controls.")] = None,
    senescence_percentile: Annotated[float | None, typer.Option(help="Of the controls' cells \\[default: 95].")] = None,
    config: ConfigFile = None,
    *,
    cluster: ClusterOptions,
) -> None:
    """Find nuclei and cells, and measure the stain of each; after `artmask run`."""
    from artifact_mask.config import CellsConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.cells import measure_cells as work
    from artmask.console import ConsoleProgress, print_summary

    given = {
        "plates": plates,
        "nuclear_channel": nuclear_channel,
        "nuclei": nuclei,
        "cells": own_cells,
        "plane": plane,
        "min_nucleus_um2": min_nucleus_um2,
        "max_nucleus_um2": max_nucleus_um2,
        "cell_reach_um": cell_reach_um,
        "max_artifact_fraction": max_artifact_fraction,
        "negative_controls": negative_controls,
        "senescence_threshold": senescence_threshold,
        "senescence_percentile": senescence_percentile,
        "cluster": cluster,
    }
    settings = load_config(CellsConfig, config, given)
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary))

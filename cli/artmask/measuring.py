"""The command that measures single cells."""

from typing import Annotated

import typer

from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import AsJson, ConfigFile, DryRun, Plates


@takes_cluster
def cells(
    plates: Plates,
    nuclear_channel: Annotated[
        str | None,
        typer.Option(
            help="Channel that shows nuclei \\[default: DAPI or Hoechst].", rich_help_panel="Nuclei and cells"
        ),
    ] = None,
    nuclei: Annotated[
        str | None,
        typer.Option(help="Label image of nuclei to take, such as Cellpose's.", rich_help_panel="Nuclei and cells"),
    ] = None,
    own_cells: Annotated[
        str | None,
        typer.Option("--cells", help="Label image of whole cells to take.", rich_help_panel="Nuclei and cells"),
    ] = None,
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 0 \\[default: the middle].")] = None,
    min_nucleus_um2: Annotated[
        float | None, typer.Option(help="Smallest nucleus \\[default: 25].", rich_help_panel="Nuclei and cells")
    ] = None,
    max_nucleus_um2: Annotated[
        float | None, typer.Option(help="Largest nucleus \\[default: 2000].", rich_help_panel="Nuclei and cells")
    ] = None,
    cell_reach_um: Annotated[
        float | None,
        typer.Option(help="From nucleus to cell's edge \\[default: 9].", rich_help_panel="Nuclei and cells"),
    ] = None,
    max_artifact_fraction: Annotated[
        float | None, typer.Option(help="Cells with more artifact are excluded \\[default: 0.5].")
    ] = None,
    negative_controls: Annotated[
        str | None,
        typer.Option(help="Wells, or such as Compound=DMSO \\[default: those of `run`].", rich_help_panel="Senescence"),
    ] = None,
    senescence_threshold: Annotated[
        float | None, typer.Option(help="Optical density, instead of controls.", rich_help_panel="Senescence")
    ] = None,
    senescence_percentile: Annotated[
        float | None, typer.Option(help="Of the controls' cells \\[default: 95].", rich_help_panel="Senescence")
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Find nuclei and cells, and measure the stain of each; after `artmask run`."""
    from artifact_mask.config import CellsConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.cells import measure_cells as work
    from artmask.results import carry_out

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
    carry_out(work, load_config(CellsConfig, config, given), as_json=as_json, dry_run=dry_run)

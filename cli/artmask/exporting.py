"""The command for other programs."""

from typing import Annotated

import typer

from artmask.choices import EXPORT_FORMATS, FILLS, ILLUMINATION_USES, LABELS, one_of
from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.shared_options import AsJson, ConfigFile, DryRun, Plates


@takes_cluster
def export(
    plates: Plates,
    dest: Annotated[str, typer.Argument(help="Folder to write into; each plate gets one in it.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="cellprofiler, ome-tiff, zarr, geojson or tables \\[default: cellprofiler].",
            autocompletion=one_of(EXPORT_FORMATS),
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Label image that masks \\[default: artifacts].", autocompletion=one_of(LABELS))
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            help="Artifact pixels become: median, background, inpaint, nan; as in `run`.", autocompletion=one_of(FILLS)
        ),
    ] = None,
    unmasked: Annotated[bool | None, typer.Option("--unmasked", help="Leave the images as they are.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Channel, may be repeated \\[default: all].")] = None,
    wells: Annotated[str | None, typer.Option(help="Wells, such as B02,B03 \\[default: all].")] = None,
    fields: Annotated[
        str | None, typer.Option(help="The microscope's numbers of fields, such as 1,2 \\[default: all].")
    ] = None,
    illumination: Annotated[
        str | None,
        typer.Option(
            help="Flat field of `artmask illumination`: stored or none \\[default: as in `run`].",
            autocompletion=one_of(ILLUMINATION_USES),
        ),
    ] = None,
    image_base: Annotated[
        str | None, typer.Option(help="DEST as CellProfiler's machine calls it, for absolute paths in load_data.csv.")
    ] = None,
    anndata: Annotated[bool | None, typer.Option("--anndata", help="Tables as AnnData, too.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Write masked images and masks for CellProfiler, Fiji or QuPath, a masked plate, or the tables of many plates."""
    from artifact_mask.config import ExportConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.export import export as work
    from artmask.results import carry_out

    given = {
        "plates": plates,
        "dest": dest,
        "format": form,
        "label": label,
        "fill": fill,
        "unmasked": unmasked,
        "channels": channel or None,
        "wells": wells,
        "fields": fields,
        "illumination": illumination,
        "image_base": image_base,
        "anndata": anndata,
        "cluster": cluster,
    }
    carry_out(work, load_config(ExportConfig, config, given), as_json=as_json, dry_run=dry_run)

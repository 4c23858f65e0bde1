"""The commands: options to a configuration, a workflow, an exit code.

Heavy packages are imported inside the commands, so that `artmask --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from artmask import correcting, evaluation, exporting, illuminating, learning, measuring, running
from artmask.cluster_options import ClusterOptions, parse_pairs, takes_cluster
from artmask.shared_options import ConfigFile, Plates

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 done but some fields failed, 130 interrupted.",
)

DEMO_COLUMNS = ["well", "n_fields", "n_artifacts", "artifact_fraction", "stained_fraction_raw", "stained_fraction"]


app.add_typer(learning.train, name="train")


def _print_version(wanted: bool) -> None:
    if wanted:
        from artifact_mask import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find and mask imaging artifacts in high-content screening plates."""


@app.command()
def simulate(
    dest: Annotated[Path, typer.Argument(help="Folder for the campaign; one folder a plate is made in it.")],
    plates: Annotated[int | None, typer.Option(help="Number of plates \\[default: 1].")] = None,
    wells: Annotated[int | None, typer.Option(help="Wells per plate \\[default: 6].")] = None,
    fields: Annotated[int | None, typer.Option(help="Fields of view per well \\[default: 4].")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a field in pixels \\[default: 1080].")] = None,
    channels: Annotated[int | None, typer.Option(help="Channels; the first is brightfield \\[default: 1].")] = None,
    planes: Annotated[int | None, typer.Option(help="Planes of a stack \\[default: 1].")] = None,
    timepoints: Annotated[int | None, typer.Option(help="Times that each field is taken \\[default: 1].")] = None,
    measurements: Annotated[int | None, typer.Option(help="Measurements of each plate \\[default: 1].")] = None,
    harmony: Annotated[
        str | None, typer.Option(help="Whose export to imitate: v4, v5, v6, v7 or columbus \\[default: v5].")
    ] = None,
    shading: Annotated[
        str | None, typer.Option(help="Brightfield shading of each field, or of the plate \\[default: field].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same bytes \\[default: 0].")] = None,
    config: ConfigFile = None,
) -> None:
    """Write a made-up campaign as the microscope would, with its ground truth."""
    from artifact_mask.config import SimulateConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.simulate import simulate as work
    from artmask.console import ConsoleProgress, print_file

    given = {
        "dest": dest,
        "plates": plates,
        "wells": wells,
        "fields": fields,
        "size": size,
        "channels": channels,
        "planes": planes,
        "timepoints": timepoints,
        "measurements": measurements,
        "harmony": harmony,
        "shading": shading,
        "seed": seed,
    }
    settings = load_config(SimulateConfig, config, given)
    with ConsoleProgress() as progress:
        folders = work(settings, progress)
    for folder in folders:
        print_file("measurement", folder)


@app.command()
@takes_cluster
def ingest(
    exports: Annotated[
        list[str], typer.Argument(help="Folders that Harmony exported, or folders of such folders; or TIFFs only.")
    ],
    dest: Annotated[
        str, typer.Argument(help="Plate to write (plate1.zarr, s3://bucket/plate1.zarr), or a folder for many plates.")
    ],
    pixel_size_um: Annotated[float | None, typer.Option(help="Pixel size; needed where there is no index.")] = None,
    channel_name: Annotated[
        list[str] | None, typer.Option(help="Name a channel, such as 1=Brightfield. May be given several times.")
    ] = None,
    flatfield: Annotated[
        str | None, typer.Option(help="`harmony` divides by the flat field that Harmony found \\[default: none].")
    ] = None,
    ngff: Annotated[str | None, typer.Option(help="Version of OME-Zarr, 0.5 or 0.4 \\[default: 0.5].")] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Missing or damaged images are an error.")] = None,
    config: ConfigFile = None,
    *,
    cluster: ClusterOptions,
) -> None:
    """Write exports of Harmony as OME-Zarr plates, a store for each plate."""
    from artifact_mask.config import IngestConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.ingest import ingest as work
    from artmask.console import ConsoleProgress, print_summary

    given = {
        "exports": exports,
        "dest": dest,
        "pixel_size_um": pixel_size_um,
        "channel_names": _parse_channel_names(channel_name),
        "flatfield": flatfield,
        "ngff": ngff,
        "strict": strict,
        "cluster": cluster,
    }
    settings = load_config(IngestConfig, config, given)
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary))


@app.command()
def info(plate: Annotated[str, typer.Argument(help="Plate that `artmask ingest` wrote.")]) -> None:
    """Show what is on a plate: acquisitions, channels, wells, layout, and how far the work is."""
    from artifact_mask.io.illumination_profiles import read_description
    from artifact_mask.io.ome_zarr_plate import read_plate
    from artifact_mask.location import to_location
    from artifact_mask.workflows.status import read_status
    from artmask.plate_info import print_plate

    place = to_location(plate)
    stored = read_plate(place)
    flat_fields = read_description(place, stored.ingest_digest).get("channels", ())
    print_plate(place, stored, read_status([place]), flat_fields)


app.command()(learning.label_sheet)
app.command()(learning.label)
app.command()(learning.explain)
app.command()(evaluation.evaluate)


app.command()(illuminating.illumination)
app.command()(running.run)
app.command()(running.stain)
app.command()(measuring.cells)
app.command()(correcting.correct)
app.command()(exporting.export)


@app.command()
def status(
    plates: Plates,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what is done, running, failed and left, from the records alone."""
    from artifact_mask.location import to_location
    from artifact_mask.workflows.status import read_status
    from artmask.console import print_status

    print_status(read_status([to_location(plate) for plate in plates]), as_json=as_json)


@app.command()
@takes_cluster
def verify(
    plates: Plates,
    config: ConfigFile = None,
    *,
    cluster: ClusterOptions,
) -> None:
    """Read every file again and compare it with its record; what is damaged will be redone."""
    from artifact_mask.config import VerifyConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.verify import verify as work
    from artmask.console import ConsoleProgress, print_summary

    settings = load_config(VerifyConfig, config, {"plates": plates, "cluster": cluster})
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put everything.")] = Path("artmask-demo"),
) -> None:
    """Simulate a plate, ingest it, run on it, and show the result."""
    from artifact_mask.workflows.demo import demo as work
    from artmask.console import ConsoleProgress, print_file, print_summary, print_table

    with ConsoleProgress() as progress:
        result = work(folder, progress)
    print_table(result.wells[DEMO_COLUMNS])
    code = print_summary(result.summary)
    print_file("Look at", result.picture)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line; every foreseen error ends in one message and the exit code of the design."""
    from artifact_mask.errors import ArtmaskError, ConfigError

    try:
        app()
    except ArtmaskError as error:
        _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        # Files that cannot be written are the user's to mend, not a bug to trace.
        _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        from artifact_mask.engine.retry import may_pass

        if not may_pass(error):
            raise
        _fail(f"The store cannot be reached: {error}. What was finished is kept; run the same command again.", 1)


def _fail(message: str, code: int) -> None:
    from artmask.console import print_error

    print_error(message)
    sys.exit(code)


def _parse_channel_names(given: list[str] | None) -> dict[int, str] | None:
    names = parse_pairs(given, "--channel-name", "1=Brightfield") or {}
    wrong = [number for number in names if not number.isdigit()]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not a channel number", param_hint="--channel-name")
    return {int(number): name for number, name in names.items()} or None

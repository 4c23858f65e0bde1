"""The commands: options to a configuration, a workflow, an exit code.

Heavy packages are imported inside the commands, so that `artmask --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from artmask import correcting, evaluation, exporting, illuminating, learning, measuring, reporting, running, viewing
from artmask.choices import FLAT_FIELDS, HARMONIES, NGFF_VERSIONS, SHADINGS, one_of
from artmask.cluster_options import ClusterOptions, parse_pairs, takes_cluster
from artmask.examples import show_examples
from artmask.shared_options import AsJson, ConfigFile, DryRun, Plates

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="`artmask COMMAND --help` has examples. Exit codes: 0 done, 1 error, 2 wrong usage, 3 done but some fields "
    "failed, 130 interrupted.",
)

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""
_UsageError: Any = typer.BadParameter.__mro__[1]
"""Base of Typer's errors about unknown commands, options and values, which it has under no name of its own."""

DEMO_COLUMNS = ["well", "n_fields", "n_artifacts", "artifact_fraction", "stained_fraction_raw", "stained_fraction"]


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
        str | None,
        typer.Option(
            help="Whose export to imitate: v4, v5, v6, v7 or columbus \\[default: v5].",
            autocompletion=one_of(HARMONIES),
        ),
    ] = None,
    shading: Annotated[
        str | None,
        typer.Option(
            help="Brightfield shading of each field, or of the plate \\[default: field].",
            autocompletion=one_of(SHADINGS),
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same bytes \\[default: 0].")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a made-up campaign as the microscope would, with its ground truth."""
    from artifact_mask.config import SimulateConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.simulate import simulate as work
    from artmask.console import ConsoleProgress
    from artmask.results import print_files

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
    print_files("measurement", folders, as_json=as_json)


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
        str | None,
        typer.Option(
            help="`harmony` divides by the flat field that Harmony found \\[default: none].",
            autocompletion=one_of(FLAT_FIELDS),
        ),
    ] = None,
    ngff: Annotated[
        str | None,
        typer.Option(help="Version of OME-Zarr, 0.5 or 0.4 \\[default: 0.5].", autocompletion=one_of(NGFF_VERSIONS)),
    ] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Missing or damaged images are an error.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Write exports of Harmony as OME-Zarr plates, a store for each plate."""
    from artifact_mask.config import IngestConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.ingest import ingest as work
    from artmask.results import carry_out

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
    carry_out(work, load_config(IngestConfig, config, given), as_json=as_json, dry_run=dry_run)


def info(
    plate: Annotated[str, typer.Argument(help="Plate that `artmask ingest` wrote.")], as_json: AsJson = False
) -> None:
    """Show what is on a plate: acquisitions, channels, wells, layout, and how far the work is."""
    from artifact_mask.io.illumination_profiles import read_description
    from artifact_mask.io.ome_zarr_plate import read_plate
    from artifact_mask.location import to_location
    from artifact_mask.workflows.status import read_status
    from artmask.plate_info import describe_plate, print_plate

    place = to_location(plate)
    stored = read_plate(place)
    flat_fields = read_description(place, stored.ingest_digest).get("channels", ())
    describe = describe_plate if as_json else print_plate
    describe(place, stored, read_status([place]), flat_fields)


def status(
    plates: Plates,
    as_json: AsJson = False,
) -> None:
    """Show what is done, running, failed and left, from the records alone."""
    from artifact_mask.location import to_location
    from artifact_mask.workflows.status import read_status
    from artmask.results import print_status

    print_status(read_status([to_location(plate) for plate in plates]), as_json=as_json)


@takes_cluster
def verify(
    plates: Plates,
    config: ConfigFile = None,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Read every file again and compare it with its record; what is damaged will be redone."""
    from artifact_mask.config import VerifyConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.verify import verify as work
    from artmask.results import carry_out

    carry_out(work, load_config(VerifyConfig, config, {"plates": plates, "cluster": cluster}), as_json=as_json)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put everything.")] = Path("artmask-demo"),
) -> None:
    """Simulate a plate, ingest it, run on it, and show the result."""
    from artifact_mask.workflows.demo import demo as work
    from artmask.console import ConsoleProgress
    from artmask.results import print_file, print_summary, print_table

    with ConsoleProgress() as progress:
        result = work(folder, progress)
    print_table(result.wells[DEMO_COLUMNS])
    code = print_summary(result.summary)
    print_file("Look at", result.picture)
    raise typer.Exit(code)


_PANELS = {
    "Begin here": (demo, simulate, ingest, info),
    "Find, mask and measure": (
        illuminating.illumination,
        running.run,
        running.stain,
        measuring.cells,
        exporting.export,
    ),
    "Look": (reporting.report, viewing.view),
    "Teach it your own artifacts": (
        learning.label_sheet,
        learning.label,
        learning.explain,
        correcting.correct,
        evaluation.evaluate,
    ),
    "Keep watch": (status, verify),
}
"""The commands in the order of their use, as `artmask --help` shows them."""

for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _name = _command.__name__.replace("_", "-")
        app.command(_name, rich_help_panel=_panel, epilog=show_examples(_name))(_command)
app.add_typer(learning.train, name="train", rich_help_panel="Teach it your own artifacts")


def main() -> None:
    """Run the command line; every foreseen error ends in one message and the exit code of the design."""
    from artifact_mask.errors import ArtmaskError, ConfigError

    # Typer frames wrong usage for people; a script gets it as it gets all errors.
    frames = "--json" not in sys.argv
    try:
        code = app(prog_name="artmask", standalone_mode=frames) or 0
        if code == INTERRUPTED:
            _fail("Interrupted. What was finished is kept; the same command goes on from there.", "Interrupted", code)
        sys.exit(code)
    except _UsageError as error:
        _fail(error.format_message(), "UsageError", 2)
    except ArtmaskError as error:
        _fail(str(error), type(error).__name__, 2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        # Files that cannot be written are the user's to mend, not a bug to trace.
        _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error), "OSError", 1)
    except Exception as error:
        from artifact_mask.engine.retry import may_pass

        if not may_pass(error):
            raise
        message = f"The store cannot be reached: {error}. What was finished is kept; run the same command again."
        _fail(message, "StorageError", 1)


def _fail(message: str, kind: str, code: int) -> None:
    from artmask.results import print_error

    print_error(message, kind, code, as_json="--json" in sys.argv)
    sys.exit(code)


def _parse_channel_names(given: list[str] | None) -> dict[int, str] | None:
    names = parse_pairs(given, "--channel-name", "1=Brightfield") or {}
    wrong = [number for number in names if not number.isdigit()]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not a channel number", param_hint="--channel-name")
    return {int(number): name for number, name in names.items()} or None

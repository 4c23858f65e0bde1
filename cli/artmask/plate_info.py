"""What `artmask info` shows: a plate in a screenful."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from artifact_mask.metadata import Acquisition, Plate, Well, row_name
from artmask.results import open_console, print_json

if TYPE_CHECKING:
    from artifact_mask.io.ome_zarr_plate import StoredPlate
    from artifact_mask.location import Location
    from artifact_mask.workflows.status import StageStatus

MAX_VALUES_SHOWN = 6


def print_plate(
    place: "Location",
    stored: "StoredPlate",
    statuses: "Sequence[StageStatus]",
    flat_fields: Sequence[Mapping[str, Any]],
) -> None:
    """Print what is on a plate, which flat fields are stored in it, and how far the work on it is."""
    plate = stored.plate
    console = open_console()
    barcode = f", barcode {plate.barcode}" if plate.barcode and plate.barcode != plate.name else ""
    size = f"{plate.n_rows * plate.n_columns} wells ({plate.n_rows} x {plate.n_columns})"
    console.print(f"[bold]{escape(plate.name)}[/bold]{escape(barcode)}: {size}, OME-Zarr {stored.ngff}", soft_wrap=True)
    console.print(escape(str(place)), soft_wrap=True)
    for number, acquisition in enumerate(plate.acquisitions):
        _print_acquisition(console, number, acquisition)
        names = ", ".join(f"{e['name']} ({e['method']})" for e in flat_fields if e["acquisition"] == number)
        if names:
            console.print(f"  divided when read, by stored flat fields: {escape(names)}", soft_wrap=True)
    _print_map(console, plate)
    for layer, values in _layers(plate.wells).items():
        shown = ", ".join(values[:MAX_VALUES_SHOWN])
        more = f", ... ({len(values)} values)" if len(values) > MAX_VALUES_SHOWN else ""
        console.print(f"[bold]{escape(layer)}:[/bold] {escape(shown)}{more}", soft_wrap=True)
    for status in statuses:
        state = f"{status.n_done}/{status.n_fields} fields done, {status.n_failed} failed"
        running = f"; running: {status.running}" if status.running else ""
        console.print(f"[bold]{status.stage}:[/bold] {state}{escape(running)}", soft_wrap=True)


def describe_plate(
    place: "Location",
    stored: "StoredPlate",
    statuses: "Sequence[StageStatus]",
    flat_fields: Sequence[Mapping[str, Any]],
) -> None:
    """Print the same as JSON."""
    document = asdict(stored.plate) | {"url": place, "ngff": stored.ngff, "exit_code": 0}
    print_json(document | {"stages": [asdict(status) for status in statuses], "illumination": list(flat_fields)})


def _print_acquisition(console: Console, number: int, acquisition: Acquisition) -> None:
    t, _, z, y, x = acquisition.shape
    taken = f", taken {acquisition.started}" if acquisition.started else ""
    console.print(f"\n[bold]acquisition {number}[/bold]{escape(taken)}", soft_wrap=True)
    per_well = sorted({len(well.fields) for well in acquisition.wells})
    fields = f"{per_well[0]}" if len(per_well) == 1 else f"{per_well[0]} to {per_well[-1]}"
    wells = "1 well" if len(acquisition.wells) == 1 else f"{len(acquisition.wells)} wells"
    n_bytes = len(acquisition.field_keys) * acquisition.n_planes * acquisition.plane_bytes
    console.print(f"  {wells}, fields of view in each: {fields}; {n_bytes / 1e9:.2f} GB of pixels")
    planes = f", {z} planes, {acquisition.z_step_um:.4g} um apart" if z > 1 else ""
    times = f", {t} timepoints, {acquisition.t_step_s:.4g} s apart" if t > 1 else ""
    console.print(f"  {y} x {x} pixels of {acquisition.pixel_size_um:.4g} um{planes}{times}{_objective(acquisition)}")
    if acquisition.flat_field != "none":
        console.print(f"  divided by the flat field of {acquisition.flat_field}")
    table = Table(box=None, header_style="bold", pad_edge=True)
    for header in ("id", "channel", "kind", "ex.", "em.", "exposure", "bin.", "flat field"):
        table.add_column(header, no_wrap=True)
    for channel in acquisition.channels:
        profile = acquisition.flat_field_profiles.get(str(channel.channel_id), {}).get("Background", {})
        table.add_row(
            str(channel.channel_id),
            escape(channel.name),
            channel.kind,
            _quantity(channel.excitation_nm, "nm"),
            _quantity(channel.emission_nm, "nm"),
            _quantity(channel.exposure_s and channel.exposure_s * 1e3, "ms"),
            _quantity(channel.binning, ""),
            escape(str(profile.get("Character", "-"))) if isinstance(profile, dict) else "-",
        )
    console.print(table)


def _print_map(console: Console, plate: Plate) -> None:
    """Draw which wells have how many fields, if the screen is wide enough."""
    if plate.n_columns * 3 + 3 > console.width:
        return
    n_fields = {(well.row, well.column): len(well.fields) for well in plate.wells}
    console.print("\n[bold]fields of view[/bold]")
    console.print("  " + "".join(f"{column:3}" for column in range(1, plate.n_columns + 1)))
    for row in range(1, plate.n_rows + 1):
        counts = (n_fields.get((row, column)) for column in range(1, plate.n_columns + 1))
        console.print(f"{row_name(row):2}" + "".join(f"{count:3}" if count else "  ." for count in counts))
    console.print()


def _layers(wells: Iterable[Well]) -> dict[str, list[str]]:
    """Values of each layer of the assay layout, each once."""
    layers: dict[str, dict[str, None]] = {}
    for well in wells:
        for layer, value in well.layout.items():
            layers.setdefault(layer, {})[f"{value:g}" if isinstance(value, float) else value] = None
    return {layer: list(values) for layer, values in layers.items()}


def _objective(acquisition: Acquisition) -> str:
    if acquisition.magnification is None:
        return ""
    aperture = f", NA {acquisition.numerical_aperture:g}" if acquisition.numerical_aperture else ""
    return f", {acquisition.magnification:g}x{aperture}"


def _quantity(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}".strip()

"""Plates and wells of an OME-Zarr store (NGFF 0.5): what it contains, in metadata alone."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from yaozarrs import v05

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.zarr_group import read_attributes, write_group
from artifact_mask.location import Location, require_reachable
from artifact_mask.metadata import Acquisition, Channel, Field, Plate, Well, row_name

_READ_THREADS = 8
"""A network disk or an object store answers many questions in the time of one."""


@dataclass(frozen=True)
class StoredPlate:
    """A plate store's description.

    Attributes
    ----------
    plate
        What it contains.
    ingest_digest
        Digest of the ingest that wrote it.
    """

    plate: Plate
    ingest_digest: str


def create_plate(files: StagedFiles, root: Location, plate: Plate, *, ingest_digest: str) -> None:
    """Write the metadata of the plate and of its wells; the fields' own is written with their pixels."""
    rows = sorted({well.row for well in plate.wells})
    columns = sorted({well.column for well in plate.wells})
    definition = v05.PlateDef(
        name=plate.name,
        rows=[v05.Row(name=row_name(row)) for row in rows],
        columns=[v05.Column(name=str(column)) for column in columns],
        wells=[
            v05.PlateWell(path=well.path, rowIndex=rows.index(well.row), columnIndex=columns.index(well.column))
            for well in plate.wells
        ],
        acquisitions=[_describe_acquisition(number, acq, plate.name) for number, acq in enumerate(plate.acquisitions)],
        field_count=max(len(well.fields) for well in plate.wells),
    )
    description = {
        "ingest_digest": ingest_digest,
        "barcode": plate.barcode,
        "n_rows": plate.n_rows,
        "n_columns": plate.n_columns,
        "n_fields": plate.n_fields,
        "acquisitions": [
            {key: value for key, value in asdict(replace(acquisition, wells=())).items() if key != "wells"}
            for acquisition in plate.acquisitions
        ],
    }
    # First, so that an interrupted ingest is known as the same plate's.
    ome = _versioned("plate", v05.Plate(plate=definition))
    write_group(files, root, {"ome": ome, "artmask": description}, stamped=False)
    for row in rows:
        write_group(files, root / row_name(row), {}, stamped=False)
    for well in plate.wells:
        fields: list[dict[str, Any]] = [
            {"path": str(f.index), "acquisition": plate.acquisition_of[well.path, f.index]}
            | {key: value for key, value in asdict(f).items() if key != "index"}
            for f in well.fields
        ]
        images = [v05.FieldOfView(path=f["path"], acquisition=f["acquisition"]) for f in fields]
        ome = _versioned("well", v05.Well(well=v05.WellDef(images=images)))
        of_well = {"layout": dict(well.layout), "fields": fields}
        write_group(files, root / well.path, {"ome": ome, "artmask": of_well}, stamped=False)


def _describe_acquisition(number: int, acquisition: Acquisition, plate: str) -> v05.Acquisition:
    return v05.Acquisition(
        id=number,
        name=f"{plate} {acquisition.started}".strip(),
        description=f"Measurement {acquisition.measurement_id}",
        maximumfieldcount=max(len(well.fields) for well in acquisition.wells),
        starttime=_unix_seconds(acquisition.started),
    )


def _unix_seconds(time: str) -> int | None:
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return None


def read_plate(root: Location) -> StoredPlate:
    """Read what a plate store contains, from its metadata alone.

    Raises
    ------
    PlateError
        If there is no store, or it is not a plate that artmask wrote.
    """
    attributes = read_attributes(root)
    if not attributes and not root.is_dir():
        raise PlateError(f"{root} does not exist. Give a plate that `artmask ingest` wrote.")
    description = attributes.get("artmask")
    if not description or "plate" not in attributes.get("ome", {}):
        raise PlateError(f"{root} is not a plate that artmask wrote. Run `artmask ingest EXPORT {root.name}` first.")
    paths = [entry["path"] for entry in attributes["ome"]["plate"]["wells"]]
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        attributes_of_wells = list(pool.map(read_attributes, [root / path for path in paths]))
    wells: list[list[Well]] = [[] for _ in description["acquisitions"]]
    for path, of_group in zip(paths, attributes_of_wells, strict=True):
        of_well = of_group.get("artmask")
        if of_well is None:
            raise PlateError(f"{root} is not complete: {path} has no metadata. Run `artmask ingest` again.")
        row, column = path.split("/")
        for number, of_acquisition in enumerate(wells):
            fields = tuple(_read_field(entry) for entry in of_well["fields"] if entry["acquisition"] == number)
            if fields:
                of_acquisition.append(Well(_row_number(row), int(column), fields, of_well["layout"]))
    plate = Plate(
        name=attributes["ome"]["plate"]["name"],
        barcode=description["barcode"],
        n_rows=description["n_rows"],
        n_columns=description["n_columns"],
        acquisitions=tuple(map(_read_acquisition, description["acquisitions"], wells)),
    )
    return StoredPlate(plate, description["ingest_digest"])


def _read_field(entry: Mapping[str, Any]) -> Field:
    values = {key: value for key, value in entry.items() if key not in ("path", "acquisition")}
    return Field(index=int(entry["path"]), **values | {"times_s": tuple(entry["times_s"])})


def _read_acquisition(description: Mapping[str, Any], wells: Sequence[Well]) -> Acquisition:
    t, c, z, y, x = description["shape"]
    channels = tuple(Channel(**channel) for channel in description["channels"])
    return Acquisition(**{**description, "shape": (t, c, z, y, x), "channels": channels, "wells": tuple(wells)})


def read_identity(root: Location) -> tuple[str, list[str]]:
    """Name and measurements of the plate that a store holds, even if its ingest was interrupted at once.

    Raises
    ------
    PlateError
        If it is something else than a plate that artmask wrote.
    """
    attributes = read_attributes(root)
    try:
        acquisitions = attributes["artmask"]["acquisitions"]
        return attributes["ome"]["plate"]["name"], [acquisition["measurement_id"] for acquisition in acquisitions]
    except (KeyError, TypeError) as error:
        raise PlateError(
            f"{root} exists and is not a plate that artmask wrote; it is left as it is. Choose another name."
        ) from error


def find_plates(places: Iterable[Location]) -> dict[Location, int]:
    """Find plates that artmask wrote, and how many fields each has.

    Parameters
    ----------
    places
        Plates, or folders of plates, whose names end in ``.zarr``.

    Raises
    ------
    PlateError
        If a place is neither, or a plate is given twice.
    StorageError
        If a store cannot be reached.
    """
    found: dict[Location, int] = {}
    for place in places:
        require_reachable(place)
        plates = {place: n} if (n := _count_fields(place)) is not None else _plates_in(place)
        if not plates:
            raise PlateError(
                f"{place} is neither a plate that artmask wrote nor a folder of such plates (*.zarr)."
                if place.exists()
                else f"{place} does not exist. Give a plate that `artmask ingest` wrote, or a folder of such plates."
            )
        twice = [str(plate) for plate in plates if plate in found]
        if twice:
            raise PlateError(f"{twice[0]} is given twice. Name each plate once.")
        found |= plates
    return found


def _plates_in(folder: Location) -> dict[Location, int]:
    if not folder.is_dir():
        return {}
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".zarr"))
    counted = {folder / name: _count_fields(folder / name) for name in names}
    return {path: n for path, n in counted.items() if n is not None}


def _count_fields(root: Location) -> int | None:
    """Fields of a plate by its own metadata alone; None if it is none of ours."""
    n_fields: int | None = read_attributes(root).get("artmask", {}).get("n_fields")
    return n_fields


def _row_number(name: str) -> int:
    number = 0
    for letter in name:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _versioned(key: str, model: v05.Plate | v05.Well) -> dict[str, Any]:
    """Dump a model with the version in the inner object too, where NGFF 0.4 had it: some readers warn without it."""
    ome: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    ome[key]["version"] = model.version
    return ome

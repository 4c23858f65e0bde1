"""Plates and wells of an OME-Zarr store: what it contains, in metadata alone."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel

from artifact_mask.errors import PlateError, did_you_mean
from artifact_mask.io.campaign_file import CAMPAIGN_FILE, list_plates
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.io.zarr_group import dump, read_group, write_group
from artifact_mask.location import Location, list_folders, require_reachable
from artifact_mask.metadata import Acquisition, Channel, Field, NgffVersion, Plate, Well, row_name, seconds_since_1970

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
    ngff
        Version of NGFF that it is written in.
    """

    plate: Plate
    ingest_digest: str
    ngff: NgffVersion


def create_plate(
    files: StagedFiles, root: Location, plate: Plate, *, ingest_digest: str, ngff: NgffVersion = "0.5"
) -> None:
    """Write the metadata of the plate and of its wells; the fields' own is written with their pixels.

    Raises
    ------
    PlateError
        If the store is there in another version of NGFF.
    """
    layout, models = LAYOUTS[ngff], LAYOUTS[ngff].models
    require_version(root, ngff)
    rows = sorted({well.row for well in plate.wells})
    columns = sorted({well.column for well in plate.wells})
    definition = models.PlateDef(
        name=plate.name,
        rows=[models.Row(name=row_name(row)) for row in rows],
        columns=[models.Column(name=str(column)) for column in columns],
        wells=[
            models.PlateWell(path=well.path, rowIndex=rows.index(well.row), columnIndex=columns.index(well.column))
            for well in plate.wells
        ],
        acquisitions=[
            _describe_acquisition(layout, number, acquisition, plate.name)
            for number, acquisition in enumerate(plate.acquisitions)
        ],
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
    ome = _versioned(layout, "plate", models.Plate(plate=definition))
    write_group(files, root, layout, ome, {"artmask": description}, stamped=False)
    for row in rows:
        write_group(files, root / row_name(row), layout, {}, {}, stamped=False)
    for well in plate.wells:
        fields: list[dict[str, Any]] = [
            {"path": str(f.index), "acquisition": plate.acquisition_of[well.path, f.index]}
            | {key: value for key, value in asdict(f).items() if key != "index"}
            for f in well.fields
        ]
        images = [models.FieldOfView(path=f["path"], acquisition=f["acquisition"]) for f in fields]
        ome = _versioned(layout, "well", models.Well(well=models.WellDef(images=images)))
        of_well = {"layout": dict(well.layout), "fields": fields}
        write_group(files, root / well.path, layout, ome, {"artmask": of_well}, stamped=False)


def require_version(root: Location, ngff: NgffVersion) -> None:
    """Make sure that a store is of a version of NGFF, if it is there.

    Raises
    ------
    PlateError
        If it is of another.
    """
    layout = LAYOUTS[ngff]
    for other in LAYOUTS.values():
        if other is not layout and any((root / name).exists() for name in {other.attributes_file, other.group_file}):
            raise PlateError(
                f"{root} is there as NGFF {other.version}, and cannot become NGFF {layout.version}. "
                f"Ask for {other.version}, choose another name, or remove the store."
            )


def _describe_acquisition(layout: Layout, number: int, acquisition: Acquisition, plate: str) -> BaseModel:
    started = seconds_since_1970(acquisition.started)
    described: BaseModel = layout.models.Acquisition(
        id=number,
        name=f"{plate} {acquisition.started}".strip(),
        description=f"Measurement {acquisition.measurement_id}",
        maximumfieldcount=max(len(well.fields) for well in acquisition.wells),
        starttime=None if started is None else int(started),
    )
    return described


def read_plate(root: Location) -> StoredPlate:
    """Read what a plate store contains, from its metadata alone.

    Raises
    ------
    PlateError
        If there is no store, or it is not a plate that artmask wrote.
    """
    group = read_group(root)
    if not group and not root.is_dir():
        near = did_you_mean(root.name, list_folders(root.parent))
        raise PlateError(f"{root} does not exist.{near} Give a plate that `artmask ingest` wrote.")
    if not group or not group.artmask or "plate" not in group.ome:
        raise PlateError(f"{root} is not a plate that artmask wrote. Run `artmask ingest EXPORT {root.name}` first.")
    description, paths = group.artmask, [entry["path"] for entry in group.ome["plate"]["wells"]]
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        groups = list(pool.map(partial(read_group, layouts=[group.layout]), [root / path for path in paths]))
    wells: list[list[Well]] = [[] for _ in description["acquisitions"]]
    for path, group_of_well in zip(paths, groups, strict=True):
        of_well = group_of_well.artmask if group_of_well else {}
        if not of_well:
            raise PlateError(f"{root} is not complete: {path} has no metadata. Run `artmask ingest` again.")
        row, column = path.split("/")
        for number, of_acquisition in enumerate(wells):
            fields = tuple(_read_field(entry) for entry in of_well["fields"] if entry["acquisition"] == number)
            if fields:
                of_acquisition.append(Well(_row_number(row), int(column), fields, of_well["layout"]))
    plate = Plate(
        name=group.ome["plate"]["name"],
        barcode=description["barcode"],
        n_rows=description["n_rows"],
        n_columns=description["n_columns"],
        acquisitions=tuple(map(_read_acquisition, description["acquisitions"], wells)),
    )
    return StoredPlate(plate, description["ingest_digest"], group.layout.version)


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
    group = read_group(root)
    if not group or "acquisitions" not in group.artmask or "plate" not in group.ome:
        raise PlateError(
            f"{root} exists and is not a plate that artmask wrote; it is left as it is. Choose another name."
        )
    measurements = [acquisition["measurement_id"] for acquisition in group.artmask["acquisitions"]]
    return group.ome["plate"]["name"], measurements


def find_plates(places: Iterable[Location]) -> dict[Location, int]:
    """Find plates that artmask wrote, and how many fields each has.

    Parameters
    ----------
    places
        Plates, folders of plates, whose names end in ``.zarr``, or campaign files. A plate that a campaign's file lists
        is found even if it is not there, with no field: it must not be forgotten.

    Raises
    ------
    PlateError
        If a place is none of these, or a plate is given twice.
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
                else f"{place} does not exist.{did_you_mean(place.name, list_folders(place.parent))} Give a plate that "
                "`artmask ingest` wrote, or a folder of such plates."
            )
        twice = [str(plate) for plate in plates if plate in found]
        if twice:
            raise PlateError(f"{twice[0]} is given twice. Name each plate once.")
        found |= plates
    return found


def _plates_in(place: Location) -> dict[Location, int]:
    """Plates that a campaign's file lists, and if a folder is given, others beside them."""
    folder = place.parent if place.name == CAMPAIGN_FILE else place
    listed = list_plates(folder)
    others = [] if folder != place or not folder.is_dir() else [path.name for path in folder.iterdir()]
    names = sorted({*listed, *(name for name in others if name.endswith(".zarr"))})
    counted = {folder / name: _count_fields(folder / name) for name in names}
    return {path: n or 0 for path, n in counted.items() if n is not None or path.name in listed}


def _count_fields(root: Location) -> int | None:
    """Fields of a plate by its own metadata alone; None if it is none of ours."""
    group = read_group(root)
    n_fields: int | None = group.artmask.get("n_fields") if group else None
    return n_fields


def _row_number(name: str) -> int:
    number = 0
    for letter in name:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _versioned(layout: Layout, key: str, model: BaseModel) -> dict[str, Any]:
    """Dump a model with the version in the inner object, where NGFF 0.4 has it; some readers of 0.5 warn without it."""
    ome = dump(model)
    ome[key]["version"] = layout.version
    return ome

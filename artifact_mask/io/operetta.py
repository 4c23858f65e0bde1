"""Read what an Operetta or Phenix microscope exports: the index, or the names of the files alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifact_mask.errors import ExportError, ImageError
from artifact_mask.io.harmony_index import Record, parse_index
from artifact_mask.io.tiff import read_tiff_shape
from artifact_mask.metadata import Acquisition, Channel, Field, PlaneIndex, Plate, Well, well_path

INDEX_NAMES = ("Index.idx.xml", "Index.ref.xml", "Index.xml")
_TIFF_NAME = re.compile(
    r"r(?P<row>\d+)c(?P<column>\d+)f(?P<field>\d+)p(?P<plane>\d+)"
    r"-ch(?P<channel>\d+)sk(?P<timepoint>\d+)fk\d+fl\d+\.tiff?",
    re.IGNORECASE,
)
_PLATE_FORMATS = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))


Sources = dict[tuple[str, int], dict[PlaneIndex, str]]


@dataclass(frozen=True)
class Export:
    """A measurement as found on disk.

    Attributes
    ----------
    plate
        What it contains.
    sources
        For each well's path and field's index, the file of each plane that the export lists, relative to
        ``image_folder``; fewer than the plate's planes where some are missing.
    image_folder
        Folder that holds the images.
    index
        The index file; None where only the files' names were read.
    """

    plate: Plate
    sources: Sources
    image_folder: Path
    index: Path | None


def read_export(path: Path, *, pixel_size_um: float | None = None) -> Export:
    """Read a Harmony export: a measurement's folder, its ``Images`` folder, or the index file itself.

    Parameters
    ----------
    path
        Where to look.
    pixel_size_um
        Pixel size in micrometre. Needed for a folder without an index; beside an index it takes the index's place.

    Raises
    ------
    ExportError
        If there is neither an index nor a TIFF with a Harmony name, or if the index is damaged or contradicts itself.
    """
    if not path.exists():
        raise ExportError(
            f"{path} does not exist. Give the folder that Harmony exported (it holds Images/Index.idx.xml)."
        )
    index = _find_index(path)
    if index is not None:
        return _read_indexed(index, pixel_size_um)
    return _read_names(path, pixel_size_um)


def resolve_image(image_folder: Path, url: str) -> Path:
    """Path of an image that an index names, refused if it lies outside of the export.

    Raises
    ------
    ImageError
        If ``url`` is empty, absolute, has a scheme, or leads out of ``image_folder``, by ``..`` or by a symbolic link.
    """
    if not url:
        raise ImageError("the index names no file for this plane")
    if re.match(r"[/\\]|[A-Za-z][A-Za-z0-9+.-]*:", url) or ".." in re.split(r"[/\\]", url):
        raise ImageError(f"the index points outside of the export ({url!r}); such a file is never opened")
    found = image_folder / url
    try:
        leads_out = found.exists() and not found.resolve().is_relative_to(image_folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"{url[:80]!r} cannot be the name of a file: {error}") from error
    if leads_out:
        raise ImageError(f"{url} is a link that leads out of the export; such a file is never opened")
    return found


def _find_index(path: Path) -> Path | None:
    if path.is_file():
        return path
    for folder in (path / "Images", path / "images", path):
        for name in INDEX_NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def _read_indexed(index: Path, pixel_size_um: float | None) -> Export:
    parsed = parse_index(index)
    pixel_size_um = pixel_size_um or parsed.pixel_size_um
    if pixel_size_um is None:
        raise ExportError(f"{index} does not tell the pixel size. Give it with --pixel-size-um.")
    if parsed.image_size is None:
        raise ExportError(f"{index} does not tell ImageSizeX and ImageSizeY of any channel.")
    folder = _image_folder(index.parent, parsed.records)
    plate, sources = _assemble(
        parsed.records,
        channels=parsed.channels,
        name=parsed.plate.get("Name") or parsed.plate.get("PlateID") or index.parent.parent.name,
        measurement_id=parsed.plate.get("MeasurementID") or f"index:{index.resolve().parent.parent.name}",
        plate_size=parsed.plate_size,
        image_size=parsed.image_size,
        pixel_size_um=pixel_size_um,
    )
    return Export(plate, sources, image_folder=folder, index=index)


def _image_folder(beside_index: Path, records: Iterable[Record]) -> Path:
    """Folder of the images: beside the index or, as Harmony 7 may have it, one level below."""
    below = beside_index / "Images"
    for record in records:
        if below.is_dir() and is_image(below, record.url):
            return below
        if is_image(beside_index, record.url):
            break
    return beside_index


def is_image(image_folder: Path, url: str) -> bool:
    """Whether an image that an index names is there and may be read."""
    try:
        return resolve_image(image_folder, url).is_file()
    except ImageError:
        return False


def _read_names(path: Path, pixel_size_um: float | None) -> Export:
    folder = path / "Images" if (path / "Images").is_dir() else path
    named = ((_TIFF_NAME.fullmatch(file.name), file) for file in sorted(folder.iterdir()))
    records = [
        Record(
            row=int(match["row"]),
            column=int(match["column"]),
            field_id=int(match["field"]),
            plane_id=int(match["plane"]),
            timepoint_id=int(match["timepoint"]),
            channel_id=int(match["channel"]),
            url=file.name,
        )
        for match, file in named
        if match and int(match["row"]) and int(match["column"])
    ]
    if not records:
        raise ExportError(
            f"{path} is not a Harmony export: it holds neither an index ({', '.join(INDEX_NAMES)}) nor TIFFs named "
            "like r02c03f01p01-ch1sk1fk1fl1.tiff. Give the folder that holds Images/."
        )
    if pixel_size_um is None:
        raise ExportError(
            f"{path} has {len(records)} TIFFs with Harmony names but no index, so that the pixel size is unknown. "
            "Give it with --pixel-size-um (for instance 0.3 for 40x with binning 2)."
        )
    channels = {c: Channel(c, f"Channel {c}") for c in sorted({record.channel_id for record in records})}
    plate, sources = _assemble(
        records,
        channels=channels,
        name=_measurement_folder(folder).name,
        # The folder and its parent: `tiffs` alone would be the same for every plate, a whole path for no other machine.
        measurement_id="names:" + "/".join(_measurement_folder(folder).parts[-2:]),
        plate_size=(0, 0),
        image_size=_commonest_size(folder, records),
        pixel_size_um=pixel_size_um,
    )
    return Export(plate, sources, image_folder=folder, index=None)


def _measurement_folder(images: Path) -> Path:
    folder = images.resolve()
    return folder.parent if folder.name == "Images" else folder


def _commonest_size(folder: Path, records: Iterable[Record], *, sample: int = 9) -> tuple[int, int]:
    """Size that most of the first readable files have, so that one odd file does not decide for all."""
    sizes: Counter[tuple[int, int]] = Counter()
    for record in records:
        try:
            sizes[read_tiff_shape(folder / record.url)] += 1
        except ImageError:
            continue
        if sizes.total() == sample:
            break
    if not sizes:
        raise ExportError(f"None of the TIFFs in {folder} can be read. Copy the export again.")
    return sizes.most_common(1)[0][0]


def _assemble(
    records: list[Record],
    *,
    channels: Mapping[int, Channel],
    name: str,
    measurement_id: str,
    plate_size: tuple[int, int],
    image_size: tuple[int, int],
    pixel_size_um: float,
) -> tuple[Plate, Sources]:
    """Group flat records into wells and fields; every ID becomes its rank among the plate's."""
    t_of = _ranks(record.timepoint_id for record in records)
    z_of = _ranks(record.plane_id for record in records)
    c_of = _ranks(channels)
    index_of = _ranks(record.field_id for record in records)
    by_field: dict[tuple[int, int, int], dict[PlaneIndex, Record]] = defaultdict(dict)
    for record in records:
        plane = (t_of[record.timepoint_id], c_of[record.channel_id], z_of[record.plane_id])
        planes = by_field[record.row, record.column, record.field_id]
        if plane in planes and planes[plane].url != record.url:
            raise ExportError(
                f"The index lists two images for row {record.row}, column {record.column}, field {record.field_id}, "
                f"(t, c, z) = {plane}: {planes[plane].url} and {record.url}. Export the measurement again."
            )
        planes[plane] = record
    fields: dict[tuple[int, int], list[Field]] = defaultdict(list)
    sources: Sources = {}
    for (row, column, field_id), planes in sorted(by_field.items()):
        first = planes[min(planes)]
        # Harmony's y grows upwards, an image's downwards.
        field = Field(index_of[field_id], field_id, y_um=0.0 - first.y_m * 1e6, x_um=first.x_m * 1e6)
        fields[row, column].append(field)
        sources[well_path(row, column), field.index] = {plane: planes[plane].url for plane in sorted(planes)}
    wells = tuple(Well(row, column, tuple(of_well)) for (row, column), of_well in sorted(fields.items()))
    n_rows, n_columns = _plate_size(plate_size, max(w.row for w in wells), max(w.column for w in wells))
    acquisition = Acquisition(
        measurement_id=measurement_id,
        shape=(len(t_of), len(c_of), len(z_of), *image_size),
        pixel_size_um=pixel_size_um,
        z_step_um=_z_step_um(records, z_of),
        channels=tuple(channels[channel_id] for channel_id in c_of),
        wells=wells,
    )
    return Plate(name, n_rows, n_columns, (acquisition,)), sources


def _ranks(values: Iterable[int]) -> dict[int, int]:
    return {value: rank for rank, value in enumerate(sorted(set(values)))}


def _plate_size(given: tuple[int, int], last_row: int, last_column: int) -> tuple[int, int]:
    """Size of the plate: as given, else the smallest standard format that holds all wells."""
    for n_rows, n_columns in (given, *_PLATE_FORMATS):
        if last_row <= n_rows and last_column <= n_columns:
            return n_rows, n_columns
    return last_row, last_column


def _z_step_um(records: Iterable[Record], z_of: Mapping[int, int]) -> float:
    """Distance of neighbouring planes, in one channel: channels may be focused at different heights."""
    if len(z_of) < 2:
        return 1.0
    heights: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for record in records:
        key = (record.row, record.column, record.field_id, record.timepoint_id, record.channel_id)
        heights[key][z_of[record.plane_id]] = record.z_m
    stack = max(heights.values(), key=len)
    low, high = min(stack), max(stack)
    step = abs(stack[high] - stack[low]) / max(high - low, 1) * 1e6
    return step or 1.0

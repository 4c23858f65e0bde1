"""Read what an Operetta or Phenix microscope exports: the index, or the names of the files alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from artifact_mask.errors import ExportError, ImageError
from artifact_mask.io.tiff import read_tiff_shape
from artifact_mask.metadata import Channel, ChannelKind, Field, PlaneIndex, Plate, Well, well_path

INDEX_NAMES = ("Index.idx.xml", "Index.ref.xml", "Index.xml")
MAX_INDEX_BYTES = 2 * 1024**3
_TIFF_NAME = re.compile(
    r"r(?P<row>\d+)c(?P<column>\d+)f(?P<field>\d+)p(?P<plane>\d+)"
    r"-ch(?P<channel>\d+)sk(?P<timepoint>\d+)fk\d+fl\d+\.tiff?",
    re.IGNORECASE,
)
_PLATE_FORMATS = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))


Sources = dict[tuple[str, int], dict[PlaneIndex, str]]


class Record(NamedTuple):
    """One image of an export, in Harmony's words; lengths in metre."""

    row: int
    column: int
    field_id: int
    plane_id: int
    timepoint_id: int
    channel_id: int
    url: str
    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0


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
        raise ExportError(f"{path} does not exist. Give the folder that Harmony exported (it holds Images/Index.idx.xml).")
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
    if "://" in url or url.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", url) or ".." in re.split(r"[/\\]", url):
        raise ImageError(f"the index points outside of the export ({url!r}); such a file is never opened")
    found = image_folder / url
    if found.exists() and not found.resolve().is_relative_to(image_folder.resolve()):
        raise ImageError(f"{url} is a link that leads out of the export; such a file is never opened")
    return found


def _find_index(path: Path) -> Path | None:
    if path.is_file():
        return path
    for folder in (path / "Images", path):
        for name in INDEX_NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def _read_indexed(index: Path, pixel_size_um: float | None) -> Export:
    size = index.stat().st_size
    if size > MAX_INDEX_BYTES:
        raise ExportError(f"{index} has {size} bytes; an index of more than {MAX_INDEX_BYTES} bytes is not read.")
    try:
        parsed = _ParsedIndex.parse(index)
    except ParseError as error:
        raise ExportError(
            f"{index} is not complete XML ({error}). It may have been cut off while copying: copy the export again."
        ) from error
    except DefusedXmlException as error:
        raise ExportError(f"{index} contains XML entities, which no export of Harmony does; it is not read.") from error
    except (KeyError, ValueError) as error:
        raise ExportError(f"{index} has an image record that cannot be understood: {error}.") from error
    if not parsed.records:
        raise ExportError(f"{index} lists no image. Expected Image elements as Harmony writes them.")
    pixel_size_um = pixel_size_um or parsed.pixel_size_um
    if pixel_size_um is None:
        raise ExportError(f"{index} does not tell the pixel size. Give it with --pixel-size-um.")
    if parsed.image_size is None:
        raise ExportError(f"{index} does not tell ImageSizeX and ImageSizeY of any channel.")
    # Harmony 7 may put the index one level above the images.
    folder = index.parent
    if not (folder / parsed.records[0].url).is_file() and (folder / "Images" / parsed.records[0].url).is_file():
        folder = folder / "Images"
    plate, sources = _assemble(
        parsed.records,
        channels=parsed.channels,
        name=parsed.plate.get("Name") or parsed.plate.get("PlateID") or index.parent.parent.name,
        measurement_id=parsed.plate.get("MeasurementID") or f"index:{index.resolve().parent.parent.name}",
        plate_size=(int(parsed.plate.get("PlateRows", 0)), int(parsed.plate.get("PlateColumns", 0))),
        image_size=parsed.image_size,
        pixel_size_um=pixel_size_um,
    )
    return Export(plate, sources, image_folder=folder, index=index)


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
        if match
    ]
    if not records:
        raise ExportError(
            f"{path} is not a Harmony export: it holds neither an index ({', '.join(INDEX_NAMES)}) nor TIFFs named like "
            "r02c03f01p01-ch1sk1fk1fl1.tiff. Give the folder that holds Images/."
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
        name=path.resolve().name,
        measurement_id=f"names:{path.resolve().name}",
        plate_size=(0, 0),
        image_size=_commonest_size(folder, records),
        pixel_size_um=pixel_size_um,
    )
    return Export(plate, sources, image_folder=folder, index=None)


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


@dataclass(frozen=True)
class _ParsedIndex:
    records: list[Record]
    channels: dict[int, Channel]
    plate: dict[str, str]
    pixel_size_um: float | None
    image_size: tuple[int, int] | None

    @classmethod
    def parse(cls, index: Path) -> "_ParsedIndex":
        records: list[Record] = []
        entries: dict[int, dict[str, str]] = defaultdict(dict)
        plate: dict[str, str] = {}
        for element in _elements(index):
            tag = _local_name(element)
            if tag == "Image" and len(element):
                values = _texts(element)
                record = _record(values)
                records.append(record)
                # Up to Harmony 6 each image carries its channel's metadata: one record a channel is enough.
                if "ImageResolutionX" in values and "ImageResolutionX" not in entries[record.channel_id]:
                    entries[record.channel_id].update(values)
            elif tag == "Entry" and "ChannelID" in element.attrib:
                entries[int(element.attrib["ChannelID"])].update(_texts(element))
            elif tag == "Plate":
                plate = _texts(element)
            else:
                continue
            element.clear()
        used = {record.channel_id for record in records}
        metadata = [entries[channel_id] for channel_id in sorted(used)]
        resolution = next((m["ImageResolutionX"] for m in metadata if "ImageResolutionX" in m), None)
        size = next(((int(m["ImageSizeY"]), int(m["ImageSizeX"])) for m in metadata if "ImageSizeX" in m), None)
        return cls(
            records=records,
            channels={channel_id: _channel(channel_id, entries[channel_id]) for channel_id in sorted(used)},
            plate=plate,
            pixel_size_um=float(resolution) * 1e6 if resolution else None,
            image_size=size,
        )


def _elements(index: Path) -> Iterator[Element]:
    events = defusedxml.ElementTree.iterparse(index, events=("start", "end"))
    _, root = next(events)
    if _local_name(root) != "EvaluationInputData":
        raise ExportError(
            f"{index} is not an index of Harmony: its root is <{_local_name(root)}>, expected <EvaluationInputData>."
        )
    for event, element in events:
        if event == "end":
            yield element


def _local_name(element: Element) -> str:
    # Each generation of Harmony has a namespace of its own; the local names stayed.
    return str(element.tag).rpartition("}")[2]


def _texts(element: Element) -> dict[str, str]:
    return {_local_name(child): (child.text or "").strip() for child in element}


def _record(values: Mapping[str, str]) -> Record:
    return Record(
        row=int(values["Row"]),
        column=int(values["Col"]),
        field_id=int(values["FieldID"]),
        plane_id=int(values["PlaneID"]),
        timepoint_id=int(values["TimepointID"]),
        channel_id=int(values["ChannelID"]),
        url=values.get("URL", ""),
        x_m=float(values.get("PositionX") or 0),
        y_m=float(values.get("PositionY") or 0),
        z_m=float(values.get("PositionZ") or 0),
    )


def _channel(channel_id: int, values: Mapping[str, str]) -> Channel:
    name = values.get("ChannelName") or f"Channel {channel_id}"
    # Harmony writes 0 where a wavelength has no meaning.
    excitation, emission = (
        float(values.get(key) or 0) or None for key in ("MainExcitationWavelength", "MainEmissionWavelength")
    )
    kinds: dict[str, ChannelKind] = {"brightfield": "brightfield", "phase": "phase", "fluorescence": "fluorescence"}
    kind = kinds.get(values.get("ChannelType", "").lower(), "unknown")
    return Channel(channel_id, name, kind, excitation, emission)


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
    plate = Plate(
        name=name,
        measurement_id=measurement_id,
        n_rows=n_rows,
        n_columns=n_columns,
        shape=(len(t_of), len(c_of), len(z_of), *image_size),
        pixel_size_um=pixel_size_um,
        z_step_um=_z_step_um(records, z_of),
        channels=tuple(channels[channel_id] for channel_id in c_of),
        wells=wells,
    )
    return plate, sources


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

"""Harmony's index of a measurement: an XML file that lists every image. Columbus writes the same."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from xml.etree.ElementTree import Element

from artifact_mask.errors import ExportError
from artifact_mask.io.harmony_channels import ChannelFacts, channel_of_entry, describe_channel
from artifact_mask.io.harmony_values import METRES, read_count, read_id, read_number, shown
from artifact_mask.io.harmony_xml import attribute_of, children_of, read_elements, text_of
from artifact_mask.location import Location
from artifact_mask.metadata import Channel

MAX_ROWS_OR_COLUMNS = 48
MAX_DISTANCE_M = 10.0

_ROOT = "EvaluationInputData"


class Record(NamedTuple):
    """One image of an export, in Harmony's words.

    Attributes
    ----------
    row, column
        Of the well, counted from 1.
    field_id, plane_id, timepoint_id, channel_id
        Harmony's own numbers. Some generations count timepoints from 0, others from 1.
    url
        Name of the file, empty where the index names none. Input from outside: see `resolve_image`.
    page
        Zero-based page of a file that has several; None where the index does not say.
    x_m, y_m, z_m
        Position of the field in its well, and height of the plane, in metre; y grows upwards.
    time
        When it was taken, as written (ISO 8601).
    """

    row: int
    column: int
    field_id: int
    plane_id: int
    timepoint_id: int
    channel_id: int
    url: str
    page: int | None = None
    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    time: str = ""


@dataclass(frozen=True)
class HarmonyIndex:
    """Content of an index, in Harmony's words.

    Attributes
    ----------
    records
        Images, in the order of the file.
    channels
        By Harmony's number; those that have an image.
    plate
        Texts of the Plate element.
    plate_size
        Rows and columns; 0 where the index does not tell.
    pixel_size_um, image_size
        Pixel size in micrometre and ``(y, x)`` in pixels: the commonest among the channels. None where the index does
        not tell.
    magnification, numerical_aperture
        Of the objective; None where the index does not tell.
    flat_fields
        FlatfieldProfile by channel number, as written.
    problems
        One text for each image record that cannot be understood, and is left out.
    """

    records: list[Record]
    channels: dict[int, Channel]
    plate: dict[str, str]
    plate_size: tuple[int, int]
    pixel_size_um: float | None
    image_size: tuple[int, int] | None
    magnification: float | None
    numerical_aperture: float | None
    flat_fields: dict[int, str]
    problems: list[str]


@dataclass(frozen=True)
class IndexHead:
    """What an index says of its plate.

    Attributes
    ----------
    name, barcode, measurement_id, started
        Name and PlateID of the plate, MeasurementID and MeasurementStartTime as written; empty where absent.
    plate_size
        Rows and columns; 0 where the index does not tell.
    """

    name: str
    barcode: str
    measurement_id: str
    started: str
    plate_size: tuple[int, int]


_T = TypeVar("_T")


def parse_index(index: Location) -> HarmonyIndex:
    """Read an index of any generation of Harmony, or of Columbus, by its local element names.

    Raises
    ------
    ExportError
        If the file is too large, not XML, cut off, not an index, or without a single image that can be understood.

    Notes
    -----
    A wavelength, size or exposure that makes no sense counts as absent. Metadata of a channel may stand in its image
    records (up to Harmony 6), in a map of channels (from Harmony 6 on), or in both; of several values the first that
    makes sense counts, and an image record's before a map's.
    """
    records: list[Record] = []
    problems: list[str] = []
    plate: dict[str, str] = {}
    flat_fields: dict[int, str] = {}
    in_images, in_maps = ChannelFacts(), ChannelFacts()
    with closing(read_elements(index, ("Image", "Entry", "Plate"))) as elements:
        root, _ = next(elements)
        if root != _ROOT:
            raise ExportError(f"{index} is not an index of Harmony: its root is <{root[:80]}>, expected <{_ROOT}>.")
        for name, element in elements:
            children = children_of(element)
            if name == "Image":
                # Wells list their images too, without content.
                if children:
                    try:
                        record = _record(children)
                    except ValueError as error:
                        problems.append(f"image {_name_of(children)}: {error}")
                        continue
                    records.append(record)
                    in_images.add(record.channel_id, children)
            elif name == "Entry":
                channel_id = channel_of_entry(element, children)
                if channel_id is not None:
                    in_maps.add(channel_id, children)
                    if profile := text_of(children.get("FlatfieldProfile")):
                        flat_fields.setdefault(channel_id, profile)
            elif not plate:
                plate = _texts(children)
    if not records:
        raise ExportError(_no_image(index, problems))
    facts = {c: in_maps[c] | in_images[c] for c in sorted({record.channel_id for record in records})}
    sizes = ((f.get("ImageSizeY"), f.get("ImageSizeX")) for f in facts.values())
    return HarmonyIndex(
        records=records,
        channels={channel_id: describe_channel(channel_id, of_channel) for channel_id, of_channel in facts.items()},
        plate=plate,
        plate_size=_plate_size(plate),
        pixel_size_um=_commonest(f.get("ImageResolutionX") for f in facts.values()),
        image_size=_commonest((y, x) if y and x else None for y, x in sizes),
        magnification=_commonest(f.get("ObjectiveMagnification") for f in facts.values()),
        numerical_aperture=_commonest(f.get("ObjectiveNA") for f in facts.values()),
        flat_fields=flat_fields,
        problems=problems,
    )


def read_head(index: Location) -> IndexHead | None:
    """Read an index only as far as its Plate element.

    Returns
    -------
    IndexHead | None
        None if it is some other XML file.

    Raises
    ------
    ExportError
        If it cannot be read, or is not XML as far as it was read.
    """
    with closing(read_elements(index, ("Plate",), head_only=True)) as elements:
        root, _ = next(elements)
        if root != _ROOT:
            return None
        plate = next((texts for _, element in elements if (texts := _texts(children_of(element)))), {})
    return IndexHead(
        name=plate.get("Name", ""),
        barcode=plate.get("PlateID", ""),
        measurement_id=plate.get("MeasurementID", ""),
        started=plate.get("MeasurementStartTime", ""),
        plate_size=_plate_size(plate),
    )


def _texts(children: Mapping[str, Element]) -> dict[str, str]:
    return {name: text for name, child in children.items() if (text := text_of(child))}


def _no_image(index: Location, problems: list[str]) -> str:
    if not problems:
        return f"{index} lists no image. Expected Image elements as Harmony writes them."
    return f"{index} lists {len(problems)} images, none of which can be understood; the first is {problems[0]}."


# Image records


def _record(children: Mapping[str, Element]) -> Record:
    url = children.get("URL")
    page = attribute_of(url, "BufferNo") if url is not None else None
    return Record(
        _place(children, "Row"),
        _place(children, "Col"),
        _id(children, "FieldID"),
        _id(children, "PlaneID"),
        _id(children, "TimepointID"),
        _id(children, "ChannelID"),
        text_of(url),
        read_id(page, "BufferNo") if page is not None else None,
        _metres(children, "PositionX"),
        _metres(children, "PositionY"),
        _metres(children, "PositionZ"),
        text_of(children.get("AbsTime")),
    )


def _name_of(children: Mapping[str, Element]) -> str:
    return (text_of(children.get("id")) or text_of(children.get("URL")) or "without an id")[:80]


def _id(children: Mapping[str, Element], tag: str) -> int:
    child = children.get(tag)
    if child is None:
        raise ValueError(f"{tag} is missing")
    return read_id(child.text or "", tag)


def _place(children: Mapping[str, Element], tag: str) -> int:
    value = _id(children, tag)
    # Row 0 has no letter: its path would be absolute.
    if not 1 <= value <= MAX_ROWS_OR_COLUMNS:
        raise ValueError(f"{tag} is {value}, expected 1 to {MAX_ROWS_OR_COLUMNS}")
    return value


def _metres(children: Mapping[str, Element], tag: str) -> float:
    child = children.get(tag)
    if child is None or not (text := (child.text or "").strip()):
        return 0.0
    value = read_number(text) * METRES.get(child.get("Unit") or "m", 1.0)
    if not -MAX_DISTANCE_M <= value <= MAX_DISTANCE_M:
        raise ValueError(f"{tag} is {shown(text)}, expected a number of metres from -10 to 10")
    return value


def _plate_size(plate: Mapping[str, str]) -> tuple[int, int]:
    rows, columns = (read_count(plate.get(key, ""), MAX_ROWS_OR_COLUMNS) for key in ("PlateRows", "PlateColumns"))
    return rows, columns


def _commonest(values: Iterable[_T | None]) -> _T | None:
    counts = Counter(value for value in values if value is not None)
    return counts.most_common(1)[0][0] if counts else None

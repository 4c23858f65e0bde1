"""Harmony's index of a measurement: an XML file that lists every image."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from artifact_mask.errors import ExportError
from artifact_mask.metadata import Channel, ChannelKind

MAX_INDEX_BYTES = 2 * 1024**3
MAX_ROWS_OR_COLUMNS = 48
MAX_IMAGE_SIDE_PX = 65_536


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
        Pixel size in micrometre and ``(y, x)`` in pixels; None where the index does not tell.
    """

    records: list[Record]
    channels: dict[int, Channel]
    plate: dict[str, str]
    plate_size: tuple[int, int]
    pixel_size_um: float | None
    image_size: tuple[int, int] | None


def parse_index(index: Path) -> HarmonyIndex:
    """Read an index file of any generation that keeps Harmony's element names.

    Raises
    ------
    ExportError
        If the file is too large, not XML, cut off, not an index, or without an image.
    """
    size = index.stat().st_size
    if size > MAX_INDEX_BYTES:
        raise ExportError(f"{index} has {size} bytes; an index of more than {MAX_INDEX_BYTES} bytes is not read.")
    try:
        parsed = _parse(index)
    except ExportError:
        raise
    except ParseError as error:
        raise ExportError(
            f"{index} is not complete XML ({error}). It may have been cut off while copying: copy the export again."
        ) from error
    except DefusedXmlException as error:
        raise ExportError(f"{index} contains XML entities, which no export of Harmony does; it is not read.") from error
    except (LookupError, ValueError) as error:
        raise ExportError(f"{index} has an image record that cannot be understood: {error}.") from error
    if not parsed.records:
        raise ExportError(f"{index} lists no image. Expected Image elements as Harmony writes them.")
    return parsed


def _parse(index: Path) -> HarmonyIndex:
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
            if "ChannelName" in values and "ChannelName" not in entries[record.channel_id]:
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
    size = next(((_side(m["ImageSizeY"]), _side(m["ImageSizeX"])) for m in metadata if "ImageSizeX" in m), None)
    return HarmonyIndex(
        records=records,
        channels={channel_id: _channel(channel_id, entries[channel_id]) for channel_id in sorted(used)},
        plate=plate,
        plate_size=(_count(plate.get("PlateRows")), _count(plate.get("PlateColumns"))),
        pixel_size_um=_positive(float(resolution) * 1e6, "ImageResolutionX") if resolution else None,
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
        row=_position(values["Row"], "Row"),
        column=_position(values["Col"], "Col"),
        field_id=int(values["FieldID"]),
        plane_id=int(values["PlaneID"]),
        timepoint_id=int(values["TimepointID"]),
        channel_id=int(values["ChannelID"]),
        url=values.get("URL", ""),
        x_m=_finite(values.get("PositionX"), "PositionX"),
        y_m=_finite(values.get("PositionY"), "PositionY"),
        z_m=_finite(values.get("PositionZ"), "PositionZ"),
    )


def _position(text: str, tag: str) -> int:
    # Row 0 has no letter: its path would be absolute.
    if not 1 <= int(text) <= MAX_ROWS_OR_COLUMNS:
        raise ValueError(f"{tag} is {text}, expected 1 to {MAX_ROWS_OR_COLUMNS}")
    return int(text)


def _side(text: str) -> int:
    if not 1 <= int(text) <= MAX_IMAGE_SIDE_PX:
        raise ValueError(f"the image has {text} pixels a side, expected 1 to {MAX_IMAGE_SIDE_PX}")
    return int(text)


def _count(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _finite(text: str | None, tag: str) -> float:
    if not math.isfinite(value := float(text or 0)):
        raise ValueError(f"{tag} is {text}")
    return value


def _positive(value: float, tag: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{tag} is {value}")
    return value


def _channel(channel_id: int, values: Mapping[str, str]) -> Channel:
    name = values.get("ChannelName") or f"Channel {channel_id}"
    # Harmony writes 0 where a wavelength has no meaning.
    excitation, emission = (
        float(values.get(key) or 0) or None for key in ("MainExcitationWavelength", "MainEmissionWavelength")
    )
    kinds: dict[str, ChannelKind] = {"brightfield": "brightfield", "phase": "phase", "fluorescence": "fluorescence"}
    kind = kinds.get(values.get("ChannelType", "").lower(), "unknown")
    return Channel(channel_id, name, kind, excitation, emission)

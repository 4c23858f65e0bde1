"""What Harmony's elements say of channels: in each image, or in a map."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from artifact_mask.io.harmony_values import MAX_IMAGE_SIDE_PX, METRES, SECONDS, read_count, read_id, read_number
from artifact_mask.io.harmony_xml import attribute_of, text_of
from artifact_mask.metadata import Channel, ChannelKind

MAX_BINNING = 64

_KINDS: dict[str, ChannelKind] = {"brightfield": "brightfield", "phase": "phase", "fluorescence": "fluorescence"}

Facts = dict[str, Any]
"""What is known of a channel, by the name of the element that says so."""


class ChannelFacts:
    """What elements say of channels, by the channel's number and the name of the element."""

    def __init__(self) -> None:
        self._facts: dict[int, Facts] = defaultdict(dict)
        self._seen: set[tuple[int | str | None, ...]] = set()

    def __getitem__(self, channel_id: int) -> Facts:
        return self._facts.get(channel_id, {})

    def add(self, channel_id: int, children: Mapping[str, Element]) -> None:
        """Take what is still unknown; tens of thousands of images repeat the same."""
        texts = [child.text if (child := children.get(tag)) is not None else None for tag in _READERS]
        key = (channel_id, *texts)
        if key in self._seen:
            return
        self._seen.add(key)
        facts = self._facts[channel_id]
        for tag, read in _READERS.items():
            if tag not in facts and tag in children and (value := read(children[tag])) is not None:
                facts[tag] = value


def _quantity(units: Mapping[str, float], *, unit: str, below: float) -> Callable[[Element], float | None]:
    """Reader of a number in a unit, of an element that may name another; None for what cannot be."""
    default = units[unit]

    def read(element: Element) -> float | None:
        given = units.get(element.get("Unit") or unit, default)
        value = read_number(text_of(element))
        value = value if given == default else value * (given / default)
        return value if 0 < value < below else None

    return read


def _pixel_size_um(element: Element) -> float | None:
    value = read_number(text_of(element)) * METRES.get(element.get("Unit") or "m", 1.0) * 1e6
    return value if 1e-4 < value < 1e4 else None


def _count_reader(largest: int) -> Callable[[Element], int | None]:
    return lambda element: read_count(text_of(element), largest) or None


_READERS: dict[str, Callable[[Element], Any]] = {
    "ChannelName": lambda element: text_of(element) or None,
    "ChannelType": lambda element: _KINDS.get(text_of(element).lower()),
    "IlluminationType": lambda element: text_of(element).lower() == "transmitted" or None,
    "ImageResolutionX": _pixel_size_um,
    "ImageSizeX": _count_reader(MAX_IMAGE_SIDE_PX),
    "ImageSizeY": _count_reader(MAX_IMAGE_SIDE_PX),
    "BinningX": _count_reader(MAX_BINNING),
    # Harmony writes 0 where a wavelength has no meaning.
    "MainExcitationWavelength": _quantity(METRES, unit="nm", below=1e5),
    "MainEmissionWavelength": _quantity(METRES, unit="nm", below=1e5),
    "ObjectiveMagnification": _quantity({"": 1.0}, unit="", below=1e4),
    "ObjectiveNA": _quantity({"": 1.0}, unit="", below=10.0),
    "ExposureTime": _quantity(SECONDS, unit="s", below=1e6),
}


def channel_of_entry(element: Element, children: Mapping[str, Element]) -> int | None:
    """Return the number of the channel that an entry of a map tells of; None if it names none."""
    text = attribute_of(element, "ChannelID")
    try:
        return read_id(text if text is not None else text_of(children.get("ChannelID")), "ChannelID")
    except ValueError:
        return None


def _kind(facts: Facts) -> ChannelKind:
    if "ChannelType" in facts or not facts.get("IlluminationType"):
        kind: ChannelKind = facts.get("ChannelType", "unknown")
        return kind
    # It may say only how the light came.
    return "phase" if "phase" in facts.get("ChannelName", "").lower() else "brightfield"


def describe_channel(channel_id: int, facts: Facts) -> Channel:
    """Make a channel of what is known of it."""
    return Channel(
        channel_id,
        name=facts.get("ChannelName", f"Channel {channel_id}"),
        kind=_kind(facts),
        excitation_nm=facts.get("MainExcitationWavelength"),
        emission_nm=facts.get("MainEmissionWavelength"),
        exposure_s=facts.get("ExposureTime"),
        binning=facts.get("BinningX"),
    )

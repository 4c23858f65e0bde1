"""Write the index of a measurement as each generation of Harmony does, and as Columbus does; no pixel is needed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from artifact_mask.io.files import write_atomically
from artifact_mask.metadata import Acquisition, Channel, Field, Harmony, PlaneIndex, Plate, Well

BOM = "\ufeff"
XSI = 'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

_STARTED = "2026-01-05T09:00:00+00:00"
"""Fixed, so that the same plate gives the same bytes."""
_MAGNIFICATION, _NUMERICAL_APERTURE, _BINNING = 40.0, 0.75, 2
_SECONDS_PER_IMAGE = 0.6

Profile = Sequence[Sequence[float]]
"""Polynomial of a flat field: ``[n][j]`` is the coefficient of ``u**(n-j) * v**j``."""

Values = Mapping[str, object]
"""Texts by tag; a tag may carry attributes after a space."""


@dataclass(frozen=True)
class Generation:
    """What one generation of the software writes.

    Attributes
    ----------
    namespace
        Of the XML.
    version
        Of the root.
    index
        Path of the index in the measurement's folder; images are in ``Images``.
    first_timepoint, flim_id, max_intensity
        Values of these elements.
    channel_map
        Which of the Maps tells of the channels, counted from 0; None where each image does.
    in_sequences
        Whether images have a SequenceID and a GroupID.
    profiles_foreground
        Whether flat-field profiles have a part for the foreground.
    stacked
        Whether the planes of a field are the pages of one file.
    """

    namespace: str
    version: str = "1"
    index: str = "Images/Index.idx.xml"
    first_timepoint: int = 1
    flim_id: int = 1
    max_intensity: int = 65535
    channel_map: int | None = None
    in_sequences: bool = False
    profiles_foreground: bool = True
    stacked: bool = False


_PEHH = "http://www.perkinelmer.com/PEHH"
GENERATIONS: Mapping[Harmony, Generation] = {
    "v4": Generation(f"{_PEHH}/HarmonyV4", flim_id=0, max_intensity=16383),
    "v5": Generation(f"{_PEHH}/HarmonyV5", first_timepoint=0),
    "v6": Generation(f"{_PEHH}/HarmonyV6", channel_map=1),
    "v7": Generation(
        "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
        version="2",
        index="Index.xml",
        max_intensity=65536,
        channel_map=2,
        in_sequences=True,
        profiles_foreground=False,
    ),
    "columbus": Generation(
        "http://www.perkinelmer.com/Columbus", index="Images/ImageIndex.ColumbusIDX.xml", stacked=True
    ),
}


def image_name(well: Well, field_id: int, channel_id: int, *, t: int = 0, z: int = 0) -> str:
    """File name that Harmony gives a plane, time and depth counted from 0.

    Examples
    --------
    >>> image_name(Well(2, 3, ()), 1, 1), image_name(Well(2, 3, ()), 100, 2)
    ('r02c03f01p01-ch1sk1fk1fl1.tiff', 'r02c03f100p01-ch2sk1fk1fl1.tiff')
    """
    return f"r{well.row:02d}c{well.column:02d}f{field_id:02d}p{z + 1:02d}-ch{channel_id}sk{t + 1}fk1fl1.tiff"


def stack_name(well: Well, field_id: int) -> str:
    """File name that Columbus gives all planes of a field.

    Examples
    --------
    >>> stack_name(Well(2, 3, ()), 1)
    '002003-1-001.tif'
    """
    return f"{well.row:03d}{well.column:03d}-1-{field_id:03d}.tif"


def write_index(
    folder: Path,
    plate: Plate,
    *,
    harmony: Harmony = "v5",
    profiles: Mapping[int, Profile] | None = None,
    focus_um: Mapping[int, float] | None = None,
) -> Path:
    """Write the index of a plate's only acquisition.

    Parameters
    ----------
    folder
        Of the measurement.
    plate
        What was measured. What it does not tell (when, with which objective and exposures) is made up.
    harmony
        Generation of the software.
    profiles
        Flat field by channel number; channels without one get the Identity.
    focus_um
        How much higher than the others a channel is focused, by its number, in micrometre.

    Returns
    -------
    Path
        The index.
    """
    writer = _Writer(plate, GENERATIONS[harmony], profiles or {}, focus_um or {})
    path = folder / writer.generation.index
    write_atomically(path, (BOM + "\r\n".join(writer.lines())).encode("utf-8"))
    if writer.generation.stacked:
        lines = "\r\n".join([*writer.head(), "</EvaluationInputData>"])
        write_atomically(path.with_name("MeasurementIndex.ColumbusIDX.xml"), (BOM + lines).encode("utf-8"))
    return path


class _Writer:
    """Lines of an index."""

    def __init__(
        self, plate: Plate, generation: Generation, profiles: Mapping[int, Profile], focus_um: Mapping[int, float]
    ) -> None:
        (self.acquisition,) = plate.acquisitions
        self.plate = plate
        self.generation = generation
        self._profiles = profiles
        self._focus_um = focus_um
        self._started = datetime.fromisoformat(self.acquisition.started or _STARTED)
        self._of_channel = [
            _channel_values(self.acquisition, channel, generation) for channel in self.acquisition.channels
        ]

    def head(self) -> Iterator[str]:
        """Root and plate."""
        plate = self.plate
        yield '<?xml version="1.0" encoding="utf-8"?>'
        yield f'<EvaluationInputData {XSI} Version="{self.generation.version}" xmlns="{self.generation.namespace}">'
        yield from tags(2, {"User": "artmask", "InstrumentType": "Sonata"})
        yield "  <Plates>"
        yield "    <Plate>"
        values = {
            "PlateID": plate.barcode or plate.name,
            "MeasurementID": self.acquisition.measurement_id,
            "MeasurementStartTime": self._started.isoformat(),
            "Name": plate.name,
            "PlateTypeName": f"{plate.n_rows * plate.n_columns} wells, simulated",
            "PlateRows": plate.n_rows,
            "PlateColumns": plate.n_columns,
        }
        yield from tags(6, values)
        for well in plate.wells:
            yield f'      <Well id="{self._well_id(well)}" />'
        yield "    </Plate>"
        yield "  </Plates>"

    def lines(self) -> Iterator[str]:
        """All of them."""
        yield from self.head()
        yield "  <Wells>"
        for well in self.plate.wells:
            yield "    <Well>"
            yield from tags(6, {"id": self._well_id(well), "Row": well.row, "Col": well.column})
            for of_well, plane in _planes(self.acquisition, well):
                yield f'      <Image id="{self._image_id(well, of_well, plane)}" />'
            yield "    </Well>"
        yield "  </Wells>"
        yield "  <Maps>"
        for entries in self._maps():
            yield "    <Map>"
            for channel, values in zip(self.acquisition.channels, entries, strict=True):
                yield f'      <Entry ChannelID="{channel.channel_id}">'
                yield from tags(8, values)
                yield "      </Entry>"
            yield "    </Map>"
        yield "  </Maps>"
        yield "  <Images>"
        n_taken: Counter[int] = Counter()
        for well in self.plate.wells:
            for of_well, plane in _planes(self.acquisition, well):
                t = plane[0]
                seconds = t * self.acquisition.t_step_s + n_taken[t] * _SECONDS_PER_IMAGE
                n_taken[t] += 1
                yield '    <Image Version="1">'
                yield from tags(6, self._image_values(well, of_well, plane, seconds))
                yield "    </Image>"
        yield "  </Images>"
        yield "</EvaluationInputData>"

    def _maps(self) -> Iterator[list[Values]]:
        """Values of each channel in each Map: flat fields first, what tells of the channels where it belongs."""
        shape, foreground = self.acquisition.shape[-2:], self.generation.profiles_foreground
        yield [
            {"FlatfieldProfile": flat_field_text(c, shape, self._profiles.get(c.channel_id), foreground=foreground)}
            for c in self.acquisition.channels
        ]
        for number in range(1, 1 + (self.generation.channel_map or 0)):
            is_last = number == self.generation.channel_map
            yield (
                self._of_channel
                if is_last
                else [{"SkewcropParameters": "H4sIAAAAAAAEAwMAAAAAAAAAAAA="}] * len(self._of_channel)
            )

    def _image_values(self, well: Well, of_well: Field, plane: PlaneIndex, seconds: float) -> Values:
        t, c, z = plane
        acquisition, generation = self.acquisition, self.generation
        channel_id = acquisition.channels[c].channel_id
        height_m = (of_well.z_um + z * acquisition.z_step_um + self._focus_um.get(channel_id, 0.0)) * 1e-6
        sequences = {"SequenceID": 1, "GroupID": 1} if generation.in_sequences else {}
        if generation.stacked:
            url = {f'URL BufferNo="{page_of(acquisition, plane)}"': stack_name(well, of_well.field_id)}
        else:
            url = {"URL": image_name(well, of_well.field_id, channel_id, t=t, z=z)}
        values: dict[str, object] = {
            "id": self._image_id(well, of_well, plane),
            "State": "Ok",
            **url,
            "Row": well.row,
            "Col": well.column,
            "FieldID": of_well.field_id,
            "PlaneID": z + 1,
            "TimepointID": t + generation.first_timepoint,
            **sequences,
            "ChannelID": channel_id,
            "FlimID": generation.flim_id,
        }
        where_and_when = {
            'PositionX Unit="m"': _number(of_well.x_um * 1e-6),
            # Harmony's y grows upwards, an image's downwards.
            'PositionY Unit="m"': _number(0.0 - of_well.y_um * 1e-6),
            'PositionZ Unit="m"': _number(height_m),
            'AbsPositionZ Unit="m"': _number(0.1375 + height_m),
            'MeasurementTimeOffset Unit="s"': _number(round(seconds, 3) if t else 0.0),
            "AbsTime": (self._started + timedelta(seconds=60 + seconds)).isoformat(),
        }
        if generation.channel_map is not None:
            return values | where_and_when
        # Between the camera and the wavelengths.
        described = list(self._of_channel[c].items())
        camera = 1 + [tag for tag, _ in described].index("CameraType")
        return values | dict(described[:camera]) | where_and_when | dict(described[camera:])

    def _well_id(self, well: Well) -> str:
        return f"{well.row:03d}{well.column:03d}" if self.generation.stacked else f"{well.row:02d}{well.column:02d}"

    def _image_id(self, well: Well, of_well: Field, plane: PlaneIndex) -> str:
        t, c, z = plane
        channel_id = self.acquisition.channels[c].channel_id
        return f"{self._well_id(well)}K{t + 1}F{of_well.field_id}P{z + 1}R{channel_id}"


def page_of(acquisition: Acquisition, plane: PlaneIndex) -> int:
    """Page of a plane ``(t, c, z)`` in a file that holds all of its field."""
    _, n_c, n_z, _, _ = acquisition.shape
    t, c, z = plane
    return (t * n_z + z) * n_c + c


def tags(indent: int, values: Values) -> Iterator[str]:
    """One element a line; a key may carry attributes after the tag."""
    for tag, value in values.items():
        text = escape(str(value))
        yield " " * indent + (f"<{tag}>{text}</{tag.partition(' ')[0]}>" if text else f"<{tag} />")


def _channel_values(acquisition: Acquisition, channel: Channel, generation: Generation) -> Values:
    transmitted = channel.kind in ("brightfield", "phase")
    resolution = _number(acquisition.pixel_size_um * 1e-6)
    binning = channel.binning or _BINNING
    last: dict[str, Any] = {"OrientationMatrix": "[[1,0,0,0],[0,-1,0,0],[0,0,1,0]]"}
    if generation.in_sequences:
        y, x = acquisition.shape[-2:]
        crop = {"CropArea": f"[[0,0],[{x},{y}],[{x},{y}]]"}
        last = {'ExcitationPower Unit="Percent"': 50} | last | crop
    if generation.stacked:
        last = {"ChannelColor": 4294967295} | last
    return {
        "ChannelName": channel.name,
        "ImageType": "Signal",
        "AcquisitionType": "NonConfocal",
        "IlluminationType": "Transmitted" if transmitted else "Epifluorescence",
        "ChannelType": {"brightfield": "Brightfield", "phase": "Phase"}.get(channel.kind, "Fluorescence"),
        'ImageResolutionX Unit="m"': resolution,
        'ImageResolutionY Unit="m"': resolution,
        "ImageSizeX": acquisition.shape[4],
        "ImageSizeY": acquisition.shape[3],
        "BinningX": binning,
        "BinningY": binning,
        "MaxIntensity": generation.max_intensity,
        "CameraType": "AndorZylaCam",
        'MainExcitationWavelength Unit="nm"': _number(channel.excitation_nm or 0.0),
        'MainEmissionWavelength Unit="nm"': _number(channel.emission_nm or 0.0),
        'ObjectiveMagnification Unit=""': _number(acquisition.magnification or _MAGNIFICATION),
        'ObjectiveNA Unit=""': _number(acquisition.numerical_aperture or _NUMERICAL_APERTURE),
        'ExposureTime Unit="s"': _number(channel.exposure_s or (0.01 if transmitted else 0.1)),
        **last,
    }


def _planes(acquisition: Acquisition, well: Well) -> Iterator[tuple[Field, PlaneIndex]]:
    n_t, n_c, n_z, _, _ = acquisition.shape
    return ((f, (t, c, z)) for t in range(n_t) for f in well.fields for z in range(n_z) for c in range(n_c))


def flat_field_text(channel: Channel, shape: Sequence[int], coefficients: Profile | None, *, foreground: bool) -> str:
    """Flat field of a channel in Harmony's own, JSON-like notation; the Identity without coefficients."""
    # A quoted name may hold commas and braces, an unquoted one may not.
    name = channel.name if channel.name.replace(" ", "").isalnum() else '"' + channel.name.replace('"', "'") + '"'
    head = f"Channel: {channel.channel_id}, ChannelName: {name}"
    if coefficients is None:
        flat = "Profile: {Type: Identity}, Quality: 1}"
        more = f"Foreground: {{Character: Flat, {flat}, " if foreground else ""
        return f"{{Background: {{Character: Null, {flat}, {head}, {more}Version: Acapella:2013}}"
    rows, columns = shape
    numbers = ", ".join("[" + ", ".join(f"{value:.8g}" for value in row) + "]" for row in coefficients)
    profile = (
        f"Profile: {{Coefficients: [{numbers}], Dims: [{columns}, {rows}], "
        f"Origin: [{(columns - 1) / 2:g}, {(rows - 1) / 2:g}], "
        f"Scale: [{1 / columns:.8g}, {1 / rows:.8g}], Type: Polynomial}}, Quality: 1.0}}"
    )
    more = f"Foreground: {{Character: NonFlat, {profile}, " if foreground else ""
    return (
        f"{{Background: {{Character: NonFlat, Mean: 300.0, NoiseConst: 1.5, {profile}, {head}, {more}"
        "Version: Acapella:2013}"
    )


def _number(value: float) -> str:
    return f"{value:.15G}"

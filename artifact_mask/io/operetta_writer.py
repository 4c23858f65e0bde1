"""Write a measurement the way an Operetta exports it (HarmonyV5), and the truth about a synthetic one beside it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.io.files import write_atomically
from artifact_mask.metadata import Channel, Field, PlaneIndex, Plate, Well

NAMESPACE = "http://www.perkinelmer.com/PEHH/HarmonyV5"
TRUTH_ILLUMINATION_STEP = 8
"""The truth keeps every 8th pixel of the shading, which is smooth, along each axis."""

_XSI = 'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_BOM = "\ufeff"
_WHITE = 4294967295
_SECONDS_PER_IMAGE = 0.6

Profile = Sequence[Sequence[float]]
"""Polynomial of a flat field: ``[n][j]`` is the coefficient of ``u**(n-j) * v**j``."""


@dataclass(frozen=True)
class Instrument:
    """What an index says beside the plate itself.

    Attributes
    ----------
    profiles
        Flat field by channel number; channels without one get the Identity.
    started
        When the measurement began. Fixed by default, so that the same plate gives the same bytes.
    magnification, numerical_aperture
        Of the objective.
    plate_type
        Name of the kind of plate; by default from its number of wells.
    """

    profiles: Mapping[int, Profile] = field(default_factory=dict)
    started: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    magnification: int = 40
    numerical_aperture: float = 0.75
    plate_type: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer of the assay layout: a value for some wells.

    Attributes
    ----------
    name
        Such as Compound.
    value_type
        Harmony's word, ``string`` or ``double``.
    values
        By ``(row, column)`` counted from 1; other wells stay empty.
    """

    name: str
    value_type: str
    values: Mapping[tuple[int, int], str]


def image_name(well: Well, field_id: int, channel_id: int, *, t: int = 0, z: int = 0) -> str:
    """File name that Harmony gives a plane, time and depth counted from 0.

    Examples
    --------
    >>> image_name(Well(2, 3, ()), 1, 1), image_name(Well(2, 3, ()), 100, 2)
    ('r02c03f01p01-ch1sk1fk1fl1.tiff', 'r02c03f100p01-ch2sk1fk1fl1.tiff')
    """
    return f"r{well.row:02d}c{well.column:02d}f{field_id:02d}p{z + 1:02d}-ch{channel_id}sk{t + 1}fk1fl1.tiff"


def write_plane(folder: Path, name: str, plane: NDArray[np.uint16], pixel_size_um: float) -> Path:
    """Write one ``(y, x)`` uint16 plane as Harmony does: one page, one strip, LZW without predictor."""
    path = folder / "Images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    per_cm = 1e4 / pixel_size_um
    tifffile.imwrite(
        path,
        plane,
        photometric="minisblack",
        compression="lzw",
        predictor=1,
        rowsperstrip=plane.shape[0],
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        software=False,
        metadata=None,
    )
    return path


def write_index(folder: Path, plate: Plate, instrument: Instrument | None = None) -> Path:
    """Write ``Images/Index.idx.xml``; no pixel is needed.

    Returns
    -------
    Path
        The index.
    """
    text = "\r\n".join(_index_lines(plate, instrument or Instrument()))
    path = folder / "Images" / "Index.idx.xml"
    write_atomically(path, (_BOM + text).encode("utf-8"))
    return path


def write_assay_layout(folder: Path, plate: Plate, layers: Sequence[Layer]) -> Path:
    """Write ``Assaylayout/<plate>.xml``: which well got what.

    Returns
    -------
    Path
        The layout.
    """
    path = folder / "Assaylayout" / f"{plate.name}.xml"
    text = "\r\n".join(_layout_lines(plate, layers))
    write_atomically(path, (_BOM + text).encode("utf-8"))
    return path


def write_truth(
    folder: Path,
    stem: str,
    *,
    artifacts: NDArray[np.uint8],
    stain: NDArray[np.bool_],
    illumination: NDArray[np.float32],
) -> None:
    """Write what is true of a synthetic field into ``Truth``, beside ``Images``.

    Parameters
    ----------
    folder
        Folder of the measurement.
    stem
        Name of the field's brightfield image, without its ending.
    artifacts
        ``(y, x)`` uint8 classes, kept as ``<stem>_artifacts.png``.
    stain
        ``(y, x)`` bool, kept as ``<stem>_stain.png`` with 255 where true.
    illumination
        ``(y, x)`` float32, kept as ``<stem>_illumination.tif``: every 8th pixel along each axis, from the first on.
    """
    truth = folder / "Truth"
    step = TRUTH_ILLUMINATION_STEP
    shading = io.BytesIO()
    tifffile.imwrite(shading, illumination[::step, ::step], compression="zlib", software=False, metadata=None)
    write_atomically(truth / f"{stem}_artifacts.png", bytes(imagecodecs.png_encode(artifacts)))
    write_atomically(truth / f"{stem}_stain.png", bytes(imagecodecs.png_encode(stain.astype(np.uint8) * np.uint8(255))))
    write_atomically(truth / f"{stem}_illumination.tif", shading.getvalue())


def _index_lines(plate: Plate, instrument: Instrument) -> Iterator[str]:
    plate_type = instrument.plate_type or f"{plate.n_rows * plate.n_columns} wells, simulated"
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield f'<EvaluationInputData {_XSI} Version="1" xmlns="{NAMESPACE}">'
    yield from _tags(2, {"User": "artmask", "InstrumentType": "Sonata"})
    yield "  <Plates>"
    yield "    <Plate>"
    yield from _tags(
        6,
        {
            "PlateID": plate.name,
            "MeasurementID": plate.acquisitions[0].measurement_id,
            "MeasurementStartTime": instrument.started.isoformat(),
            "Name": plate.name,
            "PlateTypeName": plate_type,
            "PlateRows": plate.n_rows,
            "PlateColumns": plate.n_columns,
        },
    )
    for well in plate.wells:
        yield f'      <Well id="{_well_id(well)}" />'
    yield "    </Plate>"
    yield "  </Plates>"
    yield "  <Wells>"
    for well in plate.wells:
        yield "    <Well>"
        yield from _tags(6, {"id": _well_id(well), "Row": well.row, "Col": well.column})
        for of_well, plane in _planes(plate, well):
            yield f'      <Image id="{_image_id(plate, well, of_well, plane)}" />'
        yield "    </Well>"
    yield "  </Wells>"
    yield "  <Maps>"
    yield "    <Map>"
    for channel in plate.acquisitions[0].channels:
        yield f'      <Entry ChannelID="{channel.channel_id}">'
        profile = _flat_field(channel, plate.acquisitions[0].shape[-2:], instrument.profiles.get(channel.channel_id))
        yield from _tags(8, {"FlatfieldProfile": profile})
        yield "      </Entry>"
    yield "    </Map>"
    yield "  </Maps>"
    yield "  <Images>"
    seconds = 0.0
    for well in plate.wells:
        for of_well, plane in _planes(plate, well):
            yield from _image_lines(plate, well, of_well, plane, instrument, seconds)
            seconds += _SECONDS_PER_IMAGE
    yield "  </Images>"
    yield "</EvaluationInputData>"


def _image_lines(
    plate: Plate, well: Well, of_well: Field, plane: PlaneIndex, instrument: Instrument, seconds: float
) -> Iterator[str]:
    t, c, z = plane
    channel = plate.acquisitions[0].channels[c]
    transmitted = channel.kind in ("brightfield", "phase")
    taken = instrument.started + timedelta(seconds=60 + seconds)
    resolution = _number(plate.acquisitions[0].pixel_size_um * 1e-6)
    values = {
        "id": _image_id(plate, well, of_well, plane),
        "State": "Ok",
        "URL": image_name(well, of_well.field_id, channel.channel_id, t=t, z=z),
        "Row": well.row,
        "Col": well.column,
        "FieldID": of_well.field_id,
        "PlaneID": z + 1,
        "TimepointID": t,
        "ChannelID": channel.channel_id,
        "FlimID": 1,
        "ChannelName": channel.name,
        "ImageType": "Signal",
        "AcquisitionType": "NonConfocal",
        "IlluminationType": "Transmitted" if transmitted else "Epifluorescence",
        "ChannelType": {"brightfield": "Brightfield", "phase": "Phase"}.get(channel.kind, "Fluorescence"),
        'ImageResolutionX Unit="m"': resolution,
        'ImageResolutionY Unit="m"': resolution,
        "ImageSizeX": plate.acquisitions[0].shape[4],
        "ImageSizeY": plate.acquisitions[0].shape[3],
        "BinningX": 2,
        "BinningY": 2,
        "MaxIntensity": 65535,
        "CameraType": "AndorZylaCam",
        'PositionX Unit="m"': _number(of_well.x_um * 1e-6),
        # Harmony's y grows upwards, an image's downwards.
        'PositionY Unit="m"': _number(0.0 - of_well.y_um * 1e-6),
        'PositionZ Unit="m"': _number(z * plate.acquisitions[0].z_step_um * 1e-6),
        'AbsPositionZ Unit="m"': _number(0.1375 + z * plate.acquisitions[0].z_step_um * 1e-6),
        'MeasurementTimeOffset Unit="s"': _number(round(seconds, 3) if t else 0.0),
        "AbsTime": taken.isoformat(),
        'MainExcitationWavelength Unit="nm"': _number(channel.excitation_nm or 0.0),
        'MainEmissionWavelength Unit="nm"': _number(channel.emission_nm or 0.0),
        'ObjectiveMagnification Unit=""': instrument.magnification,
        'ObjectiveNA Unit=""': _number(instrument.numerical_aperture),
        'ExposureTime Unit="s"': _number(0.01 if transmitted else 0.1),
        "OrientationMatrix": "[[1,0,0,0],[0,-1,0,0],[0,0,1,0]]",
    }
    yield '    <Image Version="1">'
    yield from _tags(6, values)
    yield "    </Image>"


def _layout_lines(plate: Plate, layers: Sequence[Layer]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield f'<AssayLayout {_XSI} xmlns="{NAMESPACE}">'
    yield from _tags(2, {"PlateCols": plate.n_columns, "PlateRows": plate.n_rows})
    for layer in layers:
        yield "  <Layer>"
        yield from _tags(4, {"Name": layer.name, "ValueType": layer.value_type})
        for row in range(1, plate.n_rows + 1):
            for column in range(1, plate.n_columns + 1):
                value = layer.values.get((row, column), "")
                yield "    <Well>"
                yield from _tags(6, {"Row": row, "Col": column, "Value": value, "Color": _WHITE})
                yield "    </Well>"
        yield "  </Layer>"
    yield "</AssayLayout>"


def _flat_field(channel: Channel, shape: Sequence[int], coefficients: Profile | None) -> str:
    """Flat field of a channel in Harmony's own, JSON-like notation."""
    # A quoted name may hold commas and braces, an unquoted one may not.
    name = channel.name if channel.name.replace(" ", "").isalnum() else '"' + channel.name.replace('"', "'") + '"'
    head = f"Channel: {channel.channel_id}, ChannelName: {name}"
    if coefficients is None:
        flat = "Profile: {Type: Identity}, Quality: 1}"
        return (
            f"{{Background: {{Character: Null, {flat}, {head}, "
            f"Foreground: {{Character: Flat, {flat}, Version: Acapella:2013}}"
        )
    rows, columns = shape
    numbers = ", ".join("[" + ", ".join(f"{value:.8g}" for value in row) + "]" for row in coefficients)
    profile = (
        f"Profile: {{Coefficients: [{numbers}], Dims: [{columns}, {rows}], "
        f"Origin: [{(columns - 1) / 2:g}, {(rows - 1) / 2:g}], "
        f"Scale: [{1 / columns:.8g}, {1 / rows:.8g}], Type: Polynomial}}, Quality: 1.0}}"
    )
    return (
        f"{{Background: {{Character: NonFlat, Mean: 300.0, NoiseConst: 1.5, {profile}, {head}, "
        f"Foreground: {{Character: NonFlat, {profile}, Version: Acapella:2013}}"
    )


def _tags(indent: int, values: Mapping[str, object]) -> Iterator[str]:
    """One element a line; a key may carry attributes after the tag."""
    for tag, value in values.items():
        text = escape(str(value))
        yield " " * indent + (f"<{tag}>{text}</{tag.partition(' ')[0]}>" if text else f"<{tag} />")


def _planes(plate: Plate, well: Well) -> Iterator[tuple[Field, PlaneIndex]]:
    n_t, n_c, n_z, _, _ = plate.acquisitions[0].shape
    return ((f, (t, c, z)) for t in range(n_t) for f in well.fields for z in range(n_z) for c in range(n_c))


def _well_id(well: Well) -> str:
    return f"{well.row:02d}{well.column:02d}"


def _image_id(plate: Plate, well: Well, of_well: Field, plane: PlaneIndex) -> str:
    t, c, z = plane
    return f"{_well_id(well)}K{t + 1}F{of_well.field_id}P{z + 1}R{plate.acquisitions[0].channels[c].channel_id}"


def _number(value: float) -> str:
    return f"{value:.15G}"

"""What a plate is made of: frozen records, free of any file format."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

ChannelKind = Literal["brightfield", "phase", "fluorescence", "unknown"]
NgffVersion = Literal["0.4", "0.5"]
"""Version of OME-NGFF that a plate is written in."""
Harmony = Literal["v4", "v5", "v6", "v7", "columbus"]
"""Generations of the microscope's software, and Columbus."""
FlatField = Literal["none", "harmony"]
"""Whose flat field the pixels are divided by."""

STAGE_LABELS = ("artifacts", "weak", "stain")
"""Label images that `run`, `label` and `stain` write, and write again; all others may be a person's own."""

OD_STEP = 0.005
"""Step in which optical densities are counted: a pixel has the largest multiple that it reaches."""

PIXEL_BYTES = 2
"""Of a camera's pixels, which are uint16."""

ArtifactFill = Literal["median", "background", "inpaint", "nan"]
"""What becomes of artifact pixels in masked images."""

PlaneIndex = tuple[int, int, int]
"""Zero-based ``(t, c, z)`` of a plane in its field."""

FieldKey = tuple[str, int]
"""Path of a well and index of a field in it."""


def row_name(row: int) -> str:
    """Letter name of a plate row counted from 1.

    Examples
    --------
    >>> row_name(2), row_name(27)
    ('B', 'AA')
    """
    letters = ""
    while row > 0:
        row, rest = divmod(row - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def well_path(row: int, column: int) -> str:
    """Path of a well in an OME-Zarr plate, row and column counted from 1.

    Examples
    --------
    >>> well_path(2, 3)
    'B/3'
    """
    return f"{row_name(row)}/{column}"


def seconds_since_1970(time: str) -> float | None:
    """Understand a time in ISO 8601, with any number of decimals; None if it is none, or before 1970.

    Examples
    --------
    >>> seconds_since_1970("2021-03-29T16:51:44.6444882-04:00")
    1617051104.644488
    >>> seconds_since_1970("0001-01-01T00:00:00") is None  # what .NET writes where nothing was set
    True
    """
    try:
        seconds = datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a measurement.

    Attributes
    ----------
    channel_id
        The microscope's own number.
    name
        As entered at the microscope.
    kind
        How the light reached the camera.
    excitation_nm, emission_nm
        Main wavelengths in nanometre.
    exposure_s
        Exposure time in seconds.
    binning
        Camera pixels a side that make one of the image's.

    Notes
    -----
    None stands for what the export does not say.
    """

    channel_id: int
    name: str
    kind: ChannelKind = "unknown"
    excitation_nm: float | None = None
    emission_nm: float | None = None
    exposure_s: float | None = None
    binning: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view of a well.

    Attributes
    ----------
    index
        Zero-based rank of ``field_id`` among all FieldIDs of its acquisition, after those of earlier acquisitions: a
        field missing in one well shifts no other.
    field_id
        The microscope's own number.
    y_um, x_um
        Position of the field in the well in micrometre, y growing downwards as in images.
    z_um
        Height of the lowest plane in micrometre.
    times_s
        When each timepoint was taken, in seconds since the measurement began; empty where the export does not say.
    """

    index: int
    field_id: int
    y_um: float
    x_um: float
    z_um: float = 0.0
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Well:
    """One well.

    Attributes
    ----------
    row, column
        Counted from 1.
    fields
        In the order of their indices.
    layout
        What the assay layout says of it, such as its compound, by layer.
    """

    row: int
    column: int
    fields: tuple[Field, ...]
    layout: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name that people use, such as ``B03``."""
        return f"{row_name(self.row)}{self.column:02d}"

    @property
    def path(self) -> str:
        """Path in an OME-Zarr plate, such as ``B/3``."""
        return well_path(self.row, self.column)


@dataclass(frozen=True)
class Acquisition:
    """One measurement of a plate: fields of view that share a grid and channels.

    Attributes
    ----------
    measurement_id
        What makes this measurement unique; compared when a store is written to again.
    shape
        ``(t, c, z, y, x)`` of every field.
    pixel_size_um, z_step_um
        Sampling in micrometre.
    channels
        In the order of the c axis.
    wells
        In the order of rows, then columns, with the fields of this measurement alone.
    t_step_s
        Median time between timepoints in seconds.
    started
        When it began, as ISO 8601; empty where the export does not say.
    magnification, numerical_aperture
        Of the objective; None where the export does not say.
    flat_field
        Which flat field the pixels were divided by.
    flat_field_profiles
        What the microscope's software found, by channel number.
    """

    measurement_id: str
    shape: tuple[int, int, int, int, int]
    pixel_size_um: float
    z_step_um: float
    channels: tuple[Channel, ...]
    wells: tuple[Well, ...]
    t_step_s: float = 1.0
    started: str = ""
    magnification: float | None = None
    numerical_aperture: float | None = None
    flat_field: FlatField = "none"
    flat_field_profiles: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_planes(self) -> int:
        """Number of (t, c, z) planes of each field."""
        t, c, z, _, _ = self.shape
        return t * c * z

    @property
    def plane_bytes(self) -> int:
        """Size of a plane's pixels, in bytes."""
        return self.shape[-2] * self.shape[-1] * PIXEL_BYTES

    @cached_property
    def field_keys(self) -> list[FieldKey]:
        """Fields over all wells."""
        return [(well.path, field.index) for well in self.wells for field in well.fields]

    def only(self, well_path: str) -> "Acquisition":
        """Return the same acquisition with one well alone."""
        return replace(self, wells=(self._by_path[well_path],))

    @cached_property
    def _by_path(self) -> dict[str, Well]:
        return {well.path: well for well in self.wells}


@dataclass(frozen=True)
class Plate:
    """One plate and what was measured on it.

    Attributes
    ----------
    name
        Name of the plate as entered at the microscope.
    n_rows, n_columns
        Size of the plate.
    acquisitions
        Its measurements, the earliest first.
    barcode
        Of the plate; empty where the export does not say.
    """

    name: str
    n_rows: int
    n_columns: int
    acquisitions: tuple[Acquisition, ...]
    barcode: str = ""

    @cached_property
    def n_fields(self) -> int:
        """Number of fields of view over all acquisitions and wells."""
        return sum(len(acquisition.field_keys) for acquisition in self.acquisitions)

    @cached_property
    def acquisition_of(self) -> dict[FieldKey, int]:
        """Number of the acquisition that each field belongs to."""
        return {key: number for number, acquisition in enumerate(self.acquisitions) for key in acquisition.field_keys}

    @cached_property
    def wells(self) -> tuple[Well, ...]:
        """Wells with the fields of all acquisitions."""
        merged: dict[tuple[int, int], Well] = {}
        for acquisition in self.acquisitions:
            for well in acquisition.wells:
                place = (well.row, well.column)
                before = merged.get(place, Well(*place, ()))
                merged[place] = Well(*place, before.fields + well.fields, {**before.layout, **well.layout})
        return tuple(merged[place] for place in sorted(merged))


@dataclass(frozen=True, slots=True)
class Masking:
    """How a masked image was made.

    Attributes
    ----------
    fill
        What became of the artifact pixels.
    label
        Name of the label image that says where artifacts are.
    model
        Digest of the model that made it.
    flat_field
        Digest of the flat field that the image was divided by; empty for none.
    software
        Version of artmask.
    """

    fill: ArtifactFill
    label: str = "artifacts"
    model: str = ""
    flat_field: str = ""
    software: str = ""

"""What a plate is made of: frozen records, free of any file format."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

ChannelKind = Literal["brightfield", "phase", "fluorescence", "unknown"]


PIXEL_BYTES = 2
"""Of a camera's pixels, which are uint16."""

PlaneIndex = tuple[int, int, int]
"""Zero-based ``(t, c, z)`` of a plane in its field."""


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
        Main wavelengths in nanometre; None where the export does not say.
    """

    channel_id: int
    name: str
    kind: ChannelKind = "unknown"
    excitation_nm: float | None = None
    emission_nm: float | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view of a well.

    Attributes
    ----------
    index
        Zero-based rank of ``field_id`` among all FieldIDs of the plate: a field missing in one well shifts no other.
    field_id
        The microscope's own number.
    y_um, x_um
        Position of the field in the well in micrometre, y growing downwards as in images.
    """

    index: int
    field_id: int
    y_um: float
    x_um: float


@dataclass(frozen=True, slots=True)
class Well:
    """One well; ``row`` and ``column`` are counted from 1."""

    row: int
    column: int
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        """Name that people use, such as ``B03``."""
        return f"{row_name(self.row)}{self.column:02d}"

    @property
    def path(self) -> str:
        """Path in an OME-Zarr plate, such as ``B/3``."""
        return well_path(self.row, self.column)


@dataclass(frozen=True)
class Plate:
    """One measurement of one plate.

    Attributes
    ----------
    name
        Name of the plate as entered at the microscope.
    measurement_id
        What makes this measurement unique; compared when a store is written to again.
    n_rows, n_columns
        Size of the plate.
    shape
        ``(t, c, z, y, x)`` of every field.
    pixel_size_um, z_step_um
        Sampling in micrometre.
    channels
        In the order of the c axis.
    wells
        In the order of rows, then columns.
    """

    name: str
    measurement_id: str
    n_rows: int
    n_columns: int
    shape: tuple[int, int, int, int, int]
    pixel_size_um: float
    z_step_um: float
    channels: tuple[Channel, ...]
    wells: tuple[Well, ...]

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
    def n_fields(self) -> int:
        """Number of fields of view over all wells."""
        return sum(len(well.fields) for well in self.wells)

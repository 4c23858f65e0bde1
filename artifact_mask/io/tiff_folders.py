"""Labelled TIFFs in two folders, ``clean`` and ``artifact``, as a person sorts them by hand."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from artifact_mask.errors import ConfigError
from artifact_mask.metadata import row_name

_SUFFIXES = (".tif", ".tiff")
_HARMONY = re.compile(r"(?P<plate>.*?)(?<![a-z])r(?P<row>\d{2,})c(?P<column>\d{2,})f(?P<field>\d{2,})", re.IGNORECASE)
"""What Harmony's names begin with; a plate may stand before it, and anything after it."""


@dataclass(frozen=True, slots=True)
class LabelledTiff:
    """One image that a person sorted.

    Attributes
    ----------
    path
        The file.
    label
        The folder that it lies in.
    plate, well, field
        What Harmony's name says, the field as it is numbered there. Any other file is a well of its own, called by its
        name.
    """

    path: Path
    label: Literal["clean", "artifact"]
    plate: str
    well: str
    field: int

    @property
    def name(self) -> str:
        """Name with the folder that it lies in."""
        return f"{self.label}/{self.path.name}"


def list_labelled_tiffs(folder: Path) -> list[LabelledTiff]:
    """List the TIFFs of the folders ``clean`` and ``artifact``, by name.

    Raises
    ------
    ConfigError
        If one of the folders is missing, or has no TIFF.
    """
    found = []
    labels: tuple[Literal["clean", "artifact"], ...] = ("clean", "artifact")
    for label in labels:
        try:
            tiffs = list_tiffs(folder / label)
        except OSError as error:
            raise ConfigError(
                f"{folder / label} cannot be listed ({error.strerror or error}). Sort the images into the folders "
                f"clean and artifact of {folder}, or give a table of labels (CSV)."
            ) from error
        if not tiffs:
            raise ConfigError(f"{folder / label} has no TIFF (*.tif, *.tiff). Expected images of both kinds.")
        found += [LabelledTiff(path, label, *find_place(path.stem)) for path in tiffs]
    return found


def list_tiffs(folder: Path) -> list[Path]:
    """TIFFs of a folder, by name.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def find_place(stem: str) -> tuple[str, str, int]:
    """Plate, well and field of an image; one without Harmony's name is a well of its own, called by its name.

    Examples
    --------
    >>> find_place("r02c03f07p01-ch1sk1fk1fl1"), find_place("scan 5")
    (('', 'B03', 7), ('', 'scan 5', 0))
    """
    return parse_harmony_name(stem) or ("", stem, 0)


def parse_harmony_name(stem: str) -> tuple[str, str, int] | None:
    """Plate, well and FieldID that a name of Harmony says; None if it is none.

    Examples
    --------
    >>> parse_harmony_name("Plate01_R02C03F07-corrected")
    ('Plate01', 'B03', 7)
    """
    match = _HARMONY.match(stem)
    if not match or not int(match["row"]) or not int(match["column"]):
        return None
    well = f"{row_name(int(match['row']))}{int(match['column']):02d}"
    return match["plate"].strip(" _-."), well, int(match["field"])

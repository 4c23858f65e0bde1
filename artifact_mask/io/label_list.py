"""The table of labels: which fields, or tiles of fields, a person found clean."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from artifact_mask.errors import ConfigError
from artifact_mask.io.files import write_atomically

Label = Literal["clean", "artifact", "unsure"]
"""What a person says of a place; ``unsure`` is kept, and nothing is learned from it."""

LABELS: tuple[Label, ...] = get_args(Label)
PLACE_COLUMNS = ("plate", "well", "field")
BOX_COLUMNS = ("y0", "x0", "height", "width")

_WELL = re.compile(r"([A-Za-z]{1,2})\s*0*([1-9][0-9]{0,2})", re.ASCII)
_NUMBER = re.compile(r"([0-9]{1,9})(?:\.0+)?", re.ASCII)
_DELIMITERS = ",;\t"


class Box(NamedTuple):
    """A tile of a field, in pixels of its full resolution.

    Attributes
    ----------
    y0, x0
        First row and column, counted from 0.
    height, width
        Number of rows and columns.
    """

    y0: int
    x0: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class LabelledPlace:
    """What a person said of one field, or of one tile of it.

    Attributes
    ----------
    plate
        Name of the plate, as in the tables.
    well
        Name of the well, such as ``B03``.
    field
        Index of the field in the well, as in the tables.
    label
        What was said.
    box
        The tile; None for the whole field.
    """

    plate: str
    well: str
    field: int
    label: Label
    box: Box | None = None


def read_label_list(path: Path) -> list[LabelledPlace]:
    """Read a table of labels: CSV with ``plate``, ``well``, ``field``, ``label``, and for tiles a box.

    Parameters
    ----------
    path
        Table with a header. Columns may be in any order, further ones are ignored. It may come from a spreadsheet: with
        semicolons or tabs, a byte order mark, Windows' ends of lines, spaces around values, wells such as ``b3``.

    Returns
    -------
    list[LabelledPlace]
        In the order of the table, each place once; ``unsure`` ones, and fields beside tiles, are among them.

    Raises
    ------
    ConfigError
        If the table is not there, is none of labels, is empty, has a row that cannot be understood, or says two
        things of one place. It names the line.
    """
    reader = csv.reader(io.StringIO(text := _read_text(path), newline=""), delimiter=_delimiter(text))
    header: list[str] | None = None
    lines: dict[tuple[object, ...], int] = {}
    places: dict[tuple[object, ...], LabelledPlace] = {}
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _read_header(path, row)
                continue
            place = _read_row(f"{path}, line {reader.line_num}", dict(zip(header, map(str.strip, row), strict=False)))
            key = (place.plate, place.well, place.field, place.box)
            before = places.setdefault(key, place)
            line = lines.setdefault(key, reader.line_num)
            if before.label != place.label:
                raise ConfigError(
                    f"{path}: line {line} says that {_describe(place)} is {before.label}, line {reader.line_num} that "
                    f"it is {place.label}. Keep one of them."
                )
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}. Expected a table (CSV) of labels.") from error
    if header is None or not places:
        raise ConfigError(
            f"{path} has no labels. Expected a header {','.join((*PLACE_COLUMNS, 'label'))} and a row for each place."
        )
    return list(places.values())


def write_label_list(path: Path, places: Iterable[LabelledPlace]) -> None:
    """Write a table of labels that :func:`read_label_list` reads; with boxes if any place has one.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays as it was.
    """
    listed = list(places)
    with_boxes = any(place.box for place in listed)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*PLACE_COLUMNS, "label", *(BOX_COLUMNS if with_boxes else ())))
    for place in listed:
        box: Sequence[int | str] = (place.box or ("",) * len(BOX_COLUMNS)) if with_boxes else ()
        writer.writerow((place.plate, place.well, place.field, place.label, *box))
    write_atomically(path, text.getvalue().encode())


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}. Give a table of labels, such as the one that the page "
            "of `artmask label-sheet` saves."
        ) from error
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not text in UTF-8 (byte {error.start}). In Excel, save it as `CSV UTF-8`."
        ) from error


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=first.count)


def _read_header(path: Path, row: list[str]) -> list[str]:
    header = [cell.strip().lower() for cell in row]
    missing = [name for name in (*PLACE_COLUMNS, "label") if name not in header]
    if missing:
        raise ConfigError(
            f"{path} has no column {missing[0]!r}; found {', '.join(header)[:200]}. "
            f"Expected {', '.join((*PLACE_COLUMNS, 'label'))}, and for tiles {', '.join(BOX_COLUMNS)}."
        )
    twice = [name for name in (*PLACE_COLUMNS, "label", *BOX_COLUMNS) if header.count(name) > 1]
    if twice:
        raise ConfigError(f"{path} has the column {twice[0]!r} twice. Remove one of them.")
    return header


def _read_row(where: str, row: dict[str, str]) -> LabelledPlace:
    plate = row.get("plate", "")
    if not plate:
        raise ConfigError(f"{where}: no plate is named. Expected its name, as in the plate's tables.")
    well = _WELL.fullmatch(row.get("well", ""))
    if not well:
        raise ConfigError(f"{where}: {row.get('well', '')!r} is not a well. Expected a row and a column, such as B03.")
    label = row.get("label", "").lower()
    if label not in LABELS:
        raise ConfigError(f"{where}: {row.get('label', '')!r} is not a label. Expected one of {', '.join(LABELS)}.")
    return LabelledPlace(
        plate=plate,
        well=f"{well[1].upper()}{int(well[2]):02d}",
        field=_number(where, "field", row.get("field", "")),
        label=label,
        box=_read_box(where, row),
    )


def _read_box(where: str, row: dict[str, str]) -> Box | None:
    values = {name: row.get(name, "") for name in BOX_COLUMNS}
    absent = [name for name, value in values.items() if not value]
    if len(absent) == len(values):
        return None
    if absent:
        raise ConfigError(f"{where}: {', '.join(absent)} is empty. Expected all of {', '.join(BOX_COLUMNS)}, or none.")
    box = Box(**{name: _number(where, name, value) for name, value in values.items()})
    if not (box.height and box.width):
        raise ConfigError(f"{where}: a tile of {box.height} x {box.width} pixels. Expected at least one.")
    return box


def _number(where: str, name: str, text: str) -> int:
    found = _NUMBER.fullmatch(text)
    if not found:
        raise ConfigError(f"{where}: {name} is {text!r}. Expected a whole number from 0.")
    return int(found[1])


def _describe(place: LabelledPlace) -> str:
    tile = f", tile at y0={place.box.y0}, x0={place.box.x0}" if place.box else ""
    return f"{place.plate} {place.well} field {place.field}{tile}"

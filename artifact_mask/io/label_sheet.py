"""The label sheet: one HTML file on which a person says which fields, or tiles of them, are clean."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from artifact_mask.io.files import write_atomically
from artifact_mask.io.label_list import Box
from artifact_mask.io.page import fill_page, join_scripts, json_text, read_part, script_source

_PAGE = files("artifact_mask.io") / "label_sheet_page"
_SCRIPTS = ("table.js", "labels.js", "view.js", "overview.js", "main.js")


@dataclass(frozen=True, slots=True)
class SheetField:
    """One field of a sheet.

    Attributes
    ----------
    plate
        Name of the plate, as in the tables.
    well
        Name of the well, such as ``B03``.
    field
        Index of the field in the well, as in the tables.
    shape
        ``(y, x)`` of the field at full resolution, in pixels.
    picture, thumbnail
        JPEG files of the whole field, at any size.
    boxes
        Tiles to judge one by one, a full grid in reading order; empty if the field is judged as a whole.
    """

    plate: str
    well: str
    field: int
    shape: tuple[int, int]
    picture: bytes
    thumbnail: bytes
    boxes: tuple[Box, ...] = ()


def save_label_sheet(path: Path, fields: Sequence[SheetField]) -> None:
    """Write a label sheet.

    Parameters
    ----------
    path
        HTML file to write; its name also names the tables that the sheet saves.
    fields
        What to show, in this order.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays as it was.

    Notes
    -----
    The file needs nothing beside it and no network, which its security policy rules out. 100 fields of 720 x 720 pixels
    make about 12 MB, of 1080 x 1080 pixels about 26 MB; a browser decodes only those that are shown.

    Labels are kept by the browser under a digest of the places, so that a sheet that is written anew with the same
    places goes on where it was.
    """
    listed = [
        {
            "plate": field.plate,
            "well": field.well,
            "field": field.field,
            "shape": field.shape,
            "boxes": field.boxes,
        }
        for field in fields
    ]
    sheet = {
        "digest": hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32],
        "name": path.stem,
        "fields": listed,
    }
    script = join_scripts(_PAGE, _SCRIPTS)
    page = {
        "title": html.escape(path.stem),
        "policy": script_source(script),
        "style": read_part(_PAGE, "style.css"),
        "sheet": json_text(sheet),
        "pictures": "\n".join(
            f'<script type="text/plain" id="{kind}-{number}">{base64.b64encode(content).decode()}</script>'
            for number, field in enumerate(fields)
            for kind, content in (("picture", field.picture), ("thumbnail", field.thumbnail))
        ),
        "script": script,
    }
    write_atomically(path, fill_page(_PAGE, page))

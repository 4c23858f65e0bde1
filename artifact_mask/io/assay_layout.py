"""Assay layouts of Harmony: what each well of a plate holds."""

import math
import re
from contextlib import closing

from artifact_mask.errors import ExportError
from artifact_mask.io.harmony_index import MAX_ROWS_OR_COLUMNS
from artifact_mask.io.harmony_xml import children_of, local_name, read_elements, text_of
from artifact_mask.location import Location

MAX_LAYOUT_BYTES = 64 * 1024**2
MAX_LAYERS = 1000

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TEXT_TYPES = ("", "string", "text")

WellPlace = tuple[int, int]
"""Row and column of a well, counted from 1."""


def read_layout(file: Location) -> dict[WellPlace, dict[str, str | float]]:
    """Read an assay layout.

    Returns
    -------
    dict[WellPlace, dict[str, str | float]]
        Values by the name of their layer, for each well that has one. A layer is of numbers if its type says so and
        all its values are numbers, of texts otherwise.

    Raises
    ------
    ExportError
        If the file cannot be read, or is no assay layout.

    Notes
    -----
    Wells without a row and a column that a plate can have are passed over. A layer of the same name as an earlier one
    is told apart by a number, as in ``Compound (2)``; one without a name is ``Layer 3``.
    """
    wells: dict[WellPlace, dict[str, str | float]] = {}
    names: set[str] = set()
    with closing(read_elements(file, ("Layer",), max_bytes=MAX_LAYOUT_BYTES)) as elements:
        root, _ = next(elements)
        if root != "AssayLayout":
            raise ExportError(f"{file} is no assay layout: its root is <{root[:80]}>, expected <AssayLayout>.")
        for number, (_, layer) in enumerate(elements, 1):
            if number > MAX_LAYERS:
                raise ExportError(f"{file} has more than {MAX_LAYERS} layers; it is not read.")
            children = children_of(layer)
            name = _unused(text_of(children.get("Name")) or f"Layer {number}", names)
            texts = {}
            for child in layer:
                if local_name(child.tag) == "Well":
                    well = children_of(child)
                    place = _place(text_of(well.get("Row"))), _place(text_of(well.get("Col")))
                    if all(place) and (value := text_of(well.get("Value"))):
                        texts[place] = value
            value_type = text_of(children.get("ValueType")).lower()
            for place, typed in _typed(texts, value_type).items():
                wells.setdefault(place, {})[name] = typed
    return wells


def _unused(name: str, names: set[str]) -> str:
    unused, number = name, 1
    while unused in names:
        number += 1
        unused = f"{name} ({number})"
    names.add(unused)
    return unused


def _place(text: str) -> int:
    """Row or column; 0 for what is none."""
    value = int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else 0
    return value if value <= MAX_ROWS_OR_COLUMNS else 0


def _typed(texts: dict[WellPlace, str], value_type: str) -> dict[WellPlace, str | float]:
    if value_type not in _TEXT_TYPES:
        numbers = {place: _number(text) for place, text in texts.items()}
        if None not in numbers.values():
            return {place: number for place, number in numbers.items() if number is not None}
    return dict(texts)


def _number(text: str) -> float | None:
    text = text.replace(",", ".", 1) if "." not in text else text
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None

"""Read the numbers of Harmony's XML: what is none is told, or absent."""

import math

MAX_ID = 2**31 - 1
MAX_IMAGE_SIDE_PX = 65_536

METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "\u00b5m": 1e-6, "\u03bcm": 1e-6, "nm": 1e-9}
"""Units of length."""
SECONDS = {"s": 1.0, "ms": 1e-3}
"""Units of time."""


def read_id(text: str, tag: str) -> int:
    """Return a whole number from 0 on.

    Raises
    ------
    ValueError
        If it is none.
    """
    digits = text.strip()
    if digits.isdecimal() and digits.isascii() and len(digits) <= 10 and (value := int(digits)) <= MAX_ID:
        return value
    raise ValueError(f"{tag} is {shown(text)}, expected a whole number of at most {MAX_ID}")


def read_number(text: str) -> float:
    """Return a number as a float, NaN for what is none."""
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def shown(text: str) -> str:
    """Text for a message, cut short where it is long."""
    return text if len(text) <= 40 and text.isprintable() and text else repr(text[:40])


def read_count(text: str, largest: int) -> int:
    """Return a whole number from 1 on, 0 for anything else."""
    return value if text.isdecimal() and text.isascii() and len(text) < 10 and (value := int(text)) <= largest else 0

"""Flat-field profiles as Harmony writes them: text like JSON, but without its quotes."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from artifact_mask.errors import ExportError
from artifact_mask.io.harmony_values import MAX_IMAGE_SIDE_PX
from artifact_mask.io.harmony_xml import attribute_of, children_of, read_elements, text_of
from artifact_mask.kernels.flat_field import Polynomial, evaluate_polynomial
from artifact_mask.location import Location

MAX_PROFILE_CHARACTERS = 1024**2
MAX_DEPTH = 32
MAX_DEGREE = 16
MAX_FFC_BYTES = 64 * 1024**2
MAX_SCALED_DISTANCE = 10.0
MIN_MEAN = 0.1

_N_SAMPLED = 32

_SPACE = re.compile(r"\s*")
_KEY = re.compile(r"[^\s,:{}\[\]\"][^,:{}\[\]\"]*")
_BARE = re.compile(r"[^,{}\[\]]*")
# A quote ends a name only where the name may end: names hold commas, brackets and even quotes.
_QUOTED = re.compile(r'"(.*?)"(?=\s*(?:[,:}\]]|$))', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TEXTS = {"ChannelName"}
"""Keys whose values are text, even where they look like a number."""

_FLAT = {"null", "flat"}


def parse_profile(text: str) -> dict[str, Any]:
    """Parse a flat-field profile.

    Returns
    -------
    dict[str, Any]
        Text, numbers, lists and dictionaries. NaN and INF become None, so that it can be stored as JSON.

    Raises
    ------
    ExportError
        If it is too long, nested too deep, or not well-formed.

    Examples
    --------
    >>> parse_profile('{Character: NonFlat, Mean: NaN, Channel: {Name: "405ex, 570-630-em)"}, Version: Acapella:2013}')
    {'Character': 'NonFlat', 'Mean': None, 'Channel': {'Name': '405ex, 570-630-em)'}, 'Version': 'Acapella:2013'}
    """
    if len(text) > MAX_PROFILE_CHARACTERS:
        raise ExportError(
            f"a flat-field profile has {len(text)} characters; {MAX_PROFILE_CHARACTERS} are read at most."
        )
    parser = _Parser(text.removeprefix("\ufeff"))
    profile: dict[str, Any] = parser.whole()
    return profile


def background_polynomial(profile: Mapping[str, Any]) -> Polynomial | None:
    """Flat field to divide by: the polynomial of a profile's background.

    Parameters
    ----------
    profile
        As from :func:`parse_profile`, or as read back from JSON.

    Returns
    -------
    Polynomial | None
        None where Harmony found the background flat, or nothing to tell by.

    Raises
    ------
    ExportError
        If the profile claims a polynomial and has none that can be evaluated.
    """
    background = profile.get("Background")
    if background is None:
        return None
    shape = _mapping(background, "Background").get("Profile")
    if shape is None or str(background.get("Character")).lower() in _FLAT:
        return None
    shape = _mapping(shape, "Background.Profile")
    kind = str(shape.get("Type") or ("Polynomial" if "Coefficients" in shape else "Identity"))
    if kind.lower() == "identity":
        return None
    if kind.lower() != "polynomial":
        raise ExportError(
            f"the flat-field profile is of Type {kind[:40]!r}, expected Polynomial or Identity. "
            "Ingest without Harmony's flat field."
        )
    n_x, n_y = (_side(value) for value in _list(shape.get("Dims"), "Dims", 2))
    origin_x, origin_y = (_finite(value, "Origin") for value in _list(shape.get("Origin"), "Origin", 2))
    scale_x, scale_y = (_finite(value, "Scale") for value in _list(shape.get("Scale"), "Scale", 2))
    farthest = max(
        abs((edge - origin) * scale)
        for n, origin, scale in ((n_x, origin_x, scale_x), (n_y, origin_y, scale_y))
        for edge in (0, n)
    )
    if farthest > MAX_SCALED_DISTANCE:
        raise _not_a_polynomial(f"Origin and Scale place the edge at {farthest:g}, expected about 0.5")
    polynomial = Polynomial(
        coefficients=_coefficients(shape.get("Coefficients")),
        origin=(origin_x, origin_y),
        scale=(scale_x, scale_y),
        shape=(n_y, n_x),
    )
    mean = float(evaluate_polynomial(polynomial, (_N_SAMPLED, _N_SAMPLED)).mean())
    if not MIN_MEAN <= mean <= 1 / MIN_MEAN:
        raise _not_a_polynomial(f"its mean is {mean:g}, expected 1")
    return polynomial


def read_ffc_profile(file: Location) -> dict[int, str]:
    """Read the profiles of a stand-alone ``FFC_Profile_Measurement N.xml``, as written, by channel number.

    Raises
    ------
    ExportError
        If the file cannot be read, or is something else.
    """
    profiles: dict[int, str] = {}
    with closing(read_elements(file, ("Entry",), max_bytes=MAX_FFC_BYTES)) as elements:
        root, _ = next(elements)
        if root != "Results":
            raise ExportError(f"{file} is no flat-field profile: its root is <{root[:80]}>, expected <Results>.")
        for _, entry in elements:
            channel = (attribute_of(entry, "ChannelID") or "").strip()
            profile = text_of(children_of(entry).get("FlatfieldProfile"))
            if profile and _WHOLE.fullmatch(channel):
                profiles.setdefault(int(channel), profile)
    return profiles


class _Parser:
    """Recursive descent over the text of one profile."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> dict[str, Any]:
        if self._next() != "{":
            raise self._error("{")
        value = self._dictionary()
        if self._next():
            raise self._error("the end")
        return value

    def _next(self) -> str:
        """First character after white space, empty at the end."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
        return self._text[self._at : self._at + 1]

    def _error(self, expected: str) -> ExportError:
        found = self._text[self._at : self._at + 20] or "the end"
        return ExportError(
            f"a flat-field profile cannot be understood at character {self._at}: found {found!r}, expected {expected}."
        )

    def _enter(self) -> None:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExportError(f"a flat-field profile is nested deeper than {MAX_DEPTH} levels; it is not read.")

    def _leave(self) -> None:
        self._at += 1
        self._depth -= 1

    def _dictionary(self) -> dict[str, Any]:
        self._enter()
        found: dict[str, Any] = {}
        if self._next() == "}":
            self._leave()
            return found
        while True:
            key = self._key()
            if key in found:
                raise self._error(f"{key[:40]!r} only once")
            if self._next() != ":":
                raise self._error(": after a key")
            self._at += 1
            found[key] = self._value(text=key in _TEXTS, may_be_empty=True)
            if self._ends("}"):
                return found

    def _list(self) -> list[Any]:
        self._enter()
        found: list[Any] = []
        if self._next() == "]":
            self._leave()
            return found
        while True:
            found.append(self._value(text=False, may_be_empty=False))
            if self._ends("]"):
                return found

    def _ends(self, bracket: str) -> bool:
        """Pass over a comma or the closing bracket, and tell whether it was that."""
        match self._next():
            case ",":
                self._at += 1
                return False
            case character if character == bracket:
                self._leave()
                return True
        raise self._error(f", or {bracket}")

    def _key(self) -> str:
        pattern = _QUOTED if self._next() == '"' else _KEY
        return self._match(pattern, "a key").strip()

    def _value(self, *, text: bool, may_be_empty: bool) -> Any:
        match self._next():
            case "{":
                return self._dictionary()
            case "[":
                return self._list()
            case '"':
                return self._match(_QUOTED, "a closing quote")
        bare = self._match(_BARE, "a value").strip()
        if not bare and not may_be_empty:
            raise self._error("a value")
        return bare if text else _from_bare(bare)

    def _match(self, pattern: re.Pattern[str], expected: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(expected)
        self._at = match.end()
        return match[1] if pattern is _QUOTED else match[0]


def _from_bare(text: str) -> str | int | float | None:
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else None
    return None if _NO_NUMBER.fullmatch(text) else text


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _not_a_polynomial(f"{name} is {str(value)[:40]!r}, expected {{...}}")
    return value


def _list(value: Any, name: str, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise _not_a_polynomial(f"{name} is {str(value)[:40]!r}, expected {length or 'a list of'} numbers")
    return value


def _side(value: Any) -> int:
    side = _finite(value, "Dims")
    if side != round(side) or not 1 <= side <= MAX_IMAGE_SIDE_PX:
        raise _not_a_polynomial(f"Dims has {side}, expected 1 to {MAX_IMAGE_SIDE_PX} pixels")
    return round(side)


def _finite(value: Any, name: str) -> float:
    # With this and MAX_SCALED_DISTANCE, no polynomial of the degrees allowed overflows.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise _not_a_polynomial(f"{name} has {str(value)[:40]!r}, expected a number")
    return float(value)


def _coefficients(value: Any) -> tuple[tuple[float, ...], ...]:
    rows = _list(value, "Coefficients")
    if not 1 <= len(rows) <= MAX_DEGREE + 1:
        raise _not_a_polynomial(f"Coefficients has {len(rows)} rows, expected 1 to {MAX_DEGREE + 1}")
    return tuple(
        tuple(_finite(number, "Coefficients") for number in _list(row, "Coefficients", degree + 1))
        for degree, row in enumerate(rows)
    )


def _not_a_polynomial(reason: str) -> ExportError:
    return ExportError(
        f"the flat-field profile has no usable polynomial: {reason}. Ingest without Harmony's flat field."
    )

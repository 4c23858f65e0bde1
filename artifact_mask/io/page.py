"""Pages in one file, which need no server and no network: their scripts are named by digests, text stays text."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 85


def encode_jpeg(grey: NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> bytes:
    """Encode an image ``(y, x)`` uint8 as a JPEG file."""
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(grey), level=quality, optimize=True))


def join_scripts(folder: Traversable, names: Iterable[str]) -> str:
    """Put the scripts of a page into one, in which nothing is seen from outside."""
    script = "\n".join(read_part(folder, name) for name in names)
    return f'"use strict";\n(() => {{\n{script}}})();\n'


def script_source(script: str) -> str:
    """Name a script as a security policy does that lets it run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def json_text(document: Any) -> str:
    """Write a document for a script element: text of any kind stays text, since no tag can begin in it."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def fill_page(folder: Traversable, values: Mapping[str, str]) -> bytes:
    """Put values into the places ``{{name}}`` of ``page.html``; what is in them is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], read_part(folder, "page.html")).encode()


def read_part(folder: Traversable, name: str) -> str:
    """Read a part of a page."""
    return (folder / name).read_text(encoding="utf-8")

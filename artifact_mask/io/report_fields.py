"""Fields of a report: their pictures, as text that a script reads when a well is opened."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

from artifact_mask.io.page import json_text


class Outline(NamedTuple):
    """Outlines of some artifacts.

    Attributes
    ----------
    path
        Of SVG, as :func:`artifact_mask.kernels.outline_paths.draw_path` writes it.
    grey
        Of the masked image there, 0..255; None where it is not known.
    """

    path: str
    grey: int | None


class Picture(NamedTuple):
    """A small picture of a field.

    Attributes
    ----------
    jpeg
        The field as it was taken.
    shape
        ``(y, x)`` that the outlines are drawn on, in pixels.
    outlines
        What was found.
    n_left_out
        Objects, the smallest, for whose outlines there is no room.
    has_labels
        Whether it is known where artifacts are; a field without labels is not a clean one.
    error
        Why there is no picture; empty where there is one.
    """

    jpeg: bytes = b""
    shape: tuple[int, int] = (1, 1)
    outlines: tuple[Outline, ...] = ()
    n_left_out: int = 0
    has_labels: bool = False
    error: str = ""


def encode_pictures(pictures: Sequence[Picture]) -> str:
    """Write the pictures of a well for a script element."""
    return json_text(
        [
            {"error": picture.error}
            if picture.error
            else {
                "jpeg": base64.b64encode(picture.jpeg).decode(),
                "size": [picture.shape[1], picture.shape[0]],
                "outlines": picture.outlines,
                "left": picture.n_left_out,
                "labelled": picture.has_labels,
            }
            for picture in pictures
        ]
    )

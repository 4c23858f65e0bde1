"""Kinds of values that several configurations have."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from upath import UPath

from artifact_mask.location import StoreLocation

Places = Annotated[
    tuple[StoreLocation, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str | Path | UPath) else given),
]
"""One plate or folder, or several."""


def _split_names(given: Any) -> Any:
    """Names in one text, with commas between them."""
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
"""Names, also in one text with commas between them."""

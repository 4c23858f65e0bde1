"""Where a plate is: a path of this machine, or a URL of an object store such as ``s3://bucket/plate.zarr``."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from upath import UPath

Location = Path | UPath
"""A local path is always a :class:`pathlib.Path`, anything else a :class:`upath.UPath`; both have the same methods."""


def to_location(place: str | Location) -> Location:
    """Understand a path, which is made absolute for workers elsewhere, or a URL.

    Examples
    --------
    >>> to_location("memory://screen/plate1.zarr").name
    'plate1.zarr'
    """
    text = str(place)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    if text.startswith("file://"):
        return Path(UPath(text).path)
    # Other machines write to the same store: a listing that was remembered would be a wrong one.
    return UPath(text, use_listings_cache=False)


def _check(place: Any) -> Any:
    return to_location(place) if isinstance(place, str | Path | UPath) else place


StoreLocation = Annotated[Path | UPath, BeforeValidator(_check), PlainSerializer(str, return_type=str)]
"""Type of a location in a configuration, where it is written as text."""

LocalPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""Type of a path in a configuration; absolute, for workers elsewhere."""

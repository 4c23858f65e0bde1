"""Where a plate is: a path of this machine, or a URL of an object store such as ``s3://bucket/plate.zarr``."""

import os
from pathlib import Path
from typing import Annotated, Any

from fsspec import get_filesystem_class
from pydantic import AfterValidator, PlainSerializer, PlainValidator
from upath import UPath

from artifact_mask.errors import ConfigError, StorageError

Location = Path | UPath
"""A local path is always a :class:`pathlib.Path`, anything else a :class:`upath.UPath`; both have the same methods."""

_S3 = {
    # A file is read with one request: with more, s3fs first asks for its size, to read the parts side by side.
    "max_concurrency": 1,
    # Beyond the default of five, with pauses of up to a second, two, four ...: half a minute of "slow down" is usual.
    "config_kwargs": {"retries": {"mode": "legacy", "total_max_attempts": 6}},
}


def to_location(place: str | Location) -> Location:
    """Understand a path, which is made absolute for workers elsewhere, or a URL.

    Raises
    ------
    ConfigError
        If it is a URL of a kind that is not known, or needs a package that is not installed.

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
    protocol = text.partition("://")[0]
    _require_filesystem(protocol, text)
    # Other machines write to the same store: a listing that was remembered would be a wrong one.
    options: dict[str, Any] = {"use_listings_cache": False} | (_S3 if protocol in ("s3", "s3a") else {})
    given = place.storage_options if isinstance(place, UPath) else {}
    url: UPath = UPath(text, **(options | dict(given)))
    return url


def read_bytes(file: Location) -> bytes:
    """Read a file with a single request: UPath's own method asks for the size first."""
    return file.read_bytes() if isinstance(file, Path) else bytes(file.fs.cat_file(file.path))


def list_folders(folder: Location) -> list[str]:
    """Names of the folders in a folder, sorted; none if it is not there."""
    try:
        if isinstance(folder, Path):
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        listed = folder.fs.ls(folder.path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in listed if entry["type"] == "directory")


def require_reachable(place: Location) -> None:
    """Make sure that a store answers, whether or not there is something at the place.

    Raises
    ------
    StorageError
        If it does not, or refuses: each kind of store has errors of its own.
    """
    if not isinstance(place, Path):
        try:
            place.exists()
        except Exception as error:
            raise StorageError(
                f"{place} cannot be reached: {error}. Check the URL, the network, and the credentials of the store."
            ) from error


def _require_filesystem(protocol: str, url: str) -> None:
    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        raise ConfigError(
            f"{url}: there is no kind of store {protocol!r}. Give a path, or a URL such as s3://."
        ) from error
    except ImportError as error:
        extra = ': pip install "artmask[s3]"' if protocol in ("s3", "s3a") else f" ({error})"
        raise ConfigError(f"{url} needs a package that is not installed{extra}") from error
    if any(character in url for character in "*?["):
        raise ConfigError(f"{url}: the characters * ? [ have a meaning in URLs of stores. Choose another name.")


def _check(place: Any) -> Location:
    if not isinstance(place, str | Path | UPath):
        raise ValueError("Input should be a path or a URL")
    return to_location(place)


StoreLocation = Annotated[
    Path | UPath, PlainValidator(_check, json_schema_input_type=str), PlainSerializer(str, return_type=str)
]
"""Type of a location in a configuration, where it is written as text."""

LocalPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""Type of a path in a configuration; absolute, for workers elsewhere."""

"""Files of a store, of which a reader wants parts."""

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from artifact_mask.location import Location

_JSON = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")


class Resource(NamedTuple):
    """Something that can be read in parts.

    Attributes
    ----------
    size
        In bytes.
    kind
        Media type.
    read
        Reads the bytes from one number up to another, which it does not include.
    """

    size: int
    kind: str
    read: Callable[[int, int], bytes]


def find_file(root: Location, path: Sequence[str]) -> Resource | None:
    """Find a file below a folder.

    Parameters
    ----------
    root
        The folder; a local one without symbolic links in its path.
    path
        Names of the folders that lead to the file, and its own.

    Returns
    -------
    Resource | None
        None where there is no such file, or the path leads out of the folder, by its names or by symbolic links.
    """
    if not path or any(part in ("", ".", "..") or set(part) & set("/\\\0") for part in path):
        return None
    kind = "application/json" if path[-1] in _JSON else "application/octet-stream"
    if isinstance(root, Path):
        return _find_local(root, root.joinpath(*path), kind)
    file = "/".join([root.path.rstrip("/"), *path])
    try:
        info = root.fs.info(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if info["type"] != "file":
        return None
    return Resource(info["size"], kind, lambda start, stop: root.fs.cat_file(file, start=start, end=stop))


def _find_local(root: Path, file: Path, kind: str) -> Resource | None:
    try:
        real = file.resolve(strict=True)
        found = os.stat(real)
    except PermissionError:
        raise  # what cannot be read is not the same as a chunk that is absent
    except OSError:
        return None
    if not real.is_relative_to(root) or not stat.S_ISREG(found.st_mode):
        return None
    return Resource(found.st_size, kind, partial(_read_part, real))


def _read_part(file: Path, start: int, stop: int) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(start)
        return opened.read(stop - start)

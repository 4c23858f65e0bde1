"""Files that are either whole or not there, and the proof that they have not changed."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import google_crc32c


class FileStamp(NamedTuple):
    """Size in bytes and crc32c of a file's content."""

    size: int
    crc32c: int


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, and rename it: a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def stamp_files(root: Path, folders: list[Path]) -> dict[str, FileStamp]:
    """Stamp every file below some folders, after making sure that each has reached the disk.

    Returns
    -------
    dict[str, FileStamp]
        By path relative to ``root``, sorted.
    """
    stamps = {}
    for file in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            content = handle.read()
        stamps[file.relative_to(root).as_posix()] = FileStamp(len(content), google_crc32c.value(content))
    return stamps


def files_have_sizes(root: Path, stamps: dict[str, FileStamp]) -> bool:
    """Whether every stamped file is there with its size; contents are not read."""
    try:
        return all((root / name).stat().st_size == stamp.size for name, stamp in stamps.items())
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Files that are either whole or not there, and the proof that they have not changed."""

import os
import tempfile
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import google_crc32c

Key = TypeVar("Key", bound=Hashable)
_SYNC_THREADS = 8
# Temporary files are private; what they become is as readable as any other new file. The mask can only be read by
# setting it, which is safe once, before there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)


class FileStamp(NamedTuple):
    """Size in bytes and crc32c of a file's content."""

    size: int
    crc32c: int


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file under a temporary name and rename it: a reader sees all of it or none.

    Parameters
    ----------
    path
        Where to; folders are made.
    content
        All of it.
    sync
        Whether to wait until it is on the disk. Not needed for files that :func:`stamp_files` syncs together.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file as a whole, unless it has this content already."""
    if not (path.is_file() and path.read_bytes() == content):
        write_atomically(path, content)


def stamp_files(root: Path, folders: Mapping[Key, list[Path]]) -> dict[Key, dict[str, FileStamp]]:
    """Stamp every file below some folders, after making sure that each has reached the disk.

    Parameters
    ----------
    root
        What the files' names are relative to.
    folders
        Folders by their owner.

    Returns
    -------
    dict[Key, dict[str, FileStamp]]
        For each owner its files, by path relative to ``root``, sorted.
    """
    files = {
        owner: sorted(file for folder in owned for file in folder.rglob("*") if file.is_file())
        for owner, owned in folders.items()
    }
    every = [file for owned in files.values() for file in owned]
    # Together: the disk serves many waits at once, and on a cold disk each is milliseconds.
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        stamps = dict(zip(every, pool.map(_sync_and_stamp, every), strict=True))
        list(pool.map(_sync_folder, {file.parent for file in every}))
    return {
        owner: {file.relative_to(root).as_posix(): stamps[file] for file in owned} for owner, owned in files.items()
    }


def files_have_sizes(root: Path, stamps: dict[str, FileStamp]) -> bool:
    """Whether every stamped file is there with its size; contents are not read."""
    try:
        return all((root / name).stat().st_size == stamp.size for name, stamp in stamps.items())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder have reached the disk; Windows neither needs nor allows it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_and_stamp(file: Path) -> FileStamp:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
        content = handle.read()
    return FileStamp(len(content), google_crc32c.value(content))

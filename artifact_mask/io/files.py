"""Files that are either whole or not there, and the proof that they have not changed."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import IO, NamedTuple, Self

import google_crc32c
from upath import UPath

from artifact_mask.location import Location, read_bytes

_SYNC_THREADS = 4
_PUT_THREADS = 8
_REMOVALS = 3
# One set of threads for all tasks of a process: an object store answers many requests in the time of one.
_PUTS = ThreadPoolExecutor(_PUT_THREADS, thread_name_prefix="artmask-put")
_ROOM = BoundedSemaphore(2 * _PUT_THREADS)
"""What waits to be sent is in memory."""
# Temporary files are private; what they become is as readable as any other new file. The mask can only be read by
# setting it, which is safe once, before there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)


class FileStamp(NamedTuple):
    """Size in bytes and crc32c of a file's content."""

    size: int
    crc32c: int


class StagedFiles:
    """Files that are written apart from their place, and put there together by :func:`publish`.

    Until then nothing of them is seen, and whoever removes the staging folder makes sure that they never will be. In an
    object store, where a file appears whole or not at all, they are sent to their places at once, and :func:`publish`
    waits until they are there.

    Parameters
    ----------
    root
        Store that the files belong to; stamps are named relative to it.
    staging
        Existing folder on the same file system. Not used for an object store.

    Attributes
    ----------
    stamps
        Sizes and checksums of what was written with ``stamped=True``, by path relative to ``root``.
    """

    def __init__(self, root: Location, staging: Location) -> None:
        self.root = root
        self.stamps: dict[str, FileStamp] = {}
        self._renames: list[tuple[str, str]] = []
        self._puts: list[Future[None]] = []
        self._folder = f"{staging}/{uuid.uuid4().hex}"

    def write(self, path: Location, content: bytes, *, stamped: bool = True) -> None:
        """Write a file of the store.

        Parameters
        ----------
        path
            Where it belongs, below the root.
        content
            All of it.
        stamped
            False for a file that is shared with later stages, which will change it.
        """
        if stamped:
            name = str(path)[len(str(self.root)) + 1 :]
            self.stamps[name] = FileStamp(len(content), google_crc32c.value(content))
        if isinstance(path, Path):
            with open(self._stage(path), "wb") as file:
                file.write(content)
        else:
            self._put(partial(path.fs.pipe_file, path.path, content))

    def write_if_changed(self, path: Location, content: bytes) -> None:
        """Write a file that is not stamped, unless it has this content already."""
        if isinstance(path, Path):
            if not _has_content(path, content):
                self.write(path, content, stamped=False)
        else:
            self._put(partial(_put_if_changed, path, content))

    @contextmanager
    def open(self, path: Location) -> Iterator[IO[bytes]]:
        """Open a file of the store, which is not stamped, to write more than the memory holds."""
        if isinstance(path, Path):
            with open(self._stage(path), "wb") as file:
                yield file
        else:
            # Sent when it is whole: what closes the store's own file after an error would publish a torn one.
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                path.fs.put_file(file.name, path.path)

    def restart(self) -> None:
        """Forget what an attempt has written that failed, and begin anew."""
        self.discard()
        self.stamps.clear()

    def discard(self) -> None:
        """Forget what is not published yet; what is on its way to an object store arrives before this returns."""
        for put in self._puts:
            put.exception()
        self._puts.clear()
        if self._renames:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._renames.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _stage(self, path: Path) -> str:
        """Make room for a file; where to write it until it is published."""
        if not self._renames:
            os.mkdir(self._folder)
        temporary = f"{self._folder}/{len(self._renames)}"
        self._renames.append((temporary, str(path)))
        return temporary

    def _put(self, send: Callable[[], None]) -> None:
        _ROOM.acquire()
        put = _PUTS.submit(send)
        put.add_done_callback(lambda _: _ROOM.release())
        self._puts.append(put)

    def _await_puts(self) -> None:
        for put in self._puts:
            put.result()


def publish(batch: Iterable[StagedFiles]) -> None:
    """Put staged files to their places, after all of them have reached the disk.

    Raises
    ------
    FileNotFoundError
        If the staging folder was removed, by a run that took over.
    """
    staged = list(batch)
    for files in staged:
        files._await_puts()
    renames = [rename for files in staged for rename in files._renames]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        _sync_all(pool, [temporary for temporary, _ in renames])
        folders = sorted({os.path.dirname(path) for _, path in renames})
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
        for temporary, path in renames:
            os.replace(temporary, path)
        _sync_all(pool, folders)
    for files in staged:
        files.discard()


def remove_others(folders: Sequence[Location], root: Location, keep: Mapping[str, FileStamp]) -> None:
    """Remove every file below some folders of a store but those that are named."""
    prefix = len(str(root)) + 1
    for folder in folders:
        if isinstance(folder, Path):
            for parent, _, names in os.walk(folder, topdown=False):
                for name in names:
                    path = f"{parent}/{name}"
                    if path[prefix:] not in keep:
                        os.unlink(path)
                with suppress(OSError):  # not empty
                    os.rmdir(parent)
        else:
            _remove_from_store(folder, prefix, keep)


def sizes_in(root: Location) -> Callable[[str], int]:
    """Make a function that tells the size of a file of a store by its name, and -1 where there is none."""
    if not isinstance(root, Path):
        # One listing of thousands of names takes as long as asking for one of them.
        start = len(root.path) + 1
        found = {path[start:]: entry["size"] for path, entry in root.fs.find(root.path, detail=True).items()}
        return lambda name: found.get(name, -1)
    base = f"{root}/"

    def size(name: str) -> int:
        try:
            return os.stat(base + name).st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1

    return size


def check_stamps(root: Location, stamps: Mapping[str, FileStamp]) -> dict[str, str]:
    """Read files and compare them with their stamps.

    Returns
    -------
    dict[str, str]
        What is wrong, by the name of the file; empty if all is well.
    """
    check = partial(_check_stamp, root)
    if isinstance(root, Path):
        found = list(map(check, stamps, stamps.values()))
    else:
        with ThreadPoolExecutor(_PUT_THREADS) as pool:
            found = list(pool.map(check, stamps, stamps.values()))
    return {name: wrong for name, wrong in zip(stamps, found, strict=True) if wrong}


def _check_stamp(root: Location, name: str, stamp: FileStamp) -> str | None:
    try:
        content = read_bytes(root / name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "missing"
    if len(content) != stamp.size:
        return f"{len(content)} bytes instead of {stamp.size}"
    if google_crc32c.value(content) != stamp.crc32c:
        return "content changed since it was written (crc32c differs)"
    return None


def write_atomically(path: Location, content: bytes) -> None:
    """Write one file under a temporary name and rename it: a reader sees all of it or none."""
    if not isinstance(path, Path):
        path.fs.pipe_file(path.path, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        _sync(str(path.parent))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def put_file(source: Path, path: Location) -> None:
    """Copy a file of this machine to a place where a reader sees all of it or none."""
    if not isinstance(path, Path):
        path.fs.put_file(str(source), path.path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, path)
        _sync(str(path.parent))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_from_store(folder: UPath, prefix: int, keep: Mapping[str, FileStamp]) -> None:
    start = len(folder.path) - len(str(folder)) + prefix  # without the scheme
    for _ in range(_REMOVALS):
        stale = [path for path in folder.fs.find(folder.path) if path[start:] not in keep]
        if not stale:
            return
        # S3 answers that all is well, and lists what it did not remove; s3fs leaves that list unread.
        folder.fs.rm(stale)
    raise PermissionError(f"{folder}: files are not removed, or come back, such as {stale[0]}")


def _has_content(path: Location, content: bytes) -> bool:
    try:
        return read_bytes(path) == content
    except (FileNotFoundError, NotADirectoryError):
        return False


def _put_if_changed(path: UPath, content: bytes) -> None:
    if not _has_content(path, content):
        path.fs.pipe_file(path.path, content)


def _sync_all(pool: ThreadPoolExecutor, paths: Sequence[str]) -> None:
    """Sync files or folders together: the disk serves many waits at once, and on a cold disk each is milliseconds."""

    def sync_share(first: int) -> None:
        for path in paths[first::_SYNC_THREADS]:
            _sync(path)

    # A task a thread: a task a file costs more than to sync it. As many threads as files, which is none for none.
    list(pool.map(sync_share, range(min(_SYNC_THREADS, len(paths)))))


def _sync(path: str) -> None:
    """Make sure that a file, or the names in a folder, have reached the disk; Windows cannot for a folder."""
    if os.name != "posix" and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

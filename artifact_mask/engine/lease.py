"""Who works on a plate: a numbered lease with a heartbeat, so that two runs never write into one store.

Each run on a plate takes the next number, its epoch, by creating a file that must not exist yet. The highest number
holds the plate. A holder that has died is noticed by its silence alone, so that no clock has to agree with another.
"""

import json
import os
import platform
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

from artifact_mask.errors import LeaseError
from artifact_mask.location import Location, read_bytes

BEAT_S = 5.0
SILENCE_S = 30.0
"""A holder that has not been heard of for so long is taken for dead."""
_DOCUMENT_BYTES = 1024
"""Fixed, so that a heartbeat overwrites the file in place: it needs no space on a full disk and never comes back after
a successor has removed it."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, or held it last.

    Attributes
    ----------
    epoch
        Number of the lease.
    stage
        What is done.
    host, pid
        The process.
    machine, pid_started
        What tells whether a process with this number is still that one.
    beat
        Counted up by each heartbeat.
    released
        Whether the run has ended by itself.
    token
        Of this lease alone.
    """

    epoch: int
    stage: str
    host: str
    pid: int
    machine: str
    pid_started: float
    beat: int = 0
    released: bool = False
    token: str = ""

    def __str__(self) -> str:
        return f"{self.stage}, process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Lease:
    """The right to write into a plate, until a run with a higher epoch takes over."""

    folder: Location
    epoch: int

    @property
    def is_held(self) -> bool:
        """Whether no other run has taken over."""
        return _latest_epoch(self.folder) == self.epoch

    def require(self) -> None:
        """Refuse to go on without the lease.

        Raises
        ------
        LeaseError
            If another run has taken over.
        """
        if not self.is_held:
            raise LeaseError(
                f"Another run has taken over {self.folder.parent}: this one was not heard of for {SILENCE_S:.0f} s, or "
                "its records were removed. What it had finished is kept."
            )


@contextmanager
def hold_lease(
    folder: Location, stage: str, *, beat_s: float = BEAT_S, silence_s: float = SILENCE_S
) -> Iterator[Lease]:
    """Take the lease of a plate, keep it alive, and give it back.

    Parameters
    ----------
    folder
        Of the plate's leases.
    stage
        What it is taken for.
    beat_s
        Time between two heartbeats.
    silence_s
        Time without one after which another run's lease is taken over. A dead process of this machine is taken over at
        once.

    Raises
    ------
    LeaseError
        If another run is alive.
    """
    holder = _take(folder, stage, silence_s)
    stopped = Event()
    thread = Thread(target=_beat, args=(folder, holder, stopped, beat_s), daemon=True, name="artmask-lease")
    thread.start()
    try:
        yield Lease(folder, holder.epoch)
    finally:
        stopped.set()
        thread.join()


def read_holder(folder: Location) -> Holder | None:
    """Who holds the lease of a plate, or held it last; None if nobody ever did."""
    while epoch := _latest_epoch(folder):
        holder = _read(folder, epoch)
        if holder is not None:
            return holder
        # Removed since it was listed: there is a later one.
    return None


def is_alive(folder: Location, holder: Holder, *, silence_s: float = SILENCE_S) -> bool:
    """Whether the holder of a lease is at work; takes up to ``silence_s`` where it cannot be asked for directly."""
    if holder.released:
        return False
    if holder.machine == _machine():
        return _process_runs(holder.pid, holder.pid_started)
    # Its clock may differ from ours: whether it is alive shows by its next heartbeat.
    end = time.monotonic() + silence_s
    while time.monotonic() < end:
        time.sleep(min(1.0, silence_s / 10))
        now = _read(folder, holder.epoch)
        if now is None or now.released:
            return False
        if now.beat != holder.beat:
            return True
    return False


def require_no_holder(folder: Location, *, silence_s: float = SILENCE_S) -> Holder | None:
    """Make sure that nobody is at work on a plate; who was the last, if anybody. Nothing is written.

    Raises
    ------
    LeaseError
        If another run is alive.
    """
    holder = read_holder(folder)
    if holder is not None and is_alive(folder, holder, silence_s=silence_s):
        raise LeaseError(
            f"{folder.parent} is in use by another run: {holder}. Wait for it, or stop it; a run that died is "
            f"noticed within {silence_s:.0f} s."
        )
    return holder


def _take(folder: Location, stage: str, silence_s: float) -> Holder:
    while True:
        holder = require_no_holder(folder, silence_s=silence_s)
        me = _me((holder.epoch if holder else 0) + 1, stage)
        try:
            _create(folder, me)
        except FileExistsError:
            continue  # another one was faster
        epochs = _epochs(folder)
        if max(epochs) == me.epoch:
            _drop(folder, [epoch for epoch in epochs if epoch < me.epoch])
            return me
        # While we looked at a dead holder two others came, one after the other, and our number was free again.
        _drop(folder, [me.epoch])


def _drop(folder: Location, epochs: Iterable[int]) -> None:
    for epoch in sorted(epochs):
        with suppress(FileNotFoundError):
            _remove(_file(folder, epoch))


def _beat(folder: Location, holder: Holder, stopped: Event, beat_s: float) -> None:
    values = vars(holder)
    for beat in range(1, sys.maxsize):
        ended = stopped.wait(beat_s)
        # A disk or a store that is full or away for a moment is the run's trouble, not the lease's; each kind of store
        # has errors of its own.
        with suppress(Exception):
            if _latest_epoch(folder) != holder.epoch:
                return
            _overwrite(folder, Holder(**{**values, "beat": beat, "released": ended}))
        if ended:
            return


def _me(epoch: int, stage: str) -> Holder:
    me = psutil.Process()
    return Holder(epoch, stage, socket.gethostname(), me.pid, _machine(), me.create_time(), token=uuid.uuid4().hex)


def _machine() -> str:
    """Name this machine since its start, and the processes that can be seen on it."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _process_runs(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < 1
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _file(folder: Location, epoch: int) -> Location:
    return folder / f"{epoch:08d}.json"


def _epochs(folder: Location) -> list[int]:
    try:
        paths = os.listdir(folder) if isinstance(folder, Path) else folder.fs.find(folder.path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [path.rpartition("/")[2].removesuffix(".json") for path in paths]
    return [int(name) for name in names if name.isdigit()]


def _latest_epoch(folder: Location) -> int:
    return max(_epochs(folder), default=0)


def _encode(holder: Holder) -> bytes:
    return json.dumps(vars(holder)).encode().ljust(_DOCUMENT_BYTES)


def _read(folder: Location, epoch: int) -> Holder | None:
    try:
        return Holder(**json.loads(read_bytes(_file(folder, epoch))))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        # Created a moment ago and not written yet, or damaged: its heartbeat will tell.
        return Holder(epoch, "a run", "another machine", 0, "", 0.0)


def _remove(file: Location) -> None:
    if isinstance(file, Path):
        file.unlink()
    else:
        file.fs.rm_file(file.path)


def _create(folder: Location, holder: Holder) -> None:
    file = _file(folder, holder.epoch)
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as handle:
            try:
                handle.write(_encode(holder))
                handle.flush()
            except OSError:
                # On a full disk: left empty, it would look like the lease of a run that may be alive.
                file.unlink()
                raise
    else:
        try:
            file.fs.pipe_file(file.path, _encode(holder), mode="create")
        except FileExistsError:
            # A request whose answer was lost is sent again, and then finds what it has created itself.
            if _read(folder, holder.epoch) != holder:
                raise


def _overwrite(folder: Location, holder: Holder) -> None:
    file = _file(folder, holder.epoch)
    if isinstance(file, Path):
        with file.open("r+b") as handle:
            handle.write(_encode(holder))
    else:
        file.fs.pipe_file(file.path, _encode(holder))

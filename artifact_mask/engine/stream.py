"""Send units to a cluster, a bounded number at a time, and isolate those that fail."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from distributed import Client, Future, KilledWorker, as_completed
from distributed.protocol.pickle import dumps, loads

from artifact_mask.engine.cluster import SCHEDULER_LOST
from artifact_mask.engine.journal import Unit
from artifact_mask.engine.placement import task_resources
from artifact_mask.errors import ClusterError, LeaseError, ModelError, StorageError

Receipt = TypeVar("Receipt")
WINDOW_PER_WORKER = 4
"""Two at work, one or two that wait beside them: the window is filled up when one a worker is missing."""
_HOPELESS = (StorageError, ModelError, LeaseError)
"""Errors that every other unit would meet as well."""
_LOOK_AT_WORKERS_S = 2.0
_MISS_WORKERS_S = 120.0
_MOST_FORGOTTEN = 5
_SCHEDULER_ANSWERS_S = 20.0


@dataclass(frozen=True)
class Work(Generic[Receipt]):
    """A unit of some plate, and how to make a task of it.

    Attributes
    ----------
    unit
        What to do.
    bind
        Makes the task of a unit, or of a part of it, with no more of the campaign in it than that needs; the task runs
        on a worker and returns something small.
    name
        Prefix of the task's key: the same for the units of one run on one plate, and for no other.
    """

    unit: Unit
    bind: Callable[[Unit], Callable[[], Receipt]]
    name: str


@dataclass(frozen=True)
class Outcome(Generic[Receipt]):
    """What became of a unit: a receipt, or the error that a unit of a single field ended with."""

    work: Work[Receipt]
    receipt: Receipt | None
    error: BaseException | None = None


@dataclass(frozen=True)
class _Attempt(Generic[Receipt]):
    work: Work[Receipt]
    number: int = 0

    @property
    def key(self) -> str:
        # Dask answers a key that it knows with the earlier result, or error: each attempt has its own.
        return f"{self.work.name}-{self.work.unit.key}-{self.number}"

    def again(self) -> "_Attempt[Receipt]":
        return replace(self, number=self.number + 1)

    def halves(self) -> "list[_Attempt[Receipt]]":
        return [_Attempt(replace(self.work, unit=half)) for half in self.work.unit.halves()]


def stream(
    client: Client, works: Iterable[Work[Receipt]], *, note: Callable[[str], object] = lambda message: None
) -> Iterator[Outcome[Receipt]]:
    """Run units on a cluster and yield the outcomes as they come.

    Parameters
    ----------
    client
        Of the cluster.
    works
        Taken as room becomes free, so that neither client nor scheduler ever holds the campaign.
    note
        Told when all workers have been away for a while; they may be waiting in a batch system's queue.

    Notes
    -----
    A unit that fails is tried once more, then cut in halves until the culprit stands alone. One that takes its worker
    down is cut at once; a single field that was on a worker when it died is tried again with nothing beside it, since
    Dask blames all that were there. The last error of the culprit is yielded and the stream goes on.

    Raises
    ------
    StorageError, ModelError, LeaseError
        As raised by a task: they would meet every unit.
    ClusterError
        If the scheduler is lost. What its tasks have done is then unknown; their records tell.
    """
    waiting = iter(works)
    again: deque[_Attempt[Receipt]] = deque()
    suspects: deque[_Attempt[Receipt]] = deque()
    in_flight: dict[Future[Receipt], _Attempt[Receipt]] = {}
    completed = as_completed(loop=client.loop, with_results=False)
    window = _Window(client, note)

    def take(room: int) -> Iterator[_Attempt[Receipt]]:
        for _ in range(room):
            if again:
                yield again.popleft()
            elif (work := next(waiting, None)) is not None:
                yield _Attempt(work)
            else:
                return

    def submit(attempts: list[_Attempt[Receipt]]) -> None:
        # Together, and below gathered together: the scheduler works less for ten tasks at once than for one ten times.
        tasks = [dumps(attempt.work.bind(attempt.work.unit)) for attempt in attempts]
        keys = [attempt.key for attempt in attempts]
        futures = client.map(_call, tasks, key=keys, pure=False, resources=window.resources)
        in_flight.update(zip(futures, attempts, strict=True))
        completed.update(futures)

    while True:
        room = window.size - len(in_flight)
        if (room >= window.n_workers or not in_flight) and (attempts := list(take(room))):
            submit(attempts)
        alone = not in_flight
        if alone:
            if not suspects:
                return
            submit([suspects.popleft()])
        for future, receipt, error in _results(client, window.next_batch(completed)):
            if isinstance(error, _UnderWayError):
                # Its worker died with the result before it was fetched; the scheduler computes it again.
                completed.add(future)
                continue
            attempt = in_flight.pop(future)
            work = attempt.work
            future.release()
            if error is None:
                yield Outcome(work, receipt)
            elif isinstance(error, _HOPELESS):
                client.cancel(list(in_flight))
                raise error
            elif isinstance(error, _ForgottenError) and attempt.number < _MOST_FORGOTTEN:
                again.append(attempt.again())
            elif isinstance(error, KilledWorker):
                if len(work.unit.fields) > 1:
                    again.extend(attempt.halves())
                elif not alone:
                    suspects.append(attempt.again())
                else:
                    yield Outcome(work, None, error)
            elif attempt.number == 0:
                again.append(attempt.again())
            elif len(work.unit.fields) > 1:
                again.extend(attempt.halves())
            else:
                yield Outcome(work, None, error)


class _ForgottenError(Exception):
    """The scheduler is there, but has lost sight of a task."""


class _UnderWayError(Exception):
    """A task is being computed again."""


class _Window:
    """How much may be in flight, and what each task asks for; workers may come and go."""

    def __init__(self, client: Client, note: Callable[[str], object]) -> None:
        self._client = client
        self._note = note
        self._looked = self._there = -float("inf")
        self.n_workers = 1
        self._resources: dict[str, float] | None = None

    @property
    def size(self) -> int:
        """Units in flight."""
        self._look()
        return WINDOW_PER_WORKER * self.n_workers

    @property
    def resources(self) -> dict[str, float] | None:
        """Share of a worker's resources that a task takes."""
        self._look()
        return self._resources

    def next_batch(self, completed: "as_completed") -> "list[Future[Any]]":
        """Wait for futures that came to an end."""
        batch: list[Future[Any]] = completed.next_batch(block=False)
        while not batch:
            with completed.thread_condition:
                completed.thread_condition.wait(timeout=0.1)
            self._look()
            batch = completed.next_batch(block=False)
        return batch

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_AT_WORKERS_S:
            return
        self._looked = now
        try:
            n_workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
            self._resources = task_resources(self._client)
        except Exception:
            _require_scheduler(self._client)
            return
        self.n_workers = max(1, n_workers)
        if n_workers or self._there < 0:
            self._there = now
        elif now - self._there > _MISS_WORKERS_S:
            self._note(f"No worker has been there for {_MISS_WORKERS_S:.0f} s; the work goes on as soon as one is.")
            self._there = now


def _call(task: bytes) -> Any:
    # In bytes: the scheduler would unpickle a task, import what it is made of, and pickle it again.
    return loads(task)()


def _results(
    client: Client, futures: "list[Future[Receipt]]"
) -> "Iterator[tuple[Future[Receipt], Receipt | None, BaseException | None]]":
    """Pair futures with their receipts or errors."""
    finished = {future.key: future for future in futures if future.status == "finished"}
    receipts: list[Receipt] = []
    with suppress(Exception):
        # Even for nothing, this would ask the scheduler, and wait for one that is lost.
        receipts = client.gather(list(finished.values())) if finished else []
    if not receipts:
        # One was lost with its worker, or failed when it was computed again: see which.
        finished = {}
    yield from ((future, receipt, None) for future, receipt in zip(finished.values(), receipts, strict=True))
    yield from ((future, *_result(client, future)) for future in futures if future.key not in finished)


def _result(client: Client, future: "Future[Receipt]") -> tuple[Receipt | None, BaseException | None]:
    status = future.status
    if status == "cancelled":
        _require_scheduler(client)
        return None, _ForgottenError()
    if status in ("pending", "lost"):
        return None, _UnderWayError()
    try:
        # A result can be lost with its worker, and its second computation can fail.
        return future.result(), None
    except Exception as error:
        return None, error


def _require_scheduler(client: Client) -> None:
    """Make sure that the scheduler answers; after its death every task looks cancelled."""
    try:
        alive = client.sync(_ping, client, callback_timeout=_SCHEDULER_ANSWERS_S)
    except Exception:
        alive = False
    if not alive:
        raise ClusterError(SCHEDULER_LOST)


async def _ping(client: Client) -> bool:
    await client.scheduler.identity(n_workers=0)  # type: ignore[union-attr]
    return client.status == "running"

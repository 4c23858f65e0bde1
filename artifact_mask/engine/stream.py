"""Send units to a cluster, a bounded number at a time, and isolate those that fail."""

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from distributed import Client, Future, KilledWorker, as_completed

from artifact_mask.engine.journal import Unit
from artifact_mask.errors import ModelError, StorageError

Receipt = TypeVar("Receipt")
WINDOW_PER_WORKER = 3
_HOPELESS = (StorageError, ModelError)
"""Errors that every other unit would meet as well."""


@dataclass(frozen=True)
class Outcome(Generic[Receipt]):
    """What became of a unit: a receipt, or the error that a unit of a single field ended with."""

    unit: Unit
    receipt: Receipt | None
    error: BaseException | None = None


def stream(
    client: Client, bind: Callable[[Unit], Callable[[], Receipt]], units: Iterable[Unit], *, name: str
) -> Iterator[Outcome[Receipt]]:
    """Run a task over units and yield the outcomes as they come.

    Parameters
    ----------
    client
        Of the cluster.
    bind
        Makes the task of a unit, with no more of the campaign in it than the unit needs; the task runs on a worker and
        returns something small.
    units
        Taken as room becomes free, so that neither client nor scheduler ever holds the campaign.
    name
        Prefix of the tasks' keys.

    Notes
    -----
    A unit that fails, or takes its worker down, is cut in halves until the culprit stands alone; that one is yielded
    with its error and the stream goes on.

    Raises
    ------
    StorageError, ModelError
        As raised by a task: they would meet every unit.
    """
    waiting = iter(units)
    halves: deque[Unit] = deque()
    suspects: deque[Unit] = deque()
    in_flight: dict[Future[Receipt], Unit] = {}
    completed = as_completed(with_results=False)
    window = WINDOW_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    # Dask answers a key that it knows with the earlier result, or error.
    token = uuid.uuid4().hex[:8]

    def submit(unit: Unit) -> None:
        future = client.submit(bind(unit), key=f"{name}-{unit.key}-{token}-{next(numbers)}", pure=False)
        in_flight[future] = unit
        completed.add(future)

    numbers = count()
    while True:
        while len(in_flight) < window and (unit := halves.popleft() if halves else next(waiting, None)) is not None:
            submit(unit)
        alone = not in_flight
        if alone:
            if not suspects:
                return
            submit(suspects.popleft())
        future = next(completed)
        while future.status in ("pending", "lost"):
            # Its worker died with the result before it was fetched; the scheduler computes it again.
            completed.add(future)
            future = next(completed)
        unit = in_flight.pop(future)
        receipt, error = _result(future)
        future.release()
        if error is None:
            yield Outcome(unit, receipt)
        elif isinstance(error, _HOPELESS):
            client.cancel(list(in_flight))
            raise error
        elif len(unit.fields) > 1 and not isinstance(error, ConnectionError):
            halves.extend(unit.halves())
        elif isinstance(error, KilledWorker) and not alone:
            # Dask blames all that were on the worker: who is guilty kills it alone, too.
            suspects.append(unit)
        else:
            yield Outcome(unit, None, error)


def _result(future: "Future[Receipt]") -> tuple[Receipt | None, BaseException | None]:
    if future.status == "cancelled":
        return None, ConnectionError("the scheduler was lost")
    try:
        # A result can be lost with its worker, and its second computation can fail.
        return future.result(), None
    except Exception as error:
        return None, error

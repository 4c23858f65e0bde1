"""Send units to a cluster, a bounded number at a time, and isolate those that fail."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from distributed import Client, Future, as_completed

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
    in_flight: dict[Future[Receipt], Unit] = {}
    completed = as_completed(with_results=False)

    def submit(unit: Unit) -> None:
        future = client.submit(bind(unit), key=f"{name}-{unit.key}", pure=False)
        in_flight[future] = unit
        completed.add(future)

    window = WINDOW_PER_WORKER * len(client.scheduler_info(n_workers=-1)["workers"])
    for unit in islice(waiting, window):
        submit(unit)
    for future in completed:
        unit = in_flight.pop(future)
        if future.status == "finished":
            yield Outcome(unit, future.result())
        else:
            error = future.exception() if future.status == "error" else ConnectionError("the scheduler was lost")
            if isinstance(error, _HOPELESS):
                client.cancel(list(in_flight))
                raise error
            if len(unit.fields) > 1 and future.status == "error":
                for half in unit.halves():
                    submit(half)
            else:
                yield Outcome(unit, None, error)
        future.release()
        if len(in_flight) < window:
            following = next(waiting, None)
            if following is not None:
                submit(following)

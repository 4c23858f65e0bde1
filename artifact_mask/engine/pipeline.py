"""Inside a task: read what comes next and write what is ready while the device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


def overlap(
    items: Iterable[Item],
    *,
    read: Callable[[Item], Prepared],
    compute: Callable[[list[Prepared]], list[Computed]],
    write: Callable[[Item, Prepared, Computed], Result],
    batch: int,
    threads: int,
) -> Iterator[tuple[Item, Result | Exception]]:
    """Take items through three steps that overlap, and yield what became of each, in order.

    Parameters
    ----------
    items
        What to process.
    read
        First step, in a thread. At most two batches are read ahead.
    compute
        Second step: a whole batch in the calling thread, one result for each.
    write
        Third step, in a thread. At most two batches wait to be written.
    batch
        Items that are computed together.
    threads
        That read and write.

    Notes
    -----
    An error is the outcome of its item alone. If a batch cannot be computed, its items are computed one by one.
    """
    waiting = iter(items)
    reading: deque[tuple[Item, Future[Prepared]]] = deque()
    writing: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="artmask-overlap") as pool:
        while True:
            while len(reading) < 2 * batch and (item := next(waiting, _END)) is not _END:
                reading.append((item, pool.submit(read, item)))  # type: ignore[arg-type]
            if not reading:
                break
            prepared = []
            for _ in range(min(batch, len(reading))):
                item, future = reading.popleft()
                if error := future.exception():
                    yield item, _plain(error)
                else:
                    prepared.append((item, future.result()))
            for (item, source), (computed, error) in zip(
                prepared, _compute_each(compute, [p for _, p in prepared]), strict=True
            ):
                if error is not None:
                    yield item, error
                else:
                    writing.append((item, pool.submit(write, item, source, *computed)))
            while len(writing) > 2 * batch:
                yield _wait(writing.popleft())
        while writing:
            yield _wait(writing.popleft())


_END = object()


def _compute_each(
    compute: Callable[[list[Prepared]], list[Computed]], batch: list[Prepared]
) -> Iterator[tuple[list[Computed], Exception | None]]:
    """For each of a batch a list of its one result, or an error."""
    try:
        results = compute(batch) if batch else []
    except Exception as error:
        if len(batch) == 1:
            yield [], error
        else:
            for prepared in batch:
                yield from _compute_each(compute, [prepared])
    else:
        yield from (([result], None) for result in results)


def _wait(entry: tuple[Item, "Future[Any]"]) -> tuple[Item, Any]:
    item, future = entry
    error = future.exception()
    return (item, future.result()) if error is None else (item, _plain(error))


def _plain(error: BaseException) -> Exception:
    """Let what is not an ordinary error, such as an interrupt, through."""
    if not isinstance(error, Exception):
        raise error
    return error

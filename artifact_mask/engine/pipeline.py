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
            taken = [reading.popleft() for _ in range(min(batch, len(reading)))]
            results = deque(_compute_each(compute, [f.result() for _, f in taken if not _error(f)]))
            for item, future in taken:
                if _error(future):
                    writing.append((item, future))  # type: ignore[arg-type]
                    continue
                computed, error = results.popleft()
                if error is None:
                    writing.append((item, pool.submit(write, item, future.result(), *computed)))
                else:
                    failed: Future[Result] = Future()
                    failed.set_exception(error)
                    writing.append((item, failed))
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
        yield from (([result], None) for _, result in zip(batch, results, strict=True))


def _wait(entry: tuple[Item, "Future[Any]"]) -> tuple[Item, Any]:
    item, future = entry
    return item, _error(future) or future.result()


def _error(future: "Future[Any]") -> Exception | None:
    """Wait for a step and return its error; what is not an ordinary error, such as an interrupt, is raised."""
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error

"""What the command line shows: a progress bar, notes, and a summary at the end."""

import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from artifact_mask.workflows.progress import Summary

if TYPE_CHECKING:
    import pandas as pd

MAX_FAILURES_SHOWN = 20
_SWALLOWERS = ("_gc_callback", "__del__")
"""Functions in which Python prints and drops an exception: Dask's hook into the garbage collector, and finalisers."""


class ConsoleProgress:
    """A progress bar for each stage on a terminal, a line every tenth of the work in a log file.

    While it is entered, SIGTERM, which a batch system sends, ends a command as Ctrl-C does, with its worker processes.
    """

    def __init__(self) -> None:
        self._interrupted = False
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("fields, {task.fields[failed]} failed"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._stage = ""
        self._task: TaskID | None = None
        self._done = self._failed = self._total = 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if kind is KeyboardInterrupt:
            self.note("Interrupted. What was finished is kept; the same command goes on from there.")

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(escape(message), soft_wrap=True, highlight=False)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Start the bar of a stage."""
        self._stage, self._total, self._done, self._failed = stage, total, done, 0
        self._task = self._bars.add_task(stage, total=total, completed=done, failed=0)
        resumed = f", {done} of them finished by an earlier run" if done else ""
        self.note(f"{stage}: {total} fields{resumed}")

    def advance(self, fields: int, failed: int) -> None:
        """Move the bar on."""
        if self._interrupted:
            raise KeyboardInterrupt
        before = self._done
        self._done += fields
        self._failed += failed
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, failed=self._failed)
        tenth = max(1, self._total // 10)
        if not self._console.is_terminal and (before // tenth != self._done // tenth or self._done == self._total):
            self.note(f"{self._stage}: {self._done}/{self._total} fields, {self._failed} failed")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        while frame is not None:
            if frame.f_code.co_name in _SWALLOWERS:
                return  # raised at the next report instead
            frame = frame.f_back
        raise KeyboardInterrupt


def print_summary(summary: Summary) -> int:
    """Say what was written and what failed; return the exit code."""
    console = Console(highlight=False)
    n_new = summary.n_fields - summary.n_resumed
    rate = f" ({n_new / summary.seconds:.1f} fields/s)" if n_new else ""
    console.print(f"{summary.n_fields} fields, {n_new} of them now, in {summary.seconds:.1f} s{rate}")
    width = max(len(name) for name in summary.outputs)
    for name, path in summary.outputs.items():
        console.print(f"  {name:{width}}  {escape(str(path))}", soft_wrap=True)
    if not summary.failures:
        return 0
    console.print(f"[red]{len(summary.failures)} fields failed:[/red]")
    for failure in summary.failures[:MAX_FAILURES_SHOWN]:
        console.print(f"  {failure.well} field {failure.field_id}: {escape(failure.error)}", soft_wrap=True)
    if len(summary.failures) > MAX_FAILURES_SHOWN:
        console.print(f"  ... and {len(summary.failures) - MAX_FAILURES_SHOWN} more; all are in the fields table")
    console.print("Mend what is wrong with them and run the same command again: only these are redone.")
    return 3


def print_table(frame: "pd.DataFrame") -> None:
    """Print a table of a plate; spaces in the headers let them break into lines."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in frame.columns:
        table.add_column(str(column).replace("_", " "), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else escape(str(value)) for value in row))
    Console(highlight=False).print(table)


def print_file(label: str, path: Path) -> None:
    """Name a file that was written."""
    Console(highlight=False).print(f"{label}: {escape(str(path))}", soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error to the error stream."""
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/bold red] {escape(message)}", soft_wrap=True)

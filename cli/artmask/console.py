"""What the command line shows: a progress bar, notes, and a summary at the end."""

import json
import signal
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from artifact_mask.workflows.progress import Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from artifact_mask.workflows.status import StageStatus
    from artifact_mask.workflows.training import Training

MAX_FAILURES_SHOWN = 20
RATE_OVER_S = 300.0
LINE_EVERY_S = 60.0
_SWALLOWERS = ("_gc_callback", "__del__")
"""Functions in which Python prints and drops an exception: Dask's hook into the garbage collector, and finalisers."""


class ConsoleProgress:
    """A progress bar for each stage on a terminal; in a log file a line every tenth of the work, or every minute.

    While it is entered, SIGTERM, which a batch system sends, ends a command as Ctrl-C does, with its worker processes.
    """

    def __init__(self) -> None:
        self._interrupted = False
        self._handlers: dict[int, Any] = {}
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("fields{task.fields[state]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._stage = ""
        self._task: TaskID | None = None
        self._done = self._failed = self._total = self._plates_left = 0
        self._rate = Rate()

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt:
            self.note("Interrupted. What was finished is kept; the same command goes on from there.")

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(escape(message), soft_wrap=True, highlight=False)

    def begin(self, stage: str, total: int) -> None:
        """Start the bar of a stage."""
        self._stage, self._total, self._done, self._failed = stage, total, 0, 0
        self._rate = Rate()
        self._task = self._bars.add_task(stage, total=total or None, state="")
        if total:
            self.note(f"{stage}: {total} fields")

    def expect(self, fields: int, plates_left: int) -> None:
        """Lengthen the bar."""
        self._total += fields
        self._plates_left = plates_left
        if not plates_left:
            self.note(f"{self._stage}: {self._total} fields")
        self._show()

    def resume(self, plate: str, fields: int) -> None:
        """Move the bar over what an earlier run finished."""
        self._done += fields
        self.note(f"{plate}: {fields} fields finished by an earlier run")
        self._show()

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        """Move the bar on."""
        if self._interrupted:
            raise KeyboardInterrupt
        before = self._done
        self._done += fields
        self._failed += failed
        self._rate.add(fields, n_bytes)
        self._show()
        tenth = max(1, self._total // 10)
        is_due = before // tenth != self._done // tenth or self._done == self._total or self._rate.is_line_due()
        if not self._console.is_terminal and is_due:
            self.note(f"{self._stage}: {self._done}/{self._total} fields{self._state}")

    @property
    def _state(self) -> str:
        rate = self._rate.describe(0 if self._plates_left else self._total - self._done)
        to_come = f", {self._plates_left} plates to come" if self._plates_left else ""
        return f", {self._failed} failed{rate}{to_come}"

    def _show(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, total=self._total, state=self._state)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        while frame is not None:
            if frame.f_code.co_name in _SWALLOWERS:
                return  # raised at the next report instead
            frame = frame.f_back
        raise KeyboardInterrupt


class Rate:
    """How fast it goes, over the last minutes, and how long it will take."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int, int]] = deque()
        self._line = time.monotonic()

    def add(self, fields: int, n_bytes: int) -> None:
        """Count fields that came to an end now."""
        _, n_fields, total = self._reports[-1] if self._reports else (0.0, 0, 0)
        self._reports.append((time.monotonic(), n_fields + fields, total + n_bytes))
        while self._reports[-1][0] - self._reports[0][0] > RATE_OVER_S and len(self._reports) > 2:
            self._reports.popleft()

    def is_line_due(self) -> bool:
        """Whether a minute has passed since this was last true."""
        if time.monotonic() - self._line < LINE_EVERY_S:
            return False
        self._line = time.monotonic()
        return True

    def describe(self, n_left: int) -> str:
        """Fields and megabytes a second, and the time left; nothing as long as nothing is known."""
        if len(self._reports) < 2:
            return ""
        # Since the first report: before it the workers started.
        (start, first_fields, first_bytes), (end, fields, n_bytes) = self._reports[0], self._reports[-1]
        if fields == first_fields or end <= start:
            return ""
        per_s = (fields - first_fields) / (end - start)
        left = f", {describe_seconds(n_left / per_s)} left" if n_left else ""
        return f", {per_s:.1f} fields/s, {(n_bytes - first_bytes) / (end - start) / 1e6:.0f} MB/s{left}"


def describe_seconds(seconds: float) -> str:
    """Say a time in two units.

    Examples
    --------
    >>> describe_seconds(42), describe_seconds(150), describe_seconds(7500)
    ('42 s', '2 min 30 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def print_summary(summary: Summary) -> int:
    """Say what was written and what failed; return the exit code."""
    console = Console(highlight=False)
    n_new = summary.n_fields - summary.n_resumed
    several = len({failure.plate for failure in summary.failures}) > 1
    rate = f" ({n_new / summary.seconds:.1f} fields/s)" if n_new else ""
    console.print(f"{summary.n_fields} fields, {n_new} of them now, in {summary.seconds:.1f} s{rate}")
    width = max((len(name) for name in summary.outputs), default=0)
    for name, path in summary.outputs.items():
        console.print(f"  {name:{width}}  {escape(str(path))}", soft_wrap=True)
    for plate, error in summary.refused.items():
        console.print(f"[red]Left out {escape(plate)}:[/red] {escape(error)}", soft_wrap=True)
    for problem in summary.problems[:MAX_FAILURES_SHOWN]:
        console.print(f"[red]Left out[/red] {escape(problem)}", soft_wrap=True)
    if len(summary.problems) > MAX_FAILURES_SHOWN:
        console.print(f"  ... and {len(summary.problems) - MAX_FAILURES_SHOWN} more")
    if not summary.failures:
        return 0 if summary.is_whole else 3
    noun = "field" if len(summary.failures) == 1 else "fields"
    console.print(f"[red]{len(summary.failures)} {noun} failed:[/red]")
    for failure in summary.failures[:MAX_FAILURES_SHOWN]:
        place = f"{failure.plate} {failure.well}" if several else failure.well
        console.print(f"  {escape(place)} field {failure.field_id}: {escape(failure.error)}", soft_wrap=True)
    if len(summary.failures) > MAX_FAILURES_SHOWN:
        console.print(f"  ... and {len(summary.failures) - MAX_FAILURES_SHOWN} more; all are in the fields table")
    console.print("Mend what is wrong with them and run the same command again: only these are redone.")
    return 3


def print_status(statuses: "Sequence[StageStatus]", *, as_json: bool) -> None:
    """Print how far plates are: a table for people, or JSON for scripts."""
    if as_json:
        documents = [{**asdict(s), "n_left": s.n_left, "seconds_left": s.seconds_left} for s in statuses]
        print(json.dumps(documents, indent=1))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("plate", overflow="fold")
    table.add_column("stage")
    for column in ("done", "failed", "left", "fields/s"):
        table.add_column(column, justify="right")
    table.add_column("now", overflow="fold")
    for s in statuses:
        left = f", {describe_seconds(s.seconds_left)} left" if s.seconds_left else ""
        now = (
            f"running: {s.running}{left}"
            if s.running
            else "not ingested"
            if not s.n_fields
            else "finished"
            if not s.n_left
            else "stopped"
            if s.n_done
            else ""
        )
        numbers = (f"{s.n_done}/{s.n_fields}", str(s.n_failed), str(s.n_left), f"{s.fields_per_s:.1f}")
        table.add_row(escape(Path(s.plate).name), s.stage, *numbers, escape(now))
    Console(highlight=False).print(table)


def print_table(frame: "pd.DataFrame") -> None:
    """Print a table of a plate; spaces in the headers let them break into lines."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in frame.columns:
        table.add_column(str(column).replace("_", " "), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else escape(str(value)) for value in row))
    Console(highlight=False).print(table)


def print_classifier_training(training: "Training") -> None:
    """Say how good a classifier is on wells that it has not seen, and where it is."""
    console = _begin_training(training)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{training.n_held_out} held-out tiles")
    for column in ("precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for name in ("clean", "artifact"):
        table.add_row(name, *(f"{training.metrics[f'{kind}_{name}']:.3f}" for kind in ("precision", "recall", "f1")))
    console.print(table)
    print_file("Classifier", training.model)
    print_file("Report", training.report)


def print_unet_training(training: "Training") -> None:
    """Say how good a U-Net is on wells that it has not seen, and where it is."""
    console = _begin_training(training)
    if training.metrics:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(f"{training.n_held_out} held-out fields")
        names = ("precision", "recall", "f1", "iou")
        for column in ("precision", "recall", "F1", "IoU of artifact"):
            table.add_column(column, justify="right")
        for kind, said in (("strict", "all pixels"), ("ring10", "but for 10 px around artifacts")):
            table.add_row(said, *(f"{training.metrics[f'{kind}_{name}']:.3f}" for name in names))
        console.print(table)
        console.print(
            f"{100 * training.metrics['objects_found']:.0f} % of the objects found, "
            f"{training.metrics['false_objects_per_field']:.1f} false ones a field"
        )
    else:
        console.print("No field with artifacts was held out: how good it is, `artmask evaluate` can tell.")
    print_file("U-Net", training.model)
    print_file("Report", training.report)


def _begin_training(training: "Training") -> Console:
    console = Console(highlight=False)
    resumed = f", {training.n_resumed} of them before" if training.n_resumed else ""
    console.print(
        f"{training.n_epochs} epochs{resumed}, the best was {training.best_epoch}, "
        f"in {describe_seconds(training.seconds)}"
    )
    return console


def print_file(label: str, path: Path) -> None:
    """Name a file that was written."""
    Console(highlight=False).print(f"{label}: {escape(str(path))}", soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error to the error stream."""
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/bold red] {escape(message)}", soft_wrap=True)

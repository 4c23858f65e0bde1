"""What the command line shows while it works: a progress bar, and notes."""

import signal
import sys
import time
from collections import deque
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

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
        # Not what rich says: with FORCE_COLOR it takes a log file for a terminal, too.
        self._is_terminal = sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("fields{task.fields[state]}"),
            console=self._console,
            disable=not self._is_terminal,
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
        if not self._is_terminal and is_due:
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

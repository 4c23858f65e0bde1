"""What a workflow tells the one who waits for it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Listener of a workflow; the command line draws a bar, a notebook may ignore it."""

    def note(self, message: str) -> None:
        """Say something that is worth a line."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Announce a stage, its number of fields, and how many of them an earlier run finished."""

    def advance(self, fields: int, failed: int) -> None:
        """Report fields that came to an end, and how many of these failed."""


class Silent:
    """Listener that says nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Say nothing."""

    def advance(self, fields: int, failed: int) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class FieldFailure:
    """A field that failed, and why."""

    well: str
    field_id: int
    error: str


@dataclass(frozen=True)
class Summary:
    """How a workflow ended.

    Attributes
    ----------
    n_fields
        Fields of the plate.
    n_resumed
        Of these, finished by an earlier run.
    failures
        Fields that failed.
    outputs
        What was written, by a word for people.
    seconds
        Wall time.
    """

    n_fields: int
    n_resumed: int
    failures: tuple[FieldFailure, ...]
    outputs: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0

"""What a workflow tells the one who waits for it."""

from dataclasses import dataclass, field
from typing import Protocol

from artifact_mask.location import Location


class Progress(Protocol):
    """Listener of a workflow; the command line draws a bar, a notebook may ignore it."""

    def note(self, message: str) -> None:
        """Say something that is worth a line."""

    def begin(self, stage: str, total: int) -> None:
        """Announce a stage and its number of fields."""

    def resume(self, plate: str, fields: int) -> None:
        """Report fields of a plate that an earlier run finished."""

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        """Report fields that came to an end, how many of these failed, and the size of their pixels."""


class Silent:
    """Listener that says nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Say nothing."""

    def resume(self, plate: str, fields: int) -> None:
        """Say nothing."""

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class FieldFailure:
    """A field that failed, and why."""

    plate: str
    well: str
    field_id: int
    error: str


@dataclass(frozen=True)
class Summary:
    """How a workflow ended.

    Attributes
    ----------
    n_fields
        Fields of all plates.
    n_resumed
        Of these, finished by an earlier run.
    failures
        Fields that failed.
    refused
        Plates that were left out, and why.
    outputs
        What was written, by a word for people.
    seconds
        Wall time.
    """

    n_fields: int
    n_resumed: int
    failures: tuple[FieldFailure, ...]
    refused: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Location] = field(default_factory=dict)
    seconds: float = 0.0

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

    def expect(self, fields: int, plates_left: int) -> None:
        """Report fields that are found on the way, and plates of which it is not known yet how many they have."""

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

    def expect(self, fields: int, plates_left: int) -> None:
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
        Plates or exports that were left out, and why.
    problems
        What of the input could not be understood and was left out.
    outputs
        What was written, by a word for people.
    seconds
        Wall time.
    """

    n_fields: int
    n_resumed: int
    failures: tuple[FieldFailure, ...]
    refused: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    outputs: dict[str, Location] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether nothing failed or was left out."""
        return not (self.failures or self.refused or self.problems)

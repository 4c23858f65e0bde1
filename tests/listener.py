"""A listener of workflows that keeps what it was told."""

from artifact_mask.workflows.progress import Silent


class Listener(Silent):
    """Keeps each call's arguments, in order; of notes the message."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[tuple[str, int]] = []
        self.expected: list[tuple[int, int]] = []
        self.advanced: list[tuple[int, int, int]] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def begin(self, stage: str, total: int) -> None:
        self.begun.append((stage, total))

    def expect(self, fields: int, plates_left: int) -> None:
        self.expected.append((fields, plates_left))

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        self.advanced.append((fields, failed, n_bytes))

"""Write into a store without a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact_mask.io.files import StagedFiles, publish


@contextmanager
def writing(root: Path) -> Iterator[StagedFiles]:
    """Files of a store; they are in their places when the block ends."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as staging, StagedFiles(root, Path(staging)) as files:
        yield files
        publish([files])

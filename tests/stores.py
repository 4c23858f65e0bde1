"""Write into a store without a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact_mask.io.files import StagedFiles, publish
from artifact_mask.location import Location


@contextmanager
def writing(root: Location) -> Iterator[StagedFiles]:
    """Files of a store; they are in their places when the block ends."""
    root.parent.mkdir(parents=True, exist_ok=True)
    on_disk = isinstance(root, Path)
    with (
        tempfile.TemporaryDirectory(dir=root.parent if on_disk else None) as staging,
        StagedFiles(root, Path(staging)) as files,
    ):
        yield files
        publish([files])

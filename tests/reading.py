"""Read the measurements of a folder as one plate."""

from pathlib import Path

from artifact_mask.errors import ExportError
from artifact_mask.io import operetta
from artifact_mask.io.operetta import Export
from artifact_mask.io.operetta_folder import find_measurements


def read_export(path: Path, *, pixel_size_um: float | None = None) -> Export:
    """Read all that is in a folder, or an index file; whatever is wrong is raised."""
    found, problems = find_measurements(path)
    for problem in problems.values():
        raise ExportError(problem)
    return operetta.read_export(found, pixel_size_um=pixel_size_um)

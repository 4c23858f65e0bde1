"""CPU time of each step of a field in `artmask run`, beside the model's own: `python benchmarks/field_cost.py`.

CPU time of the process on simulated fields in a store on disk, one thread and the memory settings of a worker; medians
over fields and rounds. Files are published a unit at a time, as a run does it.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.io.files import StagedFiles, publish
from artifact_mask.io.ome_zarr import read_image_plane, read_missing_planes, write_field, write_labels, write_masked
from artifact_mask.kernels.familiarity import describe_field
from artifact_mask.kernels.field_measurements import measure_plane
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.kernels.masking import fill_with_median
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.metadata import Acquisition, Channel, Field, Masking
from artifact_mask.nn.predict import Segmenter

# As `artifact_mask.engine.cluster` starts its workers; glibc reads them when a process starts.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1024**3),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
}
ACQUISITION = Acquisition(
    measurement_id="cost",
    shape=(1, 2, 1, 1080, 1080),
    pixel_size_um=0.3,
    z_step_um=1.0,
    channels=(Channel(1, "Brightfield", "brightfield", 740.0), Channel(2, "Nuclei", "fluorescence", 375.0, 456.0)),
    wells=(),
)


class Clock:
    """CPU milliseconds a field of named steps, in the order in which they were first taken."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)

    def __call__(self, step: str, call: Callable[..., Any], *arguments: Any, n_fields: int = 1, **options: Any) -> Any:
        """Call, and note the CPU time."""
        start = time.process_time()
        result = call(*arguments, **options)
        self.steps[step].append(1e3 * (time.process_time() - start) / n_fields)
        return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=8, help="of a unit")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        medians = _measure(Path(folder), arguments.fields, arguments.rounds)
    for step, ms in medians.items():
        print(f"{step:16} {ms:6.1f} ms")
    rest = sum(ms for step, ms in medians.items() if step != "predict")
    print(f"{'all but predict':16} {rest:6.1f} ms")
    print(f"{'predict / all':16} {medians['predict'] / (rest + medians['predict']):6.2f}")


def _measure(folder: Path, n_fields: int, n_rounds: int) -> dict[str, float]:
    root, staging = folder / "plate.zarr", folder / "staging"
    staging.mkdir()
    fields = [Field(i, i + 1, 324.0 * i, -324.0 * i) for i in range(n_fields)]
    for field in fields:
        with StagedFiles(root, staging) as files:
            image = draw_scene(ACQUISITION.shape[-2:], seed=field.index, dose=0.5, n_channels=2).image
            planes = [((0, c, 0), pixels) for c, pixels in enumerate(image)]
            write_field(files, root / "B" / "2" / str(field.index), ACQUISITION, field, planes, {})
            publish([files])
    segmenter = Segmenter.load()
    clock = Clock()
    for n_done in range(n_rounds + 1):
        unit = []
        for field in fields:
            unit.append(StagedFiles(root, staging))
            source = root / "B" / "2" / str(field.index)
            # Each round writes to its own place: ext4 is slow to make files where it has just removed some.
            _process(clock, segmenter, unit[-1], field, source, target=root / str(n_done) / str(field.index))
        clock("publish", publish, unit, n_fields=n_fields)
        if n_done == 0:  # warming up
            clock.steps.clear()
    return {step: float(np.median(times)) for step, times in clock.steps.items()}


def _process(clock: Clock, segmenter: Segmenter, files: StagedFiles, field: Field, source: Path, target: Path) -> None:
    """Take a field through the steps of `artifact_mask.workflows.run`."""
    pixels = clock("read", _read, source)
    background = clock("background", estimate_background, pixels)
    contrast = clock("contrast", normalise_by_background, pixels, background)
    probability = clock("predict", segmenter.predict, contrast[np.newaxis])[0]
    card = segmenter.card
    labels = clock("label", label_artifacts, probability, contrast, card.cut())
    mask = labels > 0
    clock("measure", measure_plane, pixels, background, labels)
    clock("describe", describe_field, contrast, mask)
    masked = clock("mask", fill_with_median, pixels, mask)
    clock("write labels", write_labels, files, target, ACQUISITION, field, [((0, 0), labels)], name="artifacts")
    clock(
        "write masked",
        write_masked,
        files,
        target,
        ACQUISITION,
        field,
        0,
        [((0, 0, 0), masked)],
        masking=Masking("median"),
    )


def _read(folder: Path) -> NDArray[np.uint16]:
    read_missing_planes(folder)
    return read_image_plane(folder, ACQUISITION, (0, 0, 0))


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WORKER_ENVIRONMENT)
    main()

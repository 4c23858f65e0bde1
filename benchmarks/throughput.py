"""Rates of ingest and run on a simulated plate, beside a limit and a peer: `python benchmarks/throughput.py`.

The limit is the bare model: it predicts the same fields, held in memory as normalised contrast, in as many processes
and threads as the run has workers, started and warmed up before the clock. The peer is what a user would write: a loop
that reads a TIFF with scikit-image, predicts with all cores, and saves mask and masked image as PNG. Rates of ingest
and run leave out the start of the cluster (they are taken between the first task's end and the last's); the wall time
of each command is given too.

Best on a file system where little was deleted lately: ext4 makes folders several times slower after that.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from dask.system import CPU_COUNT

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.metadata import PIXEL_BYTES
from artifact_mask.workflows.ingest import ingest, read_ingest
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate


class Stopwatch(Silent):
    """Rate of fields between the first and the last report."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, int]] = []

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        """Note the time."""
        if failed:
            raise RuntimeError(f"{failed} fields failed: nothing to measure")
        self.reports.append((time.perf_counter(), fields))

    @property
    def fields_per_s(self) -> float:
        """Fields after the first report, by the time they took."""
        return sum(n for _, n in self.reports[1:]) / (self.reports[-1][0] - self.reports[0][0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", type=int, default=12)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), arguments)


def _measure(folder: Path, arguments: argparse.Namespace) -> None:
    campaign = SimulateConfig(
        dest=folder / "export", wells=arguments.wells, fields=arguments.fields, channels=arguments.channels
    )
    (measurement,) = simulate(campaign)
    field_mb = arguments.channels * campaign.size**2 * PIXEL_BYTES / 1e6
    cluster = ClusterConfig(workers=CPU_COUNT, threads_per_worker=1, dashboard=False)
    ratios = []
    for i in range(arguments.rounds):
        plate = folder / f"plate{i}.zarr"
        watch = Stopwatch()
        summary = ingest(IngestConfig(exports=measurement, dest=plate, fields_per_unit=2, cluster=cluster), watch)
        print(
            f"ingest       {watch.fields_per_s:6.2f} fields/s  {field_mb * watch.fields_per_s:6.1f} MB/s"
            f"  ({summary.seconds:.1f} s for the command)"
        )
        watch = Stopwatch()
        summary = run(RunConfig(plates=(plate,), fields_per_unit=2, cluster=cluster), watch)
        print(f"run          {watch.fields_per_s:6.2f} fields/s  ({summary.seconds:.1f} s for the command)")
        bare = _bare_rate(plate, processes=CPU_COUNT)
        print(f"bare model   {bare:6.2f} fields/s")
        script = _script_rate(measurement / "Images", folder)
        print(f"script       {script:6.2f} fields/s")
        ratios.append((watch.fields_per_s / bare, watch.fields_per_s / script))
        print(f"run / bare   {ratios[-1][0]:6.2f}   run / script {ratios[-1][1]:6.2f}", flush=True)
    to_bare, to_script = np.median(ratios, axis=0)
    print(f"median run / bare {to_bare:.2f}, run / script {to_script:.2f} on {CPU_COUNT} cores")


def _bare_rate(plate: Path, *, processes: int, fields_each: int = 12) -> float:
    os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_predict_in_memory, args=(plate, fields_each, barrier, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    spans = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return processes * fields_each / (max(end for _, end in spans) - min(start for start, _ in spans))


def _predict_in_memory(plate: Path, n_fields: int, barrier: object, results: object) -> None:
    from artifact_mask.nn.predict import Segmenter

    segmenter = Segmenter.load()
    contrasts = []
    for well in read_ingest(plate)[0].plate.wells:
        for field in well.fields:
            if len(contrasts) < n_fields:
                image = np.asarray(open_level(plate / well.path / str(field.index))[0, 0, 0])
                contrasts.append(normalise_by_background(image, estimate_background(image))[np.newaxis])
    segmenter.predict(contrasts[0])
    barrier.wait()  # type: ignore[attr-defined]
    start = time.time()
    for contrast in contrasts:
        segmenter.predict(contrast)
    results.put((start, time.time()))  # type: ignore[attr-defined]


def _script_rate(images: Path, folder: Path, n_fields: int = 24) -> float:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.pop(name, None)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_loop, args=(images, folder, n_fields, results))
    process.start()
    seconds: float = results.get()
    process.join()
    return n_fields / seconds


def _loop(images: Path, folder: Path, n_fields: int, results: object) -> None:
    from skimage.io import imread, imsave

    from artifact_mask.nn.predict import Segmenter

    segmenter = Segmenter.load()
    files = sorted(images.glob("*-ch1*.tiff"))[: n_fields + 1]
    start = 0.0
    for i, file in enumerate(files):
        if i == 1:  # the first warms up
            start = time.perf_counter()
        image = imread(file)
        contrast = normalise_by_background(image, estimate_background(image))
        mask = segmenter.predict(contrast[np.newaxis])[0] >= segmenter.card.threshold
        imsave(folder / "mask.png", mask.astype(np.uint8) * 255, check_contrast=False)
        imsave(folder / "masked.png", np.where(mask, np.median(image), image).astype(np.uint16), check_contrast=False)
    results.put(time.perf_counter() - start)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()

"""Rate of ingest beside a limit and two peers: `python benchmarks/ingest.py [--fractal-python VENV/bin/python]`.

The limit reads, decodes and compresses the same planes at full resolution and writes plain files, on as many processes:
no pyramid, no checksum, nothing synced. The first peer is what a user would write: tifffile and `write_image` of
ome-zarr over fields. The second is fractal-uzh-converters 0.7.1 in an environment of its own, on as many processes.
What each needs to import and start is left out; ingest's rate is that of the last four fifths of its fields, when all
workers have started.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from dask.system import CPU_COUNT
from throughput import Stopwatch

from artifact_mask.config import ClusterConfig, IngestConfig, SimulateConfig
from artifact_mask.io.harmony_index_writer import image_name, write_index
from artifact_mask.io.operetta import read_export
from artifact_mask.io.operetta_folder import find_measurements
from artifact_mask.metadata import PIXEL_BYTES
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.simulate import simulate

FRACTAL = """
import sys, time
from ome_zarr_converters_tools import MultiprocessingRunner
from fractal_uzh_converters.operetta._utils import OperettaAcquisitionModel
from fractal_uzh_converters.operetta.api import convert_operetta
if __name__ == "__main__":
    export, out, n = sys.argv[1:]
    start = time.perf_counter()
    convert_operetta(zarr_dir=out, acquisitions=[OperettaAcquisitionModel(path=export, plate_name="plate")],
                     runner=MultiprocessingRunner(num_processes=int(n)))
    print("seconds", time.perf_counter() - start)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", type=int, default=16)
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=4, help="Wells that have hard links to the same images.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fractal-python", type=Path, help="Python of an environment with fractal-uzh-converters.")
    parser.add_argument("--folder", type=Path, help="Where to write; kept, and its export used again.")
    arguments = parser.parse_args()
    if arguments.folder:
        _measure(arguments.folder, arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), arguments)


def _measure(folder: Path, arguments: argparse.Namespace) -> None:
    campaign = SimulateConfig(
        dest=folder / "export", wells=arguments.wells, fields=arguments.fields, channels=arguments.channels
    )
    measurement = folder / "export" / "Plate01"
    if not (measurement / "Images" / "Index.idx.xml").exists():
        simulate(campaign)
    measurement = _repeat(measurement, folder / f"repeated{arguments.repeat}" / "Plate01", arguments.repeat)
    files = sorted((measurement / "Images").glob("*.tiff"))
    plane_mb = campaign.size**2 * PIXEL_BYTES / 1e6
    total_mb = plane_mb * len(files)
    for file in files:
        file.read_bytes()  # all of them start from a warm cache
    print(f"{len(files)} planes, {total_mb:.0f} MB, {CPU_COUNT} processes")
    rows: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        row = {"ingest": _ingest_mb_s(measurement, folder, plane_mb * arguments.channels)}
        row["limit"] = _limit_mb_s(files, folder, plane_mb)
        row["script"] = _script_mb_s(files, folder, arguments.channels, plane_mb)
        if arguments.fractal_python:
            row["fractal"] = total_mb / _fractal_seconds(arguments.fractal_python, measurement, folder)
        rows.append(row)
        print("  ".join(f"{name} {rate:6.1f} MB/s" for name, rate in row.items()), flush=True)
    for peer in [name for name in rows[0] if name != "ingest"]:
        print(f"median ingest / {peer}: {np.median([row['ingest'] / row[peer] for row in rows]):.2f}")


def _repeat(measurement: Path, folder: Path, times: int) -> Path:
    """Make a larger export by hard links to the same images in further wells; files are all that takes long to draw."""
    ((found,), _) = find_measurements(measurement)
    plate = read_export([found]).plate
    (acquisition,) = plate.acquisitions
    wells = []
    (folder / "Images").mkdir(parents=True, exist_ok=True)
    for i, (original, _) in enumerate(product(acquisition.wells, range(times))):
        well = replace(original, row=1 + i // plate.n_columns, column=1 + i % plate.n_columns)
        wells.append(well)
        for field, channel in product(well.fields, acquisition.channels):
            name = image_name(well, field.field_id, channel.channel_id)
            if not (folder / "Images" / name).exists():
                of_original = image_name(original, field.field_id, channel.channel_id)
                os.link(measurement / "Images" / of_original, folder / "Images" / name)
    write_index(folder, replace(plate, acquisitions=(replace(acquisition, wells=tuple(wells)),)))
    return folder


def _ingest_mb_s(measurement: Path, folder: Path, field_mb: float) -> float:
    plate = folder / "plate.zarr"
    watch = Stopwatch()
    cluster = ClusterConfig(workers=CPU_COUNT, threads_per_worker=1, dashboard=False)
    ingest(IngestConfig(exports=(measurement,), dest=plate, cluster=cluster), watch)
    shutil.rmtree(plate)
    shutil.rmtree(plate.with_name("plate.zarr.artmask"))
    n_fields = sum(n for _, n in watch.reports)
    while sum(n for _, n in watch.reports) > 0.8 * n_fields:
        watch.reports.pop(0)
    return watch.fields_per_s * field_mb


def _limit_mb_s(files: list[Path], folder: Path, plane_mb: float) -> float:
    out = folder / "limit"
    out.mkdir(exist_ok=True)
    spans = _in_processes(CPU_COUNT, _convert_bare, [(files[i::CPU_COUNT], out) for i in range(CPU_COUNT)])
    shutil.rmtree(out)
    return plane_mb * len(files) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _convert_bare(files: list[Path], out: Path, barrier: Any, results: Any) -> None:
    import imagecodecs
    import numcodecs

    blosc = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.BITSHUFFLE)
    blosc.encode(imagecodecs.tiff_decode(files[0].read_bytes()))
    barrier.wait()
    start = time.time()
    for file in files:
        (out / file.name).write_bytes(blosc.encode(imagecodecs.tiff_decode(file.read_bytes())))
    results.put((start, time.time()))


def _script_mb_s(files: list[Path], folder: Path, n_channels: int, plane_mb: float, n_fields: int = 12) -> float:
    out = folder / "script.zarr"
    # Of the whole plate it would take minutes; its rate does not change.
    ((start, end),) = _in_processes(1, _convert_by_script, [(files[: n_fields * n_channels], n_channels, out)])
    shutil.rmtree(out)
    return plane_mb * n_fields * n_channels / (end - start)


def _convert_by_script(files: list[Path], n_channels: int, out: Path, barrier: Any, results: Any) -> None:
    import tifffile
    import zarr
    from ome_zarr.writer import write_image

    root = zarr.open_group(out, mode="w")
    barrier.wait()
    start = time.time()
    for i in range(0, len(files), n_channels):
        image = np.stack([tifffile.imread(file) for file in files[i : i + n_channels]])
        write_image(image[np.newaxis, :, np.newaxis], root.create_group(f"field{i}"), axes="tczyx")
    results.put((start, time.time()))


def _in_processes(n: int, work: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[tuple[float, float]]:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(n), context.Queue()
    workers = [context.Process(target=work, args=(*of_worker, barrier, results)) for of_worker in arguments]
    for worker in workers:
        worker.start()
    spans = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return spans


def _fractal_seconds(python: Path, measurement: Path, folder: Path) -> float:
    script, out = folder / "fractal.py", folder / "fractal"
    script.write_text(FRACTAL)
    command = [str(python), str(script), str(measurement), str(out), str(CPU_COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    shutil.rmtree(out)
    return float(done.stdout.split("seconds")[-1])


if __name__ == "__main__":
    main()

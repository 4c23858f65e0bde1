"""What ingest costs beside the pixels: `python benchmarks/ingest_scale.py [index] [resume] [worker] [campaign]`.

- `index`: time and memory to read an index of 384 wells x 25 fields x 5 channels (48,000 records).
- `resume`: a finished plate of 384 wells x 9 fields is ingested again: nothing is to be done.
- `worker`: peak memory of a worker on large fields (2160 x 2160, 3 planes, 5 channels).
- `campaign`: memory of the client while 1, 10 and 100 plates are ingested in one stream.

Pixels do not matter for most of these: images are hard links to a single small file.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from artifact_mask.config import ClusterConfig, IngestConfig
from artifact_mask.io.harmony_index_writer import image_name, write_index
from artifact_mask.io.operetta_folder import find_measurements
from artifact_mask.io.operetta_writer import write_plane
from artifact_mask.metadata import Acquisition, Channel, Field, Plate, Well
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Silent

MIB = 1024**2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures: dict[str, Callable[[Path], None]] = {
        "index": _measure_index,
        "resume": _measure_resume,
        "worker": _measure_worker,
        "campaign": _measure_campaign,
    }
    parser.add_argument("what", nargs="*", choices=[*measures, []], help="By default all.")
    for name in parser.parse_args().what or measures:
        with tempfile.TemporaryDirectory() as folder:
            measures[name](Path(folder))


def make_export(
    folder: Path,
    name: str,
    *,
    wells: int,
    fields: int,
    channels: int,
    planes: int = 1,
    size: int = 64,
    tiffs: bool = True,
) -> Path:
    """Write the index of a plate, and hard links to one image for all the others."""
    n_rows, n_columns = (16, 24) if wells > 96 else (8, 12)
    of_well = tuple(Field(i, i + 1, 10.0 * i, -10.0 * i) for i in range(fields))
    acquisition = Acquisition(
        measurement_id=f"measurement of {name}",
        shape=(1, channels, planes, size, size),
        pixel_size_um=0.3,
        z_step_um=2.0,
        channels=tuple(Channel(c + 1, f"Channel {c + 1}", "fluorescence", 400.0, 500.0) for c in range(channels)),
        wells=tuple(Well(1 + w // n_columns, 1 + w % n_columns, of_well) for w in range(wells)),
    )
    export = folder / name
    if tiffs:
        one = write_plane(export, "one.tiff", _noise(size), 0.3)
        for well in acquisition.wells:
            for field in of_well:
                for channel in acquisition.channels:
                    for z in range(planes):
                        os.link(one, export / "Images" / image_name(well, field.field_id, channel.channel_id, z=z))
        one.unlink()
    write_index(export, Plate(name, n_rows, n_columns, (acquisition,)))
    return export


def _noise(size: int) -> "np.typing.NDArray[np.uint16]":
    return np.random.default_rng(0).normal(1500, 60, (size, size)).astype(np.uint16)


def _measure_index(folder: Path) -> None:
    export = make_export(folder, "big", wells=384, fields=25, channels=5, tiffs=False)
    index = export / "Images" / "Index.idx.xml"
    seconds, before, peak = _in_process(_read_index, export)
    print(
        f"index: {index.stat().st_size / 1e6:.0f} MB, 48000 records: {seconds:.2f} s, "
        f"peak {peak:.0f} MiB ({peak - before:.0f} above the imports)"
    )


def _read_index(export: Path, results: Any) -> None:
    from artifact_mask.io.harmony_index import parse_index

    ((found,), _) = find_measurements(export)
    before = _own_peak_mib()
    start = time.perf_counter()
    assert found.index is not None
    parsed = parse_index(found.index)
    seconds = time.perf_counter() - start
    if len(parsed.records) != 48_000:
        sys.exit(f"{len(parsed.records)} records were read")
    results.put((seconds, before, _own_peak_mib()))


def _measure_resume(folder: Path) -> None:
    for channels in (1, 3):
        export = make_export(folder, f"plate{channels}", wells=384, fields=9, channels=channels)
        config = IngestConfig(exports=export, dest=folder / f"{channels}.zarr", cluster=ClusterConfig(dashboard=False))
        ingest(config)
        start = time.perf_counter()
        summary = ingest(config)
        seconds = time.perf_counter() - start
        if summary.n_resumed != summary.n_fields:
            sys.exit(f"{summary.n_fields - summary.n_resumed} fields were done again")
        print(f"resume: 384 wells x 9 fields x {channels} channels, nothing to do: {seconds:.2f} s")


def _measure_worker(folder: Path) -> None:
    export = make_export(folder, "large", wells=8, fields=4, channels=5, planes=3, size=2160)
    with _watching_workers() as peaks:
        ingest(IngestConfig(exports=export, dest=folder / "p.zarr", cluster=ClusterConfig(workers=2, dashboard=False)))
    print(f"worker: peak {max(peaks.values()) / MIB:.0f} MiB on 2160 x 2160, 3 planes, 5 channels (RSS, code included)")


def _measure_campaign(folder: Path) -> None:
    make_export(folder / "exports", "Plate001", wells=96, fields=2, channels=1)
    for number in range(2, 101):
        make_export(folder / "exports", f"Plate{number:03}", wells=96, fields=2, channels=1)
    for n_plates in (1, 10, 100):
        exports = [folder / "exports" / f"Plate{number:03}" for number in range(1, n_plates + 1)]
        peak, n_fields, seconds = _in_process(_ingest_all, exports, folder / f"campaign{n_plates}")
        print(
            f"campaign: {n_plates:3} plates, {n_fields} fields in {seconds:.0f} s: client peak {peak:.0f} MiB",
            flush=True,
        )


def _ingest_all(exports: list[Path], dest: Path, results: Any) -> None:
    start = time.perf_counter()
    cluster = ClusterConfig(workers=2, dashboard=False)
    summary = ingest(IngestConfig(exports=tuple(exports), dest=dest, cluster=cluster), Silent())
    if not summary.is_whole:
        sys.exit(str(summary))
    results.put((_own_peak_mib(), summary.n_fields, time.perf_counter() - start))


def _in_process(work: Callable[..., None], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=work, args=(*arguments, results))
    process.start()
    result = results.get()
    process.join()
    return result


def _own_peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _watching_workers() -> Iterator[dict[int, int]]:
    """Peak resident memory of each process below this one, sampled."""
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                try:
                    peaks[process.pid] = max(peaks.get(process.pid, 0), process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main()

"""Opening a whole plate: `python -m benchmarks.open_plate WORK [--wells 384] [--fields 9]`.

A plate of small fields is simulated, ingested and run on (once; WORK keeps it): what is read at opening does not depend
on their size. Then each tool opens it in a process of its own, twice, and the second time counts: seconds without
imports, and the largest resident memory with them.

- artmask: `open_plate`, a dataset with all images, labels, masked images and tables.
- ngio: the plate, and every field's container, image and label as Dask arrays.
- ome-zarr: its reader, which walks the plate, and the same for every field.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from artifact_mask import IngestConfig, RunConfig, SimulateConfig, ingest, run, simulate


def _artmask(plate: str) -> Callable[[], object]:
    from artifact_mask import open_plate

    open_plate(plate)  # imports
    return lambda: open_plate(plate)


def _ngio(plate: str) -> Callable[[], object]:
    import ngio

    def walk() -> object:
        containers = ngio.open_ome_zarr_plate(plate).get_images()
        return [
            (one.get_image().get_as_dask(), one.get_label("artifacts").get_as_dask()) for one in containers.values()
        ]

    return walk


def _ome_zarr(plate: str) -> Callable[[], object]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    def walk() -> object:
        root = parse_url(plate)
        assert root is not None
        nodes = list(Reader(root)())
        for field in sorted(Path(plate).glob("[A-P]/*/*/zarr.json")):
            place = parse_url(str(field.parent))
            assert place is not None
            nodes += list(Reader(place)())
        return nodes

    return walk


TOOLS = {"artmask": _artmask, "ngio": _ngio, "ome-zarr": _ome_zarr}


def main() -> None:
    """Make the plate, open it with each tool, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--wells", type=int, default=384)
    parser.add_argument("--fields", type=int, default=9)
    parser.add_argument("--tool", choices=list(TOOLS))
    arguments = parser.parse_args()
    plate = arguments.work / f"plate-{arguments.wells}x{arguments.fields}.zarr"
    if arguments.tool:
        _measure(arguments.tool, str(plate))
        return
    if not (plate / "tables" / "wells").exists():
        _make(plate, arguments.wells, arguments.fields)
    print(f"{arguments.wells} wells x {arguments.fields} fields\n\n| tool | s | MB |\n|---|---|---|")
    for tool in TOOLS:
        command = [sys.executable, "-m", "benchmarks.open_plate", *sys.argv[1:], "--tool", tool]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def _measure(tool: str, plate: str) -> None:
    walk = TOOLS[tool](plate)
    for _ in range(2):
        start = time.perf_counter()
        opened = walk()
        seconds = time.perf_counter() - start
    assert opened is not None
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {tool} | {seconds:.2f} | {megabytes:.0f} |")


def _make(plate: Path, wells: int, fields: int) -> None:
    export = plate.with_suffix(".export")
    simulate(SimulateConfig(dest=export, wells=wells, fields=fields, size=64))
    ingest(IngestConfig(exports=export, dest=plate))
    run(RunConfig(plates=plate))


if __name__ == "__main__":
    main()

"""Size, time and opening of a report: `python -m benchmarks.report [--wells 384] [--fields 9]`.

A small plate is simulated, ingested and run on; a large one is made of it, whose fields are the small one's by hard
links and whose records, tables and metadata are its own. Its report is written by the command, in a process of its own,
and opened in headless chromium: until the plate map can be used, and until the fields of a well are shown.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, open_journal, read_config, read_settings
from artifact_mask.io.files import StagedFiles, publish
from artifact_mask.io.ome_zarr_plate import create_plate, read_plate
from artifact_mask.io.tables import write_tables
from artifact_mask.metadata import Field, Well
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.tabulate import Outcome, read_outcomes, tabulate

COLUMNS = {96: 12, 384: 24, 1536: 48}
CLUSTER = ClusterConfig(workers=1, dashboard=False)
COMPOUNDS, DOSES = ("DMSO", "Compound A", "Compound B", "Compound C"), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=384, choices=sorted(COLUMNS))
    parser.add_argument("--fields", type=int, default=9)
    parser.add_argument("--size", type=int, default=1080, help="side of a field in pixels")
    parser.add_argument("--keep", type=Path, help="copy the page to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = _make_small(Path(folder), arguments.size)
        plate = _multiply(small, Path(folder) / "large.zarr", arguments.wells, arguments.fields)
        page = Path(folder) / "report.html"
        print(f"{arguments.wells} wells x {arguments.fields} fields of {arguments.size} x {arguments.size} pixels")
        for options in ([], ["--no-thumbnails"]):
            start = time.perf_counter()
            command = [sys.executable, "-m", "artmask", "report", str(plate), "--dest", str(page), *options]
            _, status, used = os.wait4(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, 0
            )
            seconds, memory = time.perf_counter() - start, used.ru_maxrss / 1024
            assert status == 0
            usable, well = _open(page)
            print(
                f"{' '.join(options) or 'with pictures':16} {page.stat().st_size / 1e6:6.1f} MB, "
                f"written in {seconds:.1f} s ({memory:.0f} MiB at most), usable after {usable:.2f} s, "
                f"a well opens in {well:.2f} s",
                flush=True,
            )
            if arguments.keep and not options:
                shutil.copyfile(page, arguments.keep)


def _make_small(folder: Path, size: int) -> Path:
    (export,) = simulate(SimulateConfig(dest=folder / "export", wells=4, fields=3, size=size))
    ingest(IngestConfig(exports=export, dest=folder / "small.zarr", cluster=CLUSTER))
    run(RunConfig(plates=folder / "small.zarr", cluster=CLUSTER))
    return folder / "small.zarr"


def _multiply(small: Path, large: Path, n_wells: int, n_fields: int) -> Path:
    """Make a plate of links to the fields of a small one, with records and tables of its own."""
    stored = read_plate(small)
    (acquisition,) = stored.plate.acquisitions
    sources = acquisition.field_keys
    columns = COLUMNS[n_wells]
    wells = tuple(
        Well(
            n // columns + 1,
            n % columns + 1,
            tuple(Field(index, index + 1, 0.0, 400.0 * index) for index in range(n_fields)),
            {"Compound": (c := COMPOUNDS[n % 4]), "Concentration": 0.0 if c == "DMSO" else DOSES[n // 4 % 6]},
        )
        for n in range(n_wells)
    )
    plate = dataclasses.replace(
        stored.plate,
        n_rows=n_wells // columns,
        n_columns=columns,
        acquisitions=(dataclasses.replace(acquisition, wells=wells),),
    )
    staging = large.with_name("staging")
    staging.mkdir()
    with StagedFiles(large, staging) as files:
        create_plate(files, large, plate, ingest_digest=stored.ingest_digest)
        publish([files])
    records: dict[str, dict[tuple[str, int], FieldRecord]] = {}
    before = {stage: journal.read() for stage in ("ingest", "run") if (journal := open_journal(small, stage))}
    for stage, known in before.items():
        found = Journal(large, stage, _digest(small, stage), epoch=1)
        found.begin(read_settings(small, stage), read_config(small, stage))
        (large.with_name(large.name + ".artmask") / "staging" / "1").mkdir(parents=True, exist_ok=True)
        records[stage] = {}
        for n, well in enumerate(wells):
            of_well = {i: known[sources[(n * n_fields + i) % len(sources)]] for i in range(n_fields)}
            found.commit(Unit(well.path, tuple(range(n_fields))), of_well)
            records[stage] |= {(well.path, i): record for i, record in of_well.items()}
    for n, well in enumerate(wells):
        for index in range(n_fields):
            path, field = sources[(n * n_fields + index) % len(sources)]
            shutil.copytree(small / path / str(field), large / well.path / str(index), copy_function=os.link)
    outcomes = read_outcomes(large, plate, stored.ingest_digest, besides="ingest")
    tables = tabulate(plate, {"ingest": Outcome(records["ingest"]), **outcomes})
    with StagedFiles(large, staging) as files:
        write_tables(files, large, tables)
        publish([files])
    return large


def _digest(plate: Path, stage: str) -> str:
    journal = open_journal(plate, stage)
    assert journal is not None
    return journal.digest


def _open(page: Path) -> tuple[float, float]:
    """Seconds from the start of loading until the map can be used, and from Enter until a well's pictures are drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector("body[data-ready]")
        usable = time.perf_counter() - start
        tab.focus("#map")
        start = time.perf_counter()
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".field")
        tab.evaluate("Promise.all([...document.querySelectorAll('.picture img')].map((image) => image.decode()))")
        return usable, time.perf_counter() - start


if __name__ == "__main__":
    main()

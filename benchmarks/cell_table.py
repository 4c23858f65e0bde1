"""A table of a million cells: `python -m benchmarks.cell_table [--cells 1000000]`.

Fields' tables with made-up cells are written as `artmask cells` writes them, merged into the plate's table, and
aggregated by well, each step in a process of its own: seconds, and the largest resident memory of that process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from artifact_mask.io.cell_tables import PART_SCHEMA, CellPart, WellParts, read_cells, write_cell_part, write_cell_table
from artifact_mask.io.files import StagedFiles, publish

WELLS, FIELDS = 384, 9
STEPS = ("parts", "merge", "aggregate")


def main() -> None:
    """Run the steps and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--plate", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        _run(arguments.step, arguments.plate, arguments.cells)
        return
    with tempfile.TemporaryDirectory() as folder:
        print("| step | s | MB |\n|---|---|---|")
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.cell_table", "--step", step, "--plate", f"{folder}/p.zarr"]
            start = time.perf_counter()
            out = subprocess.run(
                [*command, "--cells", str(arguments.cells)], check=True, capture_output=True, text=True
            )
            found = json.loads(out.stdout)
            print(f"| {step} | {time.perf_counter() - start:.1f} | {found['mb']:.0f} |")
        print(f"\n{found['rows']} cells, {found['bytes'] / 1e6:.0f} MB, {found['groups']} row groups")


def _run(step: str, plate: Path, n_cells: int) -> None:
    places = [(f"{chr(65 + i // 24)}", i % 24 + 1) for i in range(WELLS)]
    staging = plate.with_name("staging")
    staging.mkdir(exist_ok=True)
    result: dict[str, float] = {}
    if step == "parts":
        rng = np.random.default_rng(0)
        for row, column in places:
            with StagedFiles(plate, staging) as files:
                for field in range(FIELDS):
                    values = _cells(rng, n_cells // (WELLS * FIELDS) + 1, f"{row}{column:02d}", field)
                    write_cell_part(files, plate / row / str(column) / str(field), values, labels="cells", ngff="0.5")
                publish([files])
    elif step == "merge":
        wells = [
            WellParts({"Compound": "DMSO"}, [CellPart(plate / row / str(column) / str(i), 0.08) for i in range(FIELDS)])
            for row, column in places
        ]
        with StagedFiles(plate, staging) as files:
            write_cell_table(files, plate, wells, content="benchmark", ngff="0.5")
            publish([files])
    else:
        totals: dict[str, tuple[int, int]] = {}
        n_groups = 0
        for table in read_cells(plate):
            n_groups += 1
            counted = table.group_by("well").aggregate([("senescent", "sum"), ("label", "count")]).to_pylist()
            totals |= {row["well"]: (row["senescent_sum"], row["label_count"]) for row in counted}
        result["rows"] = sum(n for _, n in totals.values())
        result["groups"] = n_groups
        result["bytes"] = (plate / "tables" / "cells" / "table.parquet").stat().st_size
    print(json.dumps(result | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def _cells(rng: np.random.Generator, n: int, well: str, field: int) -> dict[str, object]:
    of_place = {"plate": "Plate01", "well": well, "row": 1, "column": 1, "acquisition": 0, "field": field}
    values: dict[str, object] = {}
    for column in PART_SCHEMA.names:
        if column == "label":
            values[column] = np.arange(1, n + 1)
        elif column in ("touches_border", "excluded"):
            values[column] = rng.random(n) < 0.1
        elif column in ("t", "z", "field_id"):
            values[column] = 0
        else:
            values[column] = of_place.get(column, rng.gamma(2, 0.03, n))
    return values


if __name__ == "__main__":
    main()

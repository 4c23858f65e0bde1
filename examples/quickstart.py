"""From an export to a well table in Python, on a simulated plate: `python examples/quickstart.py [FOLDER]`."""

import sys
from pathlib import Path

import pandas as pd
import zarr

from artifact_mask import IngestConfig, RunConfig, SimulateConfig, ingest, run, simulate


def main() -> None:
    """Simulate, ingest, run, and look at what came out."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "artmask-quickstart")
    (measurement,) = simulate(SimulateConfig(dest=folder / "export", wells=3, fields=2, size=512))
    plate = folder / "plate.zarr"
    ingest(IngestConfig(exports=measurement, dest=plate))
    summary = run(RunConfig(plates=(plate,)))
    print(f"{summary.n_fields} fields, {len(summary.failures)} failed")

    # Any Zarr reader opens the result; axes are t, c, z, y, x for images and t, z, y, x for labels.
    image = zarr.open_array(plate / "B" / "2" / "0" / "0", mode="r")
    labels = zarr.open_array(plate / "B" / "2" / "0" / "labels" / "artifacts" / "0", mode="r")
    print(f"B02: image {image.shape} {image.dtype}, {int(labels[:].max())} artifacts")
    print(pd.read_parquet(plate / "tables" / "wells" / "table.parquet").to_string())


# Dask starts processes that import this file: without the guard each would run it again.
if __name__ == "__main__":
    main()

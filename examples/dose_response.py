"""From a plate to a dose-response curve one can trust: `python examples/dose_response.py [FOLDER]`."""

import sys
from pathlib import Path

import pandas as pd

from artifact_mask import (
    CellsConfig,
    IlluminationConfig,
    IngestConfig,
    RunConfig,
    SimulateConfig,
    estimate_illumination,
    ingest,
    measure_cells,
    run,
    simulate,
)


def main() -> None:
    """Simulate a dose series, correct its light, mask it, measure fields and cells, and compare with the truth."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "artmask-dose-response") / "dose-response"
    (measurement,) = simulate(
        SimulateConfig(dest=folder / "export", wells=12, fields=2, size=512, channels=2, shading="plate")
    )
    plate = folder / "plate.zarr"
    ingest(IngestConfig(exports=measurement, dest=plate))
    estimate_illumination(IlluminationConfig(plates=plate))
    run(RunConfig(plates=plate, negative_controls="Compound=DMSO", positive_controls="Concentration=10"))
    measure_cells(CellsConfig(plates=plate))

    wells = pd.read_parquet(plate / "tables" / "wells" / "table.parquet")
    truth = pd.read_csv(measurement / "Truth" / "fields.csv").groupby(["row", "column"])["stained_fraction"].mean()
    wells["truth"] = truth.loc[list(zip(wells["row"], wells["column"], strict=True))].to_numpy()
    columns = ["truth", "stained_fraction_raw", "stained_fraction", "n_cells", "senescent_fraction"]
    print(wells.groupby("Concentration")[columns].mean().to_string(float_format="{:.4f}".format))
    for column in ("stained_fraction_raw", "stained_fraction"):
        print(f"{column}: correlation with the truth {wells[column].corr(wells['truth']):.3f}")

    # Cells are read well by well: a table of a campaign need not fit into memory.
    cells = pd.read_parquet(plate / "tables" / "cells" / "table.parquet", filters=[("well", "==", "B02")])
    print(f"B02 has {len(cells)} cells, {int(cells['senescent'].sum())} of them senescent")


# Dask starts processes that import this file: without the guard each would run it again.
if __name__ == "__main__":
    main()

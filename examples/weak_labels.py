"""Label the artifacts of a plate by what a classifier looked at: `python examples/weak_labels.py [FOLDER]`."""

import sys
from pathlib import Path

import pandas as pd

from artifact_mask import (
    ExplainConfig,
    IngestConfig,
    LabelConfig,
    SimulateConfig,
    explain,
    ingest,
    label,
    simulate,
)


def main() -> None:
    """Simulate and ingest a small plate, label it with the classifier that artmask ships, and explain a field."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "artmask-weak-labels")
    (measurement,) = simulate(SimulateConfig(dest=folder / "weak-labels", wells=2, fields=1, size=540))
    plate = folder / "weak-labels.zarr"
    ingest(IngestConfig(exports=measurement, dest=plate))

    summary = label(LabelConfig(plates=plate))
    if not summary.is_whole:
        sys.exit(f"{len(summary.failures)} fields failed")
    fields = pd.read_parquet(plate / "tables" / "fields" / "table.parquet")
    print(fields[["well", "field", "artifact_probability", "n_weak_objects", "weak_fraction"]].to_string())

    explained = explain(ExplainConfig(plate=plate, well="B02", dest=folder / "explanation.png"))
    print(f"look at {explained.picture}")


# Dask starts processes that import this file: without the guard each would run it again.
if __name__ == "__main__":
    main()

"""Tables of a plate, in the layout that ngio reads: Parquet for programs, CSV beside it for people."""

import io
from pathlib import Path

import pandas as pd

from artifact_mask.io.files import write_if_changed
from artifact_mask.io.zarr_group import write_group

_TABLE_ATTRIBUTES = {"type": "generic_table", "table_version": "1", "backend": "parquet"}


def write_tables(plate: Path, tables: dict[str, pd.DataFrame]) -> dict[str, Path]:
    """Write the tables of a plate as ``tables/<name>/table.parquet`` and ``table.csv``.

    Returns
    -------
    dict[str, Path]
        The CSV files, by table.
    """
    written = {}
    for name, frame in tables.items():
        folder = plate / "tables" / name
        parquet = io.BytesIO()
        frame.to_parquet(parquet, index=False)
        write_if_changed(folder / "table.parquet", parquet.getvalue())
        write_if_changed(folder / "table.csv", frame.to_csv(index=False).encode())
        write_group(folder, _TABLE_ATTRIBUTES)
        written[name] = folder / "table.csv"
    write_group(plate / "tables", {"tables": sorted(tables)})
    return written


def read_table(plate: Path, name: str) -> pd.DataFrame:
    """Read one table of a plate."""
    return pd.read_parquet(plate / "tables" / name / "table.parquet")

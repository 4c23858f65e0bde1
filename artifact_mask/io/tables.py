"""Tables of a plate, in the layout that ngio reads: Parquet for programs, CSV beside it for people."""

import io

import pandas as pd

from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.zarr_group import write_group
from artifact_mask.location import Location, read_bytes
from artifact_mask.metadata import NgffVersion

_TABLE_ATTRIBUTES = {"type": "generic_table", "table_version": "1", "backend": "parquet"}


def write_tables(
    files: StagedFiles, plate: Location, tables: dict[str, pd.DataFrame], *, ngff: NgffVersion = "0.5"
) -> dict[str, Location]:
    """Write the tables of a plate, of this version of NGFF, as ``tables/<name>/table.parquet`` and ``table.csv``.

    Returns
    -------
    dict[str, Path]
        The CSV files, by table.
    """
    layout = LAYOUTS[ngff]
    written = {}
    for name, frame in tables.items():
        folder = plate / "tables" / name
        parquet = io.BytesIO()
        frame.to_parquet(parquet, index=False)
        files.write_if_changed(folder / "table.parquet", parquet.getvalue())
        files.write_if_changed(folder / "table.csv", frame.to_csv(index=False).encode())
        write_group(files, folder, layout, {}, _TABLE_ATTRIBUTES, stamped=False)
        written[name] = folder / "table.csv"
    write_group(files, plate / "tables", layout, {}, {"tables": sorted(tables)}, stamped=False)
    return written


def read_table(plate: Location, name: str) -> pd.DataFrame:
    """Read one table of a plate."""
    return pd.read_parquet(io.BytesIO(read_bytes(plate / "tables" / name / "table.parquet")))

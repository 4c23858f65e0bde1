"""Tables of a plate, in the layout that ngio reads: Parquet for programs, CSV beside it for people."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from artifact_mask.columns import TABLES
from artifact_mask.io.files import StagedFiles, remove_others
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.zarr_group import read_group, write_group
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
        files.write_if_changed(folder / "table.parquet", _to_parquet(name, frame))
        files.write_if_changed(folder / "table.csv", frame.to_csv(index=False).encode())
        write_group(files, folder, layout, {}, _TABLE_ATTRIBUTES, stamped=False)
        written[name] = folder / "table.csv"
    listed = {*tables, *_keep_cells(plate, tables)}
    write_group(files, plate / "tables", layout, {}, {"tables": sorted(listed)}, stamped=False)
    return written


def _keep_cells(plate: Location, tables: dict[str, pd.DataFrame]) -> list[str]:
    """List the table of cells if it is there; one of other masks, which `fields` does not count, is removed."""
    folder = plate / "tables" / "cells"
    if read_group(folder) is None:
        return []
    if "fields" in tables and "n_cells" not in tables["fields"]:
        remove_others([folder], plate, {})
        return []
    return ["cells"]


def _to_parquet(name: str, frame: pd.DataFrame) -> bytes:
    """Encode a table; each column says in its metadata what it means."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.cast(describe_schema(name, table.schema), safe=False)
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    return parquet.getvalue()


def describe_schema(name: str, schema: pa.Schema) -> pa.Schema:
    """Add the meaning and unit of each column of a table, where it is one of ours, to a schema."""
    known = {column.name: column for column in TABLES.get(name, ())}
    fields = [
        field.with_metadata({"unit": known[field.name].unit, "meaning": known[field.name].meaning})
        if field.name in known
        else field
        for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


def read_table(plate: Location, name: str) -> pd.DataFrame:
    """Read one table of a plate."""
    return pd.read_parquet(io.BytesIO(read_bytes(plate / "tables" / name / "table.parquet")))


def list_tables(plate: Location) -> list[str]:
    """Names of the tables of a plate; none if it has not been ingested."""
    group = read_group(plate / "tables")
    return list(group.attributes.get("tables", ())) if group else []

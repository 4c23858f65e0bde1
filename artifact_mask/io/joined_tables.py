"""Tables of several plates in one file, written row group by row group."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from artifact_mask.io.files import put_file
from artifact_mask.location import Location


class JoinedTable:
    """One table of several plates.

    Parameters
    ----------
    plates
        Stores that have it.
    name
        Of the table.
    """

    def __init__(self, plates: Sequence[Location], name: str) -> None:
        self._files = [plate / "tables" / name / "table.parquet" for plate in plates]
        # What only some plates have, such as a layer of the layout, is missing in the others.
        self.schema = _unify([_read_schema(file) for file in self._files])

    def groups(self) -> Iterator[pd.DataFrame]:
        """Rows, a row group at a time, with the columns of all plates."""
        for batch in self._batches():
            yield batch.to_pandas()

    def write(self, *, csv: Location, parquet: Location) -> None:
        """Write the rows of all plates as CSV and as Parquet; each file appears when it is whole."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder)
            with pq.ParquetWriter(local / "parquet", self.schema) as writer, open(local / "csv", "w") as text:
                for number, batch in enumerate(self._batches()):
                    writer.write_table(batch)
                    batch.to_pandas().to_csv(text, index=False, header=number == 0)
            put_file(local / "parquet", parquet)
            put_file(local / "csv", csv)

    def _batches(self) -> Iterator[pa.Table]:
        for path in self._files:
            with path.open("rb") as opened, pq.ParquetFile(opened) as file:
                for group in range(file.num_row_groups):
                    yield self._align(file.read_row_group(group))

    def _align(self, batch: pa.Table) -> pa.Table:
        columns = [
            batch[field.name].cast(field.type)
            if field.name in batch.column_names
            else pa.nulls(batch.num_rows, field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)


def _unify(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Columns of all schemas; one that is a number here and text there is text."""
    fields: dict[str, pa.Field] = {}
    for field in (field.remove_metadata() for schema in schemas for field in schema):
        before = fields.get(field.name, field)
        try:
            both = pa.unify_schemas([pa.schema([before]), pa.schema([field])], promote_options="permissive")
            fields[field.name] = both.field(0)
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            fields[field.name] = pa.field(field.name, pa.string())
    return pa.schema(list(fields.values()))


def _read_schema(file: Location) -> pa.Schema:
    with file.open("rb") as opened:
        return pq.read_schema(opened)

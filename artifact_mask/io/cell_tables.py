"""Tables of cells: one a field, which the task that measured it writes, and one of the plate, streamed from these."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artifact_mask.columns import CELL
from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.tables import describe_schema
from artifact_mask.io.zarr_group import read_group, write_group
from artifact_mask.kernels.staining import density_steps, step_of
from artifact_mask.location import Location, read_bytes
from artifact_mask.metadata import NgffVersion

TABLE = "tables/cells"
MEASURE = "cell_mean_od"
"""Column that tells whether a cell is senescent."""
_FILE = "table.parquet"
_PLATE_ATTRIBUTES = {"type": "generic_table", "table_version": "1", "backend": "parquet"}
_FIELD_ATTRIBUTES = {
    "type": "feature_table",
    "table_version": "1",
    "backend": "parquet",
    "instance_key": "label",
    "index_key": "label",
    "index_type": "int",
}
_READ_THREADS = 8
"""An object store answers many questions in the time of one."""
_TYPES = {
    **dict.fromkeys(("plate", "well"), pa.string()),
    **dict.fromkeys(("row", "column", "acquisition", "field", "field_id", "t", "z", "label"), pa.int32()),
    **dict.fromkeys(("y_um", "x_um"), pa.float64()),
    **dict.fromkeys(("touches_border", "excluded", "senescent"), pa.bool_()),
}
PLATE_SCHEMA = describe_schema(
    "cells", pa.schema([(column.name, _TYPES.get(column.name, pa.float32())) for column in CELL])
)
PART_SCHEMA = pa.schema([(field.name, field.type) for field in PLATE_SCHEMA if field.name != "senescent"])
"""Which cells are senescent is known when all fields of the controls are."""
_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["plate", "well"]}


class CellPart(NamedTuple):
    """Table of a field's cells.

    Attributes
    ----------
    folder
        Group of the field.
    threshold
        Optical density from which on a cell is senescent; NaN if there is none.
    """

    folder: Location
    threshold: float


class WellParts(NamedTuple):
    """Tables of a well's fields, in the order of the fields, and what the plate's layout says of the well."""

    layout: Mapping[str, str | float | None]
    parts: Sequence[CellPart]


def write_cell_part(
    files: StagedFiles, folder: Location, values: Mapping[str, Any], *, labels: str, ngff: NgffVersion
) -> None:
    """Write the cells of a field as its table ``tables/cells``, which ngio opens as features of a label image.

    Parameters
    ----------
    files
        To write with.
    folder
        Group of the field.
    values
        By column but ``senescent``: one for all cells, or an array ``(n,)``; ``label`` is an array.
    labels
        Name of the label image.
    ngff
        Version of the plate.
    """
    n = len(values["label"])
    columns = [_column(values[field.name], n, field.type) for field in PART_SCHEMA]
    content = io.BytesIO()
    # What many small files would repeat is left out: types are those of Parquet, and statistics are of use to none.
    pq.write_table(
        pa.table(columns, schema=PART_SCHEMA), content, store_schema=False, write_statistics=False, **_OPTIONS
    )
    layout, place = LAYOUTS[ngff], folder / "tables"
    files.write(place / "cells" / _FILE, content.getvalue())
    write_group(files, place / "cells", layout, {}, {**_FIELD_ATTRIBUTES, "region": {"path": f"../labels/{labels}"}})
    group = read_group(place, [layout])
    listed = group.attributes.get("tables", []) if group else []
    write_group(files, place, layout, {}, {"tables": sorted({*listed, "cells"})}, stamped=False)


def write_cell_table(
    files: StagedFiles,
    plate: Location,
    wells: Iterable[WellParts],
    *,
    content: str,
    ngff: NgffVersion,
) -> None:
    """Write the cells of a plate as ``tables/cells``, a row group a well; one well is in memory.

    Parameters
    ----------
    files
        To write with.
    plate
        Store.
    wells
        In the order of the table. All have the same layers of the layout.
    content
        What the table depends on; it is left alone if it was made of the same.
    ngff
        Version of the plate.

    Raises
    ------
    PlateError
        If the table of a field is missing or damaged.
    """
    folder = plate / TABLE
    group = read_group(folder, [LAYOUTS[ngff]])
    if group and group.artmask.get("content") == content and (folder / _FILE).exists():
        return
    ordered = list(wells)
    schema = _with_layout(ordered)
    with files.open(folder / _FILE) as file, pq.ParquetWriter(file, schema, **_OPTIONS) as writer:
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            for well in ordered:
                tables = pool.map(_read_part, well.parts)
                table = pa.concat_tables([PLATE_SCHEMA.empty_table(), *tables])
                if table.num_rows:
                    for field in list(schema)[len(PLATE_SCHEMA) :]:
                        values = pa.repeat(pa.scalar(well.layout[field.name], field.type), table.num_rows)
                        table = table.append_column(field, values)
                    writer.write_table(table, row_group_size=table.num_rows)
    own = {"artmask": {"content": content}}
    write_group(files, folder, LAYOUTS[ngff], {}, _PLATE_ATTRIBUTES | own, stamped=False)


def read_cells(plate: Location) -> Iterator[pa.Table]:
    """Read the table of a plate's cells, a well at a time."""
    with (plate / TABLE / _FILE).open("rb") as file:
        table = pq.ParquetFile(file)
        for number in range(table.num_row_groups):
            yield table.read_row_group(number, use_threads=False)


def _column(value: Any, n: int, kind: pa.DataType) -> pa.Array:
    if np.ndim(value):
        return pa.array(value, kind, from_pandas=True, safe=False)
    return pa.repeat(pa.scalar(value, kind), n)


def _with_layout(wells: Sequence[WellParts]) -> pa.Schema:
    """Add the layers of the layout to the schema: numbers, or text if any value is."""
    schema = PLATE_SCHEMA
    for layer in wells[0].layout if wells else ():
        values = [well.layout[layer] for well in wells if well.layout[layer] is not None]
        kind = pa.string() if any(isinstance(value, str) for value in values) else pa.float64()
        schema = schema.append(pa.field(layer, kind))
    return schema


def _read_part(part: CellPart) -> pa.Table:
    """Read the table of a field, and call its cells."""
    path = part.folder / TABLE / _FILE
    try:
        table = pq.ParquetFile(io.BytesIO(read_bytes(path))).read(use_threads=False).cast(PART_SCHEMA)
    except (FileNotFoundError, pa.ArrowInvalid, ValueError) as error:
        raise PlateError(f"{path} is missing or damaged ({error}). Run `artmask cells` again.") from error
    if np.isnan(part.threshold):
        senescent = pa.nulls(table.num_rows, pa.bool_())
    else:
        density = table[MEASURE].to_numpy(zero_copy_only=False)
        reached = pa.array(density_steps(np.nan_to_num(density)) >= step_of(part.threshold))
        senescent = pc.if_else(table["excluded"], pa.scalar(None, pa.bool_()), reached)
    place = PLATE_SCHEMA.get_field_index("senescent")
    return table.add_column(place, PLATE_SCHEMA.field(place), senescent)

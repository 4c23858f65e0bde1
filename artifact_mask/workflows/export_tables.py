"""Tables of several plates together, as CSV, Parquet and AnnData."""

from collections.abc import Iterator, Sequence

import pandas as pd

from artifact_mask.errors import PlateError
from artifact_mask.io.anndata_tables import encode_anndata, require_anndata
from artifact_mask.io.joined_tables import JoinedTable
from artifact_mask.io.tables import list_tables
from artifact_mask.location import Location

ORDER = ("fields", "wells", "plate", "cells")


def export_tables(
    plates: Sequence[Location], dest: Location, *, with_anndata: bool
) -> tuple[dict[str, Location], dict[str, str]]:
    """Write each table of some plates, one plate after the other, into one file of each kind.

    Parameters
    ----------
    plates
        Stores.
    dest
        Folder.
    with_anndata
        Whether to write ``.h5ad``, too: measurements as the matrix, the rest as annotation of the rows. The table is in
        memory for that; CSV and Parquet are written row group by row group.

    Returns
    -------
    written
        Files by what is in them.
    refused
        Plates that have no tables, with the reason; they are left out.

    Raises
    ------
    ConfigError
        If AnnData is asked for and not installed.
    PlateError
        If no plate has tables.
    """
    if with_anndata:
        require_anndata()
    tables = {plate: list_tables(plate) for plate in plates}
    refused = {str(plate): f"{plate} has no tables. Run `artmask run` first." for plate in plates if not tables[plate]}
    if len(refused) == len(plates):
        raise PlateError(next(iter(refused.values())))
    written: dict[str, Location] = {}
    for name in ORDER:
        having = [plate for plate, names in tables.items() if name in names]
        if not having:
            continue
        table = JoinedTable(having, name)
        csv, parquet = dest / f"{name}.csv", dest / f"{name}.parquet"
        table.write(csv=csv, parquet=parquet)
        written |= {f"{name} (CSV)": csv, f"{name} (Parquet)": parquet}
        if with_anndata:
            h5ad = dest / f"{name}.h5ad"
            encode_anndata(_whole(table.groups()), name, h5ad)
            written[f"{name} (AnnData)"] = h5ad
    return written, refused


def _whole(groups: Iterator[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(list(groups), ignore_index=True)

"""Tables as AnnData, which scanpy and others read. The package is optional."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from artifact_mask.errors import ConfigError
from artifact_mask.io.files import put_file
from artifact_mask.location import Location

IDENTIFYING = ("row", "column", "acquisition", "field", "field_id", "label", "t", "z")
"""Columns of numbers that name a row and measure nothing."""


def require_anndata() -> None:
    """Raise if the package is not there.

    Raises
    ------
    ConfigError
        That says how to install it.
    """
    if importlib.util.find_spec("anndata") is None:
        raise ConfigError('AnnData needs the package anndata: pip install "artmask[anndata]"')


def encode_anndata(table: pd.DataFrame, name: str, path: Location) -> None:
    """Write a table as ``.h5ad``: measurements as ``X``, what names a row and all text as ``obs``.

    Parameters
    ----------
    table
        One row an observation.
    name
        Of the table.
    path
        To write; it appears when it is whole.

    Notes
    -----
    HDF5 takes slashes in names for folders: a column ``Dose (uM/l)`` is called ``Dose (uM_l)``.
    """
    # Takes seconds to import.
    from anndata import AnnData

    numbers = [
        column
        for column in map(str, table.columns)
        if pd.api.types.is_numeric_dtype(table[column])
        and not pd.api.types.is_bool_dtype(table[column])
        and column not in IDENTIFYING
    ]
    rest = [column for column in map(str, table.columns) if column not in numbers]
    observations = table[rest].copy()
    for column in observations.select_dtypes(["object", "string", "boolean"]):
        observations[column] = observations[column].map(lambda value: "" if pd.isna(value) else str(value))
    observations = observations.rename(columns=_without_slashes(rest))
    observations.index = observations.index.astype(str)
    data = AnnData(
        X=table[numbers].to_numpy(np.float64, na_value=np.nan),
        obs=observations,
        var=pd.DataFrame(index=list(_without_slashes(numbers).values())),
        uns={"table": name},
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.h5ad"
        data.write_h5ad(file)
        put_file(file, path)


def _without_slashes(names: Sequence[str]) -> dict[str, str]:
    """Names by the names that they stand for; still different from each other."""
    taken = set(names)
    found = {}
    for name in names:
        plain = name.replace("/", "_")
        while plain != name and plain in taken:
            plain += "_"
        taken.add(plain)
        found[name] = plain
    return found

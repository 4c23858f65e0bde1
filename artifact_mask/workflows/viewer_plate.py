"""What the page of `artmask view` asks for: the plate's map, the fields of a well, and what a field shows."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from artifact_mask.errors import PlateError
from artifact_mask.io.ome_zarr import read_missing_planes
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.tables import list_tables, read_table
from artifact_mask.location import Location
from artifact_mask.metadata import Well
from artifact_mask.workflows.viewer_layers import describe_view, list_layers

_FIGURES = ("artifact_fraction", "weak_fraction")
"""What colours the map: the first that the tables have."""


class ViewedPlate:
    """A plate that is looked at.

    Parameters
    ----------
    root
        Its store.

    Raises
    ------
    PlateError
        If it is no plate that artmask wrote.
    """

    def __init__(self, root: Location) -> None:
        self._root = root
        stored = read_plate(root)
        self.plate, self._ngff = stored.plate, stored.ngff
        self._wells = {well.name: well for well in self.plate.wells}
        self._tables: dict[str, pd.DataFrame] = {}

    def describe(self, path: list[str]) -> Mapping[str, Any] | None:
        """Document of a path: ``plate``, ``wells/<name>`` or ``fields/<well>/<index>``; None where there is none.

        Raises
        ------
        PlateError
            If a field is not in the store, or its metadata is damaged.
        """
        match path:
            case ["plate"]:
                return self._describe_plate()
            case ["wells", name] if name in self._wells:
                return self._describe_well(self._wells[name])
            case ["fields", name, index] if name in self._wells:
                return self._describe_field(self._wells[name], index)
        return None

    def _describe_plate(self) -> dict[str, Any]:
        # Anew each time that the page is loaded: a run may go on meanwhile.
        self._tables = {name: read_table(self._root, name) for name in list_tables(self._root) if name != "cells"}
        table = self._tables.get("wells", pd.DataFrame())
        figure = next((name for name in _FIGURES if name in table), None)
        values = table.groupby("well")[figure].mean().to_dict() if figure else {}
        failed = self._count_failed()
        return {
            "name": self.plate.name,
            "n_rows": self.plate.n_rows,
            "n_columns": self.plate.n_columns,
            "figure": figure,
            "wells": [
                {
                    "name": well.name,
                    "row": well.row,
                    "column": well.column,
                    "n_fields": len(well.fields),
                    "n_failed": failed.get(well.name, 0),
                    "value": _finite(values.get(well.name)),
                    "layout": {layer: str(value) for layer, value in well.layout.items()},
                }
                for well in self.plate.wells
            ],
        }

    def _describe_well(self, well: Well) -> dict[str, Any]:
        rows = self._rows_of(well)
        return {
            "name": well.name,
            "fields": [
                {"index": field.index, "field_id": field.field_id, **_outcome(rows.get(field.index, {}))}
                for field in well.fields
            ],
        }

    def _describe_field(self, well: Well, index: str) -> dict[str, Any] | None:
        field = next((field for field in well.fields if str(field.index) == index), None)
        if field is None:
            return None
        acquisition = self.plate.acquisitions[self.plate.acquisition_of[well.path, field.index]]
        folder = self._root / well.path / index
        try:
            missing = read_missing_planes(folder)
        except PlateError as error:
            raise PlateError(f"Well {well.name}, field {index}: {error}.") from error
        names = [channel.name for channel in acquisition.channels]
        *_, y, x = acquisition.shape
        return {
            "name": f"{well.name} field {index}",
            "size_px": [x, y],
            "missing": [f"{names[c]}, t {t}, z {z}: {reason}" for (t, c, z), reason in missing.items()],
            **_outcome(self._rows_of(well).get(field.index, {})),
            "view": describe_view(
                list_layers(folder), f"plate/{well.path}/{index}", acquisition, field, ngff=self._ngff
            ),
        }

    def _rows_of(self, well: Well) -> dict[int, dict[str, Any]]:
        """Rows of the table of fields, by index."""
        table = self._tables.get("fields")
        if table is None:
            return {}
        rows = table[table["well"] == well.name].astype(object)
        return {int(row["field"]): {str(name): value for name, value in row.items()} for _, row in rows.iterrows()}

    def _count_failed(self) -> dict[str, int]:
        table = self._tables.get("fields")
        if table is None or "error" not in table:
            return {}
        return {str(well): int(n) for well, n in table.loc[table["error"] != "", "well"].value_counts().items()}


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    """Sum up what the tables say of a field: the figure of the map, and the reason if it failed or was rejected."""
    figure = next((name for name in _FIGURES if name in row), None)
    return {
        "value": _finite(row[figure]) if figure else None,
        "error": str(row.get("error", "")),
        "rejected": str(row.get("rejected", "")),
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None

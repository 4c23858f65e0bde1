"""Rows of the list that CellProfiler loads: which images and objects belong together, and of which well."""

from collections.abc import Iterator, Mapping
from typing import Any

from artifact_mask.engine.journal import FieldRecord
from artifact_mask.io.load_data import column_names
from artifact_mask.metadata import Field, FieldKey, Plate, Well
from artifact_mask.workflows.exported_field import FieldExport
from artifact_mask.workflows.tabulate import layout_columns

_OWN = ("Plate", "Well", "Row", "Col", "Site", "Field", "Acquisition", "Timepoint", "Plane")


def list_images(
    plate: Plate, tasks: Mapping[int, FieldExport], records: Mapping[FieldKey, FieldRecord], base: str
) -> Iterator[dict[str, Any]]:
    """List the images of the fields that were written, a row a plane.

    Parameters
    ----------
    plate
        What was asked for.
    tasks
        What was made of the fields of each acquisition.
    records
        What became of them; one that failed, or was not reached, has no row.
    base
        What the folders of the images begin with; empty for folders relative to that of the list.
    """
    layers = layout_columns(plate.wells)
    layer_names = column_names(list(layers), taken=_OWN)
    channels = column_names([channel.name for task in tasks.values() for channel in task.acquisition.channels])
    for well in plate.wells:
        layout = {f"Metadata_{layer_names[name]}": values.get(well.name, "") for name, values in layers.items()}
        for field in well.fields:
            record, number = records.get((well.path, field.index)), plate.acquisition_of[well.path, field.index]
            if record is None or record.failed or number not in tasks:
                continue
            task = tasks[number]
            for t, z in task.tz:
                where = (plate.name, well.name, well.row, well.column, field.field_id, field.index, number, t, z)
                row = {f"Metadata_{name}": value for name, value in zip(_OWN, where, strict=True)}
                files = _files(task, (well, field), (t, z), channels, has_labels=record.row["has_labels"])
                yield row | layout | dict(_with_folders(files, f"{base}{task.folder}"))


def _files(
    task: FieldExport, place: tuple[Well, Field], tz: tuple[int, int], channels: Mapping[str, str], *, has_labels: bool
) -> dict[str, str]:
    """File names of a plane by the name of the column, with a gap for its kind."""
    t, z = tz
    found = {}
    for channel, name in task.names(*place, t=t, z=z).items():
        if channel is not None:
            found[f"Image_{{}}_{channels[channel]}"] = name
        elif has_labels:
            objects = column_names([task.label])[task.label]
            found[f"Image_Objects{{}}_{objects[:1].upper()}{objects[1:]}"] = name
    return found


def _with_folders(files: Mapping[str, str], folder: str) -> Iterator[tuple[str, str]]:
    for column, name in files.items():
        yield column.format("FileName"), name
        yield column.format("PathName"), folder

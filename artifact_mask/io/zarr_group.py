"""Groups of a Zarr v3 store: one small document each."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.location import Location, read_bytes


def write_group(files: StagedFiles, folder: Location, attributes: Mapping[str, Any], *, stamped: bool = True) -> None:
    """Write a group's ``zarr.json``.

    Parameters
    ----------
    files
        To write with.
    folder
        Of the group.
    attributes
        Models of NGFF metadata, which are dumped, or plain dictionaries.
    stamped
        False for a group that is written more than once: it is left alone where nothing has changed.
    """
    content = describe_group(attributes).encode()
    if stamped:
        files.write(folder / "zarr.json", content)
    else:
        files.write_if_changed(folder / "zarr.json", content)


def describe_group(attributes: Mapping[str, Any]) -> str:
    """``zarr.json`` of a group with some attributes; see :func:`write_group`."""
    # exclude_none as a whole: absent is what NGFF means by "not given".
    plain = {
        key: value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
        for key, value in attributes.items()
    }
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": plain}, indent=1)


def gap(name: str) -> str:
    """Stand-in for a value that differs from group to group, until :func:`fill_gaps` sets it."""
    return f"\0{name}"  # no text of a microscope holds a NUL


def fill_gaps(document: str, values: Mapping[str, Any]) -> bytes:
    """Set the values of a document's gaps.

    Examples
    --------
    >>> fill_gaps(json.dumps({"name": gap("name"), "y": gap("y")}), {"name": "0", "y": 1.5})
    b'{"name": "0", "y": 1.5}'
    """
    for name, value in values.items():
        document = document.replace(json.dumps(gap(name)), json.dumps(value))
    return document.encode()


def read_attributes(folder: Location) -> dict[str, Any]:
    """Attributes of a group; empty where there is none.

    Raises
    ------
    PlateError
        If the metadata is damaged.
    """
    try:
        document = json.loads(read_bytes(folder / "zarr.json"))
        attributes: dict[str, Any] = document.get("attributes", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, AttributeError) as error:
        raise PlateError(f"{folder / 'zarr.json'} is damaged ({error}). Remove the store and ingest again.") from error
    return attributes

"""Groups of a Zarr v3 store: one small document each."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.location import Location


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
    # exclude_none as a whole: absent is what NGFF means by "not given".
    plain = {
        key: value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
        for key, value in attributes.items()
    }
    document = {"zarr_format": 3, "node_type": "group", "attributes": plain}
    content = json.dumps(document, indent=1).encode()
    if stamped:
        files.write(folder / "zarr.json", content)
    else:
        files.write_if_changed(folder / "zarr.json", content)


def read_attributes(folder: Location) -> dict[str, Any]:
    """Attributes of a group; empty where there is none.

    Raises
    ------
    PlateError
        If the metadata is damaged.
    """
    try:
        document = json.loads((folder / "zarr.json").read_bytes())
        attributes: dict[str, Any] = document.get("attributes", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, AttributeError) as error:
        raise PlateError(f"{folder / 'zarr.json'} is damaged ({error}). Remove the store and ingest again.") from error
    return attributes

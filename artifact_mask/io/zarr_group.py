"""Groups of a Zarr v3 store: one small document each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from artifact_mask.errors import PlateError
from artifact_mask.io.files import write_if_changed


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write a group's ``zarr.json``; models of NGFF metadata are dumped, plain dictionaries taken as they are."""
    # exclude_none as a whole: absent is what NGFF means by "not given".
    plain = {
        key: value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
        for key, value in attributes.items()
    }
    document = {"zarr_format": 3, "node_type": "group", "attributes": plain}
    write_if_changed(folder / "zarr.json", json.dumps(document, indent=1).encode())


def read_attributes(folder: Path) -> dict[str, Any]:
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

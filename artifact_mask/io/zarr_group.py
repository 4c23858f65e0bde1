"""Groups of a store: small documents with attributes."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.location import Location, read_bytes


class Group(NamedTuple):
    """Attributes of a group.

    Attributes
    ----------
    layout
        In which it is written.
    ome
        Metadata of NGFF.
    attributes
        All of them.
    """

    layout: Layout
    ome: dict[str, Any]
    attributes: dict[str, Any]

    @property
    def artmask(self) -> dict[str, Any]:
        """Our own metadata; empty if there are none."""
        own: dict[str, Any] = self.attributes.get("artmask", {})
        return own


def write_group(
    files: StagedFiles,
    folder: Location,
    layout: Layout,
    ome: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    stamped: bool = True,
) -> None:
    """Write a group.

    Parameters
    ----------
    files
        To write with.
    folder
        Of the group.
    layout
        To write it in.
    ome
        Metadata of NGFF; empty if there are none.
    others
        Further attributes.
    stamped
        False for a group that is written more than once: it is left alone where nothing has changed.
    """
    for name, document in layout.describe_group(ome, others).items():
        if stamped:
            files.write(folder / name, document.encode())
        else:
            files.write_if_changed(folder / name, document.encode())


def dump(model: BaseModel) -> dict[str, Any]:
    """Metadata of a model of NGFF."""
    # exclude_none as a whole: absent is what NGFF means by "not given".
    return model.model_dump(mode="json", exclude_none=True)


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


def read_group(folder: Location, layouts: Iterable[Layout] = tuple(LAYOUTS.values())) -> Group | None:
    """Read the attributes of a group; None where there are none.

    Parameters
    ----------
    folder
        Of the group.
    layouts
        To look for, one after the other.

    Raises
    ------
    PlateError
        If the metadata is damaged.
    """
    for layout in layouts:
        file = folder / layout.attributes_file
        try:
            return Group(layout, *layout.parse_attributes(read_bytes(file)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (ValueError, AttributeError) as error:
            raise PlateError(f"{file} is damaged ({error}). Remove the store and ingest again.") from error
    return None

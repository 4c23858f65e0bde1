"""Flat fields that are stored in a plate, beside its wells: ``illumination/<acquisition>/flatfield``, ``(c, y, x)``."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import PlateError
from artifact_mask.io.chunk import REAL
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.plane import create_array, read_plane, write_plane
from artifact_mask.io.zarr_group import read_group, write_group
from artifact_mask.location import Location
from artifact_mask.metadata import NgffVersion

FOLDER, ARRAY, AXES = "illumination", "flatfield", "cyx"
_N_KEPT = 8
"""Flat fields that a worker keeps: those of a plate's channels."""


class StoredFlatField(NamedTuple):
    """Flat field of a channel of an acquisition, by which others know whether it has changed.

    Attributes
    ----------
    acquisition
        Its number.
    channel
        Its index.
    digest
        Of the pixels.
    shape
        Of the array ``(c, y, x)``.
    """

    acquisition: int
    channel: int
    digest: str
    shape: tuple[int, int, int]


def write_illumination(
    files: StagedFiles,
    plate: Location,
    profiles: Mapping[int, Mapping[int, NDArray[np.float32]]],
    described: Mapping[str, Any],
    *,
    n_channels: Mapping[int, int],
    ngff: NgffVersion = "0.5",
) -> None:
    """Write flat fields in the place of all that are there.

    Parameters
    ----------
    files
        To write with.
    plate
        Store.
    profiles
        ``(y, x)`` float32 of mean 1, by acquisition and index of the channel. Channels without one are 1 in the array.
    described
        What is said of them: ``ingest_digest`` and ``channels``, a list with ``acquisition`` and ``channel`` each.
    n_channels
        Of each acquisition.
    ngff
        Version of the plate.
    """
    layout = LAYOUTS[ngff]
    channels = [dict(entry) for entry in described["channels"]]
    for number, of_channel in profiles.items():
        y, x = next(iter(of_channel.values())).shape
        folder, shape = plate / FOLDER / str(number) / ARRAY, (n_channels[number], y, x)
        create_array(files, folder, shape, layout.chunk_shape((y, x)), AXES, REAL, layout=layout)
        for c in range(n_channels[number]):
            pixels = of_channel.get(c, np.ones((y, x), np.float32))
            write_plane(files, folder, (c,), pixels, layout.chunk_shape((y, x)), REAL, layout=layout)
        for entry in channels:
            if entry["acquisition"] == number:
                entry["digest"] = _digest(of_channel[entry["channel"]])
                entry["shape"] = list(shape)
        write_group(files, plate / FOLDER / str(number), layout, {}, {}, stamped=False)
    # Last: it vouches for the arrays.
    own = {"artmask": {**described, "channels": channels}}
    write_group(files, plate / FOLDER, layout, {}, own, stamped=False)


def read_description(plate: Location, ingest_digest: str) -> Mapping[str, Any]:
    """Read what is said of the stored flat fields; empty if there are none, or the images have been ingested anew."""
    group = read_group(plate / FOLDER)
    if not group or group.artmask.get("ingest_digest") != ingest_digest:
        return {}
    return group.artmask


def read_illumination(plate: Location, ingest_digest: str) -> dict[tuple[int, int], StoredFlatField]:
    """Find the flat fields of a plate by number of the acquisition and index of the channel; pixels are not read."""
    described = read_description(plate, ingest_digest)
    found = {}
    for entry in described.get("channels", ()):
        place = (entry["acquisition"], entry["channel"])
        found[place] = StoredFlatField(*place, entry["digest"], tuple(entry["shape"]))
    return found


@lru_cache(_N_KEPT)
def load_flat_field(plate: Location, stored: StoredFlatField) -> NDArray[np.float32]:
    """Pixels ``(y, x)`` float32 of mean 1; kept for the next time.

    Raises
    ------
    PlateError
        If they are not there, or not those that are described.
    """
    folder = plate / FOLDER / str(stored.acquisition) / ARRAY
    for layout in LAYOUTS.values():
        chunk = layout.chunk_shape((stored.shape[1], stored.shape[2]))
        pixels = read_plane(folder, stored.shape, (stored.channel,), chunk, AXES, REAL, layout=layout)
        if pixels is not None and _digest(pixels) == stored.digest:
            return pixels
    raise PlateError(
        f"The flat field {folder} is missing or damaged. Run `artmask illumination` again, or go on without it "
        "(--illumination none)."
    )


def _digest(pixels: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]

"""Fields of a plate as coarse blocks, from which a flat field is found."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.engine.journal import Unit
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ArtmaskError, PlateError, did_you_mean
from artifact_mask.io.ome_zarr import open_level, read_missing_planes
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.kernels.retrospective import FOREGROUND_QUANTILE, GRID, reduce_to_blocks
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Plate

_LEAST_BLOCK_PX = 6
"""Side of a block, at least, in the level of the pyramid that is read."""

Channels = dict[int, list[int]]
"""Indices of channels by the number of the acquisition."""


class SampledFields(NamedTuple):
    """What a task returns: blocks ``(c, y, x)`` of each field that could be read."""

    blocks: dict[int, NDArray[np.float32]]


def choose_channels(plate: Plate, names: Sequence[str]) -> Channels:
    """Channels of the names given, or all.

    Raises
    ------
    PlateError
        If a name is that of no channel.
    """
    known = {channel.name for acquisition in plate.acquisitions for channel in acquisition.channels}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PlateError(
            f"{plate.name} has no channel {unknown[0]!r}; its channels are {', '.join(sorted(known))}."
            f"{did_you_mean(unknown[0], known)}"
        )
    chosen = {
        number: [c for c, channel in enumerate(acquisition.channels) if not names or channel.name in names]
        for number, acquisition in enumerate(plate.acquisitions)
    }
    return {number: channels for number, channels in chosen.items() if channels}


def bind_sampling(root: Location, plate: Plate, channels: Channels, unit: Unit) -> "partial[SampledFields]":
    """Task that reduces the fields of a unit to blocks, with the description of its own well."""
    number = plate.acquisition_of[unit.well, unit.fields[0]]
    return partial(_sample, root, plate.acquisitions[number].only(unit.well), channels[number], unit)


def _sample(root: Location, acquisition: Acquisition, channels: Sequence[int], unit: Unit) -> SampledFields:
    """Reduce some fields to blocks; runs on a worker. What cannot be read is left out."""
    shapes = pyramid_shapes((acquisition.shape[-2], acquisition.shape[-1]))
    level = max((i for i, shape in enumerate(shapes) if min(shape) >= _LEAST_BLOCK_PX * GRID), default=0)
    middle = acquisition.shape[2] // 2
    found = {}
    for index in unit.fields:
        folder = root / unit.well / str(index)
        try:
            missing = retry(partial(read_missing_planes, folder))
            array = retry(partial(open_level, folder, level))
            found[index] = np.stack(
                [
                    np.full((GRID, GRID), np.nan, np.float32)
                    if (0, c, middle) in missing
                    else _reduce(np.asarray(array[0, c, middle]), acquisition.channels[c].kind)
                    for c in channels
                ]
            )
        except ArtmaskError:
            continue
    return SampledFields(found)


def _reduce(pixels: NDArray[np.uint16], kind: str) -> NDArray[np.float32]:
    return reduce_to_blocks(pixels, quantile=FOREGROUND_QUANTILE if kind == "fluorescence" else 0.5)

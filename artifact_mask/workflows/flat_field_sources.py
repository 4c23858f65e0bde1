"""Where the flat field of a channel comes from: its fields, Harmony, or images of an empty well."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import IlluminationConfig
from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.harmony_flatfield import background_polynomial
from artifact_mask.io.tiff import read_tiff_plane
from artifact_mask.kernels.flat_field import evaluate_polynomial
from artifact_mask.kernels.retrospective import (
    FEWEST_FIELDS,
    Estimate,
    estimate_shading,
    fit_shading,
    reduce_to_blocks,
)
from artifact_mask.location import LocalPath
from artifact_mask.metadata import Acquisition, Plate

_REFERENCE_DEGREE = 8
_MOST_UNUSABLE = 0.01
"""Share of the pixels of a reference image that may be black, or clipped."""


@dataclass(frozen=True, eq=False)
class FoundFlatField:
    """A channel's flat field, and what is said of it."""

    flat_field: NDArray[np.float32]
    described: dict[str, Any]
    blocks: NDArray[np.float32] | None = None
    estimate: Estimate | None = None


def find_flat_field(
    config: IlluminationConfig, plate: Plate, acquisition: Acquisition, c: int, sampled: list[NDArray[np.float32]]
) -> FoundFlatField | None:
    """Find the flat field of a channel of an acquisition by the method of a configuration.

    Parameters
    ----------
    config
        The method, the channels asked for, and the reference images.
    plate, acquisition, c
        Whose flat field: that of the channel of index ``c``.
    sampled
        Blocks ``(y, x)`` of fields, for the retrospective method; not a number where a plane is missing.

    Returns
    -------
    FoundFlatField | None
        None if Harmony has none, and the channel was not asked for by name.

    Raises
    ------
    PlateError
        If there is no profile for a channel asked for, the images are divided already, or there are too few fields.
    ImageError
        If a reference image cannot be used.
    """
    shape, channel = (acquisition.shape[-2], acquisition.shape[-1]), acquisition.channels[c]
    described: dict[str, Any] = {"name": channel.name, "method": config.method}
    if config.method == "harmony":
        if acquisition.flat_field == "harmony":
            raise PlateError(f"{plate.name} was ingested with --flatfield harmony: its images are corrected already.")
        polynomial = background_polynomial(acquisition.flat_field_profiles.get(str(channel.channel_id), {}))
        if polynomial is None and config.channels:
            raise PlateError(
                f"{plate.name} {channel.name}: Harmony found no flat field. Leave this channel out, or use another "
                "--method."
            )
        return None if polynomial is None else FoundFlatField(evaluate_polynomial(polynomial, shape), described)
    if config.method == "reference":
        mean = np.mean([_read_reference(file, shape) for file in config.reference], axis=0)
        shading = fit_shading(reduce_to_blocks(mean)[np.newaxis], _REFERENCE_DEGREE)
        return FoundFlatField(shading.evaluate(shape), described | {"n_images": len(config.reference)})
    blocks = np.stack([b for b in sampled if np.isfinite(b).all()]) if sampled else np.empty((0, 1, 1), np.float32)
    blocks = blocks[(blocks > 0).any(axis=(1, 2))]
    if len(blocks) < FEWEST_FIELDS:
        raise PlateError(
            f"{plate.name} {channel.name}: {len(blocks)} fields could be read, expected at least {FEWEST_FIELDS}. "
            "Use a reference image (--method reference), or leave this channel out with --channel."
        )
    estimate = estimate_shading(blocks)
    described |= {
        "n_fields": len(blocks),
        "degree": estimate.degree,
        "variation_before": round(float(np.median(estimate.before)), 6),
        "variation_after": round(float(np.median(estimate.after)), 6),
        "is_sure": estimate.is_sure,
    }
    return FoundFlatField(estimate.shading.evaluate(shape), described, blocks, estimate)


def _read_reference(file: LocalPath, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Read an image of an empty well.

    Raises
    ------
    ImageError
        If it cannot be read, or is black or clipped in many places: it would pass for evenly lit.
    """
    pixels = read_tiff_plane(file, shape)
    top = int(pixels.max())
    black = float(np.mean(pixels == 0))
    # Cameras of 12, 14 and 16 bits end at a number whose bits are all ones.
    clipped = float(np.mean(pixels == top)) if top and top & (top + 1) == 0 else 0.0
    if max(black, clipped) > _MOST_UNUSABLE:
        raise ImageError(
            f"{file}: {black:.0%} of the pixels are black and {clipped:.0%} clipped, expected {_MOST_UNUSABLE:.0%} "
            "at most. Give an image of an empty well at the exposure of the plate."
        )
    return pixels

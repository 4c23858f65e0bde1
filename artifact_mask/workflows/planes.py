"""The planes of one channel, as networks want them: found, read, normalised, and resampled to another pixel size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from artifact_mask.config import IlluminationUse
from artifact_mask.errors import ImageError, PlateError, did_you_mean
from artifact_mask.io.illumination_profiles import StoredFlatField, read_illumination
from artifact_mask.io.ome_zarr import read_image_plane, read_missing_planes
from artifact_mask.kernels.flat_field import correct_flat_field
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, PlaneIndex, Plate
from artifact_mask.workflows.progress import Progress

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

PIXEL_SIZE_TOLERANCE = 1.25
"""Up to this ratio a plate's pixels are taken for the model's: what a camera and an objective differ by."""


Illumination = Mapping[tuple[int, int], StoredFlatField]
"""Flat fields of a plate, by number of the acquisition and index of the channel."""


class Planes(NamedTuple):
    """The planes of a field's channel, by ``(t, z)``, and what is derived from each."""

    tz: list[tuple[int, int]]
    pixels: list[NDArray[np.uint16]]
    background: list[NDArray[np.float32]]
    contrast: list[NDArray[np.float32]]


class ChosenPlanes(NamedTuple):
    """Which planes of an acquisition a model looks at.

    Attributes
    ----------
    channel
        Index of the channel.
    scale
        How many times more pixels a side the model wants.
    pixel_size_um
        Of the acquisition.
    flat_field
        By which its pixels are divided; None for none.
    """

    channel: int
    scale: float
    pixel_size_um: float
    flat_field: StoredFlatField | None


def find_channel(acquisition: Acquisition, name: str | None) -> int:
    """Index of the channel of a name; without one, of the only brightfield channel.

    Raises
    ------
    PlateError
        If there is none, or more than one.
    """
    names = ", ".join(repr(channel.name) for channel in acquisition.channels)
    if name is not None:
        found = [c for c, channel in enumerate(acquisition.channels) if channel.name == name]
        wanted = f"channel named {name!r}"
    else:
        found = [c for c, channel in enumerate(acquisition.channels) if channel.kind == "brightfield"]
        wanted = "brightfield channel"
    if len(found) != 1:
        near = did_you_mean(name, [channel.name for channel in acquisition.channels]) if name is not None else ""
        raise PlateError(f"has {len(found)} {wanted}s, expected one.{near} Name one of {names} with --channel.")
    return found[0]


def scale_between(pixel_size_um: float, wanted_um: float) -> float:
    """Factor by which a field has more pixels a side at the wanted size; 1 where the sizes are about the same.

    Examples
    --------
    >>> scale_between(0.6, 0.3), scale_between(0.32, 0.3)
    (2.0, 1.0)
    """
    scale = pixel_size_um / wanted_um
    return 1.0 if 1 / PIXEL_SIZE_TOLERANCE <= scale <= PIXEL_SIZE_TOLERANCE else scale


def choose_planes(
    plate: Plate,
    channel: str | None,
    pixel_size_um: float,
    progress: Progress,
    *,
    illumination: Illumination,
) -> dict[int, ChosenPlanes]:
    """Channel, scale and flat field for each acquisition that has the channel; what is skipped or resampled is told.

    Raises
    ------
    PlateError
        If no acquisition has it.
    """
    chosen: dict[int, ChosenPlanes] = {}
    problems = []
    for number, acquisition in enumerate(plate.acquisitions):
        try:
            found = find_channel(acquisition, channel)
        except PlateError as error:
            problems.append(f"{plate.name} {error}")
            continue
        scale = scale_between(acquisition.pixel_size_um, pixel_size_um)
        if scale != 1:
            progress.note(
                f"Warning: {plate.name} has {acquisition.pixel_size_um:.3g} um a pixel, the model was trained at "
                f"{pixel_size_um:.3g} um. Fields are resampled by {scale:.2f} for it: look at the labels before "
                "you trust them."
            )
        flat_field = illumination.get((number, found))
        chosen[number] = ChosenPlanes(found, scale, acquisition.pixel_size_um, flat_field)
    if not chosen:
        raise PlateError(problems[0])
    for problem in problems:
        progress.note(f"An acquisition is skipped: {problem}")
    return chosen


def stored_flat_fields(root: Location, ingest_digest: str, use: IlluminationUse = "stored") -> Illumination:
    """Flat fields of a plate by acquisition and channel, if they are to be used."""
    return read_illumination(root, ingest_digest) if use == "stored" else {}


def read_corrected_plane(
    folder: Location, acquisition: Acquisition, index: PlaneIndex, flat_field: NDArray[np.float32] | None
) -> NDArray[np.uint16]:
    """Read one plane ``(y, x)`` of a field, divided by its flat field ``(y, x)`` if there is one."""
    pixels = read_image_plane(folder, acquisition, index)
    return pixels if flat_field is None else correct_flat_field(pixels, flat_field)


def read_planes(
    folder: Location,
    acquisition: Acquisition,
    channel: int,
    *,
    contrast_unit: float,
    flat_field: NDArray[np.float32] | None = None,
) -> Planes:
    """Read and normalise all planes of a field's channel, divided by its flat field ``(y, x)`` if there is one.

    Raises
    ------
    ImageError
        If one of them is missing.
    PlateError
        If the field is not in the store.
    """
    gaps = [reason for (_, c, _), reason in read_missing_planes(folder).items() if c == channel]
    if gaps:
        raise ImageError(f"{acquisition.channels[channel].name} is missing: {gaps[0]}")
    planes = Planes([], [], [], [])
    for t, z in np.ndindex(acquisition.shape[0], acquisition.shape[2]):
        pixels = read_corrected_plane(folder, acquisition, (t, channel, z), flat_field)
        background = estimate_background(pixels)
        planes.tz.append((t, z))
        planes.pixels.append(pixels)
        planes.background.append(background)
        planes.contrast.append(normalise_by_background(pixels, background, contrast_unit=contrast_unit))
    return planes


def resample(plane: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a plane ``(y, x)`` to another number of pixels; averaged where that is less."""
    if plane.shape == shape:
        return plane
    fewer = any(n < m for n, m in zip(shape, plane.shape, strict=True))
    return np.asarray(resize(plane, shape, order=1, anti_aliasing=fewer, preserve_range=True), np.float32)


def scaled_shape(shape: tuple[int, ...], scale: float) -> tuple[int, ...]:
    """Shape of a plane with ``scale`` times as many pixels a side, one at least."""
    return tuple(max(1, round(n * scale)) for n in shape)


def predict_planes(
    contrasts: Sequence[NDArray[np.float32]], scale: float, segmenter: "Segmenter"
) -> list[NDArray[np.float32]]:
    """Predict planes ``(y, x)`` at the model's own pixel size, ``scale`` times finer than theirs."""
    if scale == 1:
        planes = contrasts[0][np.newaxis] if len(contrasts) == 1 else np.stack(contrasts)
        return list(segmenter.predict(planes))
    shape = contrasts[0].shape
    finer = scaled_shape(shape, scale)
    probabilities = segmenter.predict(np.stack([resample(contrast, finer) for contrast in contrasts]))
    return [resample(probability, shape) for probability in probabilities]

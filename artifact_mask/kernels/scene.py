"""Synthetic fields of view of SA-beta-Gal-stained cells, with the truth about their artifacts, stain and shading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from artifact_mask.kernels.scene_artifacts import draw_artifacts
from artifact_mask.kernels.scene_cells import CellLayers, draw_cells
from artifact_mask.kernels.scene_optics import draw_illumination, expose, fluorescence_shading, image_thin_object

STAINED_DENSITY = 0.06
"""Optical density from which a spot counts as stained."""

MARGIN_PX = 32
"""What the canvas is wider than the field, on each side, so that nothing wraps around or stops at the border."""


@dataclass(frozen=True)
class Scene:
    """A synthetic field of view and the truth about it.

    Attributes
    ----------
    image
        ``(c, y, x)`` uint16; channel 0 is brightfield, 1 nuclei (Hoechst), 2.. further fluorescence.
    artifacts
        ``(y, x)`` uint8: 0 none, 1 crystal, debris, speck or fibre, 2 defocused blob, 3 well edge.
    stain
        ``(y, x)`` bool: where there is SA-beta-Gal stain, also where an artifact hides it.
    illumination
        ``(y, x)`` float32 of mean 1: shading of the brightfield channel.
    nuclei
        ``(y, x)`` int32: nuclei from 1, of those that lie on each other the brightest; also where an artifact is.
    nuclei_hidden
        ``(n + 1,)`` float32: share of each nucleus that others hide.
    """

    image: NDArray[np.uint16]
    artifacts: NDArray[np.uint8]
    stain: NDArray[np.bool_]
    illumination: NDArray[np.float32]
    nuclei: NDArray[np.int32]
    nuclei_hidden: NDArray[np.float32]


def draw_scene(
    shape: tuple[int, int],
    *,
    seed: int | Sequence[int],
    dose: float,
    n_channels: int = 1,
    pixel_size_um: float = 0.3,
    artifact_density: float = 1.0,
    illumination: NDArray[np.float32] | None = None,
) -> Scene:
    """Draw one synthetic field of view.

    Parameters
    ----------
    shape
        ``(y, x)`` in pixels, from 16 on.
    seed
        Seed of the field: the same seed, arguments and NumPy version draw the same field.
    dose
        0..1, drives the amount of stain around the nuclei; all else stays as it is.
    n_channels
        1 for brightfield alone, 2 with nuclei, more with further fluorescence.
    pixel_size_um
        Side of a pixel in micrometres; sizes of cells and artifacts are fixed in micrometres.
    artifact_density
        Factor on the number of artifacts (and the probability of a well edge, 0.03); 0 draws none.
    illumination
        ``(y, x)`` of mean 1: shading of the brightfield channel; by default the field has one of its own.

    Returns
    -------
    Scene
        Image and truth.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Cells and crystals are a thin object of phase and absorbance, seen through a defocused, obliquely lit microscope:
    the relief, the rims and the rings follow from the optics instead of being painted.

    Examples
    --------
    >>> scene = draw_scene((64, 96), seed=1, dose=0.5)
    >>> scene.image.shape, scene.image.dtype, scene.artifacts.shape
    ((1, 64, 96), dtype('uint16'), (64, 96))
    """
    _check(shape, dose, n_channels, pixel_size_um, artifact_density)
    px_per_um = 1 / pixel_size_um
    seeds = np.random.SeedSequence(seed).spawn(5)
    cell_rng, artifact_rng, light_rng, noise_rng, fluorescence_rng = (np.random.default_rng(s) for s in seeds)
    canvas = (
        int(fft.next_fast_len(shape[0] + 2 * MARGIN_PX)),
        int(fft.next_fast_len(shape[1] + 2 * MARGIN_PX)),
    )
    crop = slice(MARGIN_PX, MARGIN_PX + shape[0]), slice(MARGIN_PX, MARGIN_PX + shape[1])

    cells = draw_cells(canvas, cell_rng, dose=dose, px_per_um=px_per_um)
    artifacts = draw_artifacts(canvas, artifact_rng, density=artifact_density, px_per_um=px_per_um)
    direction = light_rng.uniform(0, 2 * np.pi)
    oblique = light_rng.uniform(0.05, 0.45)
    seen = image_thin_object(
        cells.phase + artifacts.phase,
        cells.stain + artifacts.absorbance,
        pixel_size_um=pixel_size_um,
        defocus_um=light_rng.uniform(1.2, 3.2),
        tilt=(oblique * np.sin(direction), oblique * np.cos(direction)),
    )
    own = draw_illumination(shape, light_rng, strength=min(0.25, float(light_rng.lognormal(np.log(0.05), 0.7))))
    # Drawn in any case, so that all else is the same.
    illumination = own if illumination is None else illumination
    brightness = light_rng.uniform(20_000, 43_000)
    expected = (seen * artifacts.transmission)[crop] * illumination * np.float32(brightness)
    image = np.empty((n_channels, *shape), np.uint16)
    image[0] = expose(expected, noise_rng)
    for channel in range(1, n_channels):
        image[channel] = _fluoresce(cells, fluorescence_rng, channel, crop, px_per_um)
    # The stain is an absorbance of the amplitude; its square is what is seen.
    optical_density = cells.stain[crop] * np.float32(2 / np.log(10))
    return Scene(
        image=image,
        artifacts=np.ascontiguousarray(artifacts.classes[crop]),
        stain=optical_density > STAINED_DENSITY,
        illumination=illumination,
        **_number_nuclei(cells.nucleus_labels[crop], cells.nucleus_hidden),
    )


def _number_nuclei(labels: NDArray[np.int32], hidden: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Give the nuclei of a field numbers from 1: those outside of it have none."""
    found, numbers = np.unique(labels, return_inverse=True)
    first = int(found[0] != 0)  # where nuclei cover all of the field
    numbered = (numbers.reshape(labels.shape) + first).astype(np.int32)
    return {"nuclei": numbered, "nuclei_hidden": np.append(np.float32(0), hidden[found[found > 0]])}


def _fluoresce(
    cells: CellLayers, rng: np.random.Generator, channel: int, crop: tuple[slice, slice], px_per_um: float
) -> NDArray[np.uint16]:
    """Draw one fluorescence channel ``(y, x)``: nuclei, or cell bodies with the grain of their texture."""
    source, brightness, contrast = cells.body, rng.uniform(800, 3_000), rng.uniform(0.15, 0.5)
    if channel == 1:
        source, brightness, contrast = cells.nuclei, rng.uniform(2_000, 6_000), 0.15
    source = source * np.maximum(1 + np.float32(contrast) * cells.texture, 0)
    light = ndimage.gaussian_filter(source, 0.35 * px_per_um)[crop]
    shading = fluorescence_shading((light.shape[0], light.shape[1]))
    return expose((rng.uniform(150, 400) + np.float32(brightness) * light) * shading, rng)


def _check(shape: tuple[int, int], dose: float, n_channels: int, pixel_size_um: float, artifact_density: float) -> None:
    """Raise on arguments out of range."""
    if len(shape) != 2 or min(shape) < 16:
        raise ValueError(f"shape is {shape}; expected two sides (y, x) of at least 16 pixels")
    if not 0 <= dose <= 1:
        raise ValueError(f"dose is {dose}; expected 0 to 1")
    if n_channels < 1:
        raise ValueError(f"n_channels is {n_channels}; expected at least 1 (brightfield)")
    if pixel_size_um <= 0:
        raise ValueError(f"pixel_size_um is {pixel_size_um}; expected more than 0")
    if artifact_density < 0:
        raise ValueError(f"artifact_density is {artifact_density}; expected 0 or more")

"""Optics and camera of synthetic brightfield fields: from a thin object to counts."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

WAVELENGTH_UM = 0.74
"""Brightfield light source, near infrared as on the Operetta."""

CUTOFF_PER_UM = 0.85
"""Spatial frequency at which the soft pupil has fallen to 1/e."""

NOISE_GAIN = 1.62
"""Standard deviation of the noise in units of the square root of the counts."""

FLUORESCENCE_SHADING = ((1.1,), (0.06, -0.04), (-0.6, 0.0, -0.6))
"""Shading of every fluorescence channel, of mean 1: ``[n][j]`` is the coefficient of ``u**(n-j) * v**j`` where ``u``
and ``v`` run from -0.5 to 0.5 along x and y, as in Harmony's flat-field profiles."""
DENOISING_PX = 0.7


def image_thin_object(
    phase: NDArray[np.float32],
    absorbance: NDArray[np.float32],
    *,
    pixel_size_um: float,
    defocus_um: float,
    tilt: tuple[float, float],
) -> NDArray[np.float32]:
    """Image a thin object through a defocused, obliquely lit microscope.

    Parameters
    ----------
    phase
        ``(y, x)``, phase delay in radians.
    absorbance
        ``(y, x)``, natural-logarithm absorbance of the amplitude; negative values brighten.
    pixel_size_um
        Side of a pixel, in micrometres.
    defocus_um
        Distance of the object from focus, in micrometres; its sign decides whether thick spots look bright or dark.
    tilt
        ``(y, x)`` slope of the pupil per unit of cut-off frequency: oblique light, which lights up one side of an edge.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, intensity relative to the empty field.

    Notes
    -----
    The field wraps around: objects near one side reach over to the opposite one by a few micrometres. Draw on a margin
    and crop.

    References
    ----------
    Goodman, *Introduction to Fourier Optics*, ch. 6: the amplitude spectrum times the pupil, whose phase is
    ``pi * wavelength * defocus * f**2``.

    Examples
    --------
    >>> empty = np.zeros((32, 32), np.float32)
    >>> seen = image_thin_object(empty, empty, pixel_size_um=0.3, defocus_um=3.0, tilt=(0.0, 0.2))
    >>> bool(np.allclose(seen, 1))
    True
    """
    frequency_y = fft.fftfreq(phase.shape[0], pixel_size_um).astype(np.float32)[:, None]
    frequency_x = fft.fftfreq(phase.shape[1], pixel_size_um).astype(np.float32)[None, :]
    squared = frequency_y**2 + frequency_x**2
    slope = (tilt[0] * frequency_y + tilt[1] * frequency_x) / np.float32(CUTOFF_PER_UM)
    pupil = np.exp(-((squared / np.float32(CUTOFF_PER_UM**2)) ** 1.5)) * np.clip(1 + slope, 0, 2)
    spectrum = fft.fft2(np.exp(1j * phase - absorbance))
    spectrum *= pupil * np.exp(np.complex64(1j * np.pi * WAVELENGTH_UM * defocus_um) * squared)
    amplitude = fft.ifft2(spectrum, overwrite_x=True)
    intensity: NDArray[np.float32] = amplitude.real**2 + amplitude.imag**2
    return intensity


def draw_illumination(shape: tuple[int, int], rng: np.random.Generator, *, strength: float) -> NDArray[np.float32]:
    """Draw a smooth shading of mean 1 whose brightest and darkest spots differ by ``strength``.

    Parameters
    ----------
    shape
        ``(y, x)`` in pixels; the shading always spans the whole field.
    rng
        Source of randomness.
    strength
        Range over the field (brightest less darkest) relative to the mean.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, mean 1.
    """
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    slope_y, slope_x = rng.normal(0, 0.5, 2)
    centre_y, centre_x = rng.uniform(-0.6, 0.6, 2)
    width_y, width_x = rng.uniform(0.8, 1.8, 2)
    # A bell and a few waves: no polynomial, so that a polynomial fit has something to miss.
    bell = np.exp(-(((y - centre_y) / width_y) ** 2) - ((x - centre_x) / width_x) ** 2)
    waves = sum(
        rng.normal(0, 0.1) * np.cos(np.pi * (a * y + b * x) + rng.uniform(0, 2 * np.pi))
        for a, b in ((0.5, 0.5), (1.0, 0.3), (0.3, 1.0), (1.0, -1.0))
    )
    shading = slope_y * y + slope_x * x + rng.uniform(0.5, 3.0) * bell + waves
    span = float(shading.max() - shading.min())
    shading = 1 + strength * (shading - shading.mean()) / max(span, 1e-6)
    result: NDArray[np.float32] = (shading / shading.mean(dtype=np.float64)).astype(np.float32)
    return result


def fluorescence_shading(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Shading ``(y, x)`` float32 that :data:`FLUORESCENCE_SHADING` stands for."""
    v = ((np.arange(shape[0]) - (shape[0] - 1) / 2) / shape[0])[:, None]
    u = ((np.arange(shape[1]) - (shape[1] - 1) / 2) / shape[1])[None, :]
    shading = np.zeros(shape)
    for n, row in enumerate(FLUORESCENCE_SHADING):
        for j, coefficient in enumerate(row):
            shading += coefficient * u ** (n - j) * v**j
    return shading.astype(np.float32)


def expose(expected: NDArray[np.float32], rng: np.random.Generator, *, gain: float = NOISE_GAIN) -> NDArray[np.uint16]:
    """Turn expected counts into the camera's, with white noise of ``gain * sqrt(counts)``.

    Parameters
    ----------
    expected
        ``(y, x)``, expected counts.
    rng
        Source of randomness.
    gain
        Noise per square root of counts.

    Returns
    -------
    NDArray[np.uint16]
        ``(y, x)``, clipped to the range of the camera.
    """
    noise = rng.standard_normal(expected.shape, dtype=np.float32)
    noise *= np.sqrt(np.maximum(expected, 16)) * np.float32(gain)
    noise += expected
    return np.clip(noise.round(), 1, 65535).astype(np.uint16)


def retake(image: NDArray[np.uint16], rng: np.random.Generator, *, defocus_px: float = 0.0) -> NDArray[np.uint16]:
    """Take an image again: the same object, out of focus by a Gaussian, with noise of its own.

    Parameters
    ----------
    image
        ``(y, x)``, as it was taken the first time.
    rng
        Source of randomness.
    defocus_px
        Standard deviation of the blur in pixels.

    Returns
    -------
    NDArray[np.uint16]
        ``(y, x)``.
    """
    # A narrow Gaussian takes most of the first noise away, and little of the object.
    expected = ndimage.gaussian_filter(image.astype(np.float32), max(DENOISING_PX, defocus_px))
    return expose(expected, rng)


def splat(shape: tuple[int, int], points: NDArray[np.float32], *, sigma_px: float) -> NDArray[np.float32]:
    """Sum Gaussian spots.

    Parameters
    ----------
    shape
        ``(y, x)`` of the result.
    points
        ``(3, n)``: y, x in pixels, and the integral of each spot. Spots outside are dropped.
    sigma_px
        Standard deviation of the spots, in pixels.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``.
    """
    y, x, weight = points
    inside = (y >= 0) & (x >= 0) & (y < shape[0] - 1) & (x < shape[1] - 1)
    y, x, weight = y[inside], x[inside], weight[inside]
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = y - top, x - left
    corner = top * shape[1] + left
    index = np.concatenate([corner, corner + 1, corner + shape[1], corner + shape[1] + 1])
    share = np.concatenate(
        [
            weight * (1 - down) * (1 - right),
            weight * (1 - down) * right,
            weight * down * (1 - right),
            weight * down * right,
        ]
    )
    summed = np.bincount(index, weights=share, minlength=shape[0] * shape[1])
    spots: NDArray[np.float32] = ndimage.gaussian_filter(
        summed.reshape(shape).astype(np.float32), sigma=sigma_px, truncate=3.0
    )
    return spots

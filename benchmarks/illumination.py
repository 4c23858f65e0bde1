"""Shading that is left by a retrospective flat field: `python -m benchmarks.illumination [IMAGES]`.

Simulated fields share a shading that is known; what is left is the variation (standard deviation over mean) of the
truth divided by what was found, over that of the truth. With a folder of real brightfield TIFFs: the robust variation
of each field's blocks before and after division by the flat field of the other wells, and by the field's own
background.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np
import tifffile

from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.kernels.retrospective import (
    FOREGROUND_QUANTILE,
    estimate_shading,
    fit_shading,
    reduce_to_blocks,
    variation,
)
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.scene_optics import draw_illumination, fluorescence_shading

SIDE_PX, STEP = 540, 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?", help="folder of real fields, named by Harmony")
    parser.add_argument("--fields", type=int, nargs="+", default=[3, 4, 8, 16, 48])
    parser.add_argument("--plates", type=int, default=3)
    arguments = parser.parse_args()
    print("| plate | channel | shading | fields | degree | left | own background leaves | s |")
    print("|---|---|---|---|---|---|---|---|")
    for plate in range(arguments.plates):
        _simulated(plate, arguments.fields)
    if arguments.images:
        _real(sorted(arguments.images.glob("*.tif*")))


def _simulated(plate: int, numbers: list[int]) -> None:
    shape, n_fields = (SIDE_PX, SIDE_PX), max(numbers)
    shading = draw_illumination(shape, np.random.default_rng(plate), strength=(0.1, 0.2, 0.3)[plate % 3])
    scenes = [
        draw_scene(shape, seed=(plate, i), dose=(i % 6) / 5, n_channels=2, illumination=shading)
        for i in range(n_fields)
    ]
    for c, (name, truth, quantile) in enumerate(
        (("brightfield", shading, 0.5), ("nuclei", fluorescence_shading(shape), FOREGROUND_QUANTILE))
    ):
        images = [scene.image[c] for scene in scenes]
        blocks = np.stack([reduce_to_blocks(image[::STEP, ::STEP], quantile=quantile) for image in images])
        own = [_spread(truth / estimate_background(image)) / _spread(truth) for image in images[:8]]
        for n in numbers:
            start = time.perf_counter()
            found = estimate_shading(blocks[:n])
            seconds = time.perf_counter() - start
            left = _spread(truth / found.shading.evaluate(shape)) / _spread(truth)
            print(
                f"| {plate} | {name} | {np.ptp(truth):.2f} | {n} | {found.degree} | {left:.3f} | "
                f"{np.mean(own):.2f} | {seconds:.2f} |"
            )


def _real(files: list[Path]) -> None:
    images = [tifffile.imread(file) for file in files]
    wells = np.array([re.match(r"r\d+c\d+", file.name)[0] for file in files])
    blocks = np.stack([reduce_to_blocks(image[::4, ::4]) for image in images])
    found = estimate_shading(blocks)
    own = [variation(reduce_to_blocks((i / estimate_background(i))[::4, ::4]).ravel()) for i in images]
    before = [variation(field.ravel()) for field in blocks]
    print(f"\n{len(files)} real fields of {len(set(wells))} wells: degree {found.degree} is chosen")
    print(
        f"background varies by {np.median(before):.2%} before, {np.median(own):.2%} against the field's own background"
    )
    for degree in (2, 4, 6):
        after = np.empty(len(files))
        for well in set(wells):
            flat = fit_shading(blocks[wells != well], degree).evaluate(blocks.shape[1:])
            after[wells == well] = [variation((field / flat).ravel()) for field in blocks[wells == well]]
        print(f"degree {degree}, from the other wells: {np.median(after):.2%}")


def _spread(values: np.ndarray) -> float:
    return float(values.std() / values.mean())


if __name__ == "__main__":
    main()

"""How well nuclei are found: F1 at an IoU of 0.5 on simulated fields, at several densities and pixel sizes.

    python benchmarks/nuclei.py [--fields 12] [--size 1080]

A true nucleus that brighter ones hide for more than half cannot be told by anyone; such ones, and slivers of less than
the smallest area that is looked for, are left out of the second figure: they count neither as missed, nor as false
where they are found. The first figure counts everything.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.kernels import scene_cells
from artifact_mask.kernels.nuclei import NucleusSearch, segment_nuclei
from artifact_mask.kernels.scene import Scene, draw_scene

DENSITIES = (0.5, 1.0, 2.0, 4.0)
PIXEL_SIZES_UM = (0.3, 0.6)


class Matches(NamedTuple):
    """Nuclei that were found and are true, found, and true."""

    true_positive: int
    found: int
    true: int

    @property
    def f1(self) -> float:
        """Of precision and recall."""
        return 2 * self.true_positive / max(self.found + self.true, 1)


def match(found: NDArray[np.int32], truth: NDArray[np.int32], ignored: set[int]) -> Matches:
    """Match nuclei whose intersection over union is more than a half: no other can then have more."""
    pairs, n_common = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1, return_counts=True)
    n_found, n_true = np.bincount(found.ravel()), np.bincount(truth.ravel())
    matched = {}
    for (f, t), n in zip(pairs.T.tolist(), n_common.tolist(), strict=True):
        if f and t and 2 * n > n_found[f] + n_true[t] - n:
            matched[f] = t
        elif f and t in ignored and 2 * n > n_found[f]:
            matched[f] = t
    hits = [f for f, t in matched.items() if t not in ignored]
    n_ignored = len(matched) - len(hits)
    found_numbers, true_numbers = np.flatnonzero(n_found[1:]), np.flatnonzero(n_true[1:]) + 1
    return Matches(len(hits), len(found_numbers) - n_ignored, len(set(true_numbers.tolist()) - ignored))


def measure(scene: Scene, search: NucleusSearch, pixel_size_um: float) -> tuple[Matches, Matches, float]:
    """Count a field's matches, of all nuclei and of those that can be told, and the seconds that it took."""
    started = time.perf_counter()
    found = segment_nuclei(scene.image[1], pixel_size_um=pixel_size_um, search=search)
    seconds = time.perf_counter() - started
    areas = np.bincount(scene.nuclei.ravel(), minlength=len(scene.nuclei_hidden)) * pixel_size_um**2
    hidden = np.flatnonzero((scene.nuclei_hidden > 0.5) | (areas < search.min_area_um2))
    return match(found, scene.nuclei, set()), match(found, scene.nuclei, set(hidden.tolist())), seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=12)
    parser.add_argument("--size", type=int, default=1080)
    options = parser.parse_args()
    search, usual = NucleusSearch(), scene_cells.CELLS_PER_MM2
    print("pixel_um density   true  found | F1 of all | F1 of those that can be told  (n) | s/field")
    for pixel_size_um in PIXEL_SIZES_UM:
        for density in DENSITIES:
            scene_cells.CELLS_PER_MM2 = usual * density
            size = round(options.size * 0.3 / pixel_size_um)
            draw = partial(_draw, size, pixel_size_um)
            with ThreadPoolExecutor(1) as pool:
                counted = [measure(scene, search, pixel_size_um) for scene in pool.map(draw, range(options.fields))]
            everything, told = (Matches(*np.sum([c[i] for c in counted], axis=0)) for i in (0, 1))
            seconds = np.mean([c[2] for c in counted])
            print(
                f"{pixel_size_um:8} {density:7} {everything.true:6} {everything.found:6} |    {everything.f1:.4f} |"
                f" {told.f1:.4f} (of {told.true}) | {seconds:.2f}",
                flush=True,
            )


def _draw(size: int, pixel_size_um: float, seed: int) -> Scene:
    return draw_scene((size, size), seed=(77, seed), dose=0.5, n_channels=2, pixel_size_um=pixel_size_um)


if __name__ == "__main__":
    main()

"""How many fields a second the presets of the U-Net predict, in turns in one process.

Usage, from the root of the repository::

    python -m benchmarks.unet_speed [--size 1080] [--rounds 7] [--precision bfloat16]

Weights are random: they do not change the time. A field of contrast goes in, a field of probabilities comes out, at its
own size; what a preset wants resampled is resampled within the time, as `artmask run` does. Ratios are against the
`published` preset, in the median over the rounds; time is that of all threads.
"""

import argparse
import time

import numpy as np
import torch

from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.nn.device import choose_device
from artifact_mask.nn.model_card import PRESETS, UNetCard
from artifact_mask.nn.predict import Segmenter
from artifact_mask.nn.unet import build_unet
from artifact_mask.workflows.planes import predict_planes


def main() -> None:
    """Time all presets in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1080)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--presets", nargs="*", default=["light", "wide", "published"])
    args = parser.parse_args()

    image = draw_scene((args.size, args.size), seed=1, dose=0.5).image[0]
    contrast = normalise_by_background(image, estimate_background(image))
    segmenters = {name: make_segmenter(name) for name in args.presets}
    scales = {name: (PRESETS[name].field_px or args.size) / args.size for name in args.presets}
    seconds: dict[str, list[float]] = {name: [] for name in args.presets}
    for turn in range(args.rounds + 1):
        for name, segmenter in segmenters.items():
            began = time.perf_counter()
            predict_planes([contrast], scales[name], segmenter)
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    print(f"{args.size} x {args.size}, {choose_device()}, {torch.get_num_threads()} threads\n")
    print("| preset | weights | s a field (median) | fields/s | against published |\n|---|---|---|---|---|")
    for name, segmenter in segmenters.items():
        median = float(np.median(seconds[name]))
        ratio = (
            np.median(np.array(seconds["published"]) / np.array(seconds[name])) if "published" in seconds else np.nan
        )
        n_weights = sum(p.numel() for p in build_unet(segmenter.card.architecture).parameters())
        print(f"| {name} | {n_weights:,} | {median:.3f} | {1 / median:.2f} | {ratio:.1f} x |")


def make_segmenter(name: str) -> Segmenter:
    """Give a preset random weights."""
    spec = PRESETS[name].architecture
    torch.manual_seed(0)
    card = UNetCard(
        name=name, version="1", architecture=spec, pixel_size_um=0.3, threshold=0.5, min_object_px=25, licence="0BSD"
    )
    return Segmenter.of(build_unet(spec), card)


if __name__ == "__main__":
    main()

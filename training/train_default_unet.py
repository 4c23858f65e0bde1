"""Train the U-Net that the package ships, with a cross-validation over wells.

Usage, from the root of the repository::

    python -m training.train_default_unet --images DIR --masks DIR --simulated 30 --folds 4 --predictions DIR
    python -m training.choose_threshold --masks DIR --predictions DIR
    python -m training.train_default_unet --images DIR --masks DIR --simulated 30 --choice DIR/choice.json --out FILE

The first cross-validates, the second chooses threshold and smallest object on the held-out fields, the third trains on
all fields. Images are TIFFs named ``rNNcNN...``, masks PNGs of the same stem: 0 background, 1 debris, 2 defocused blob,
3 well edge, 255 leave out. A well is never in both training and test.
"""

import argparse
import copy
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.nn.checkpoint import save_model
from artifact_mask.nn.model_card import UNetCard, UNetSpec
from artifact_mask.nn.unet import ArtifactUNet, build_unet
from training.compose import BACKGROUND, BLOB, DEBRIS, LabelledField, compose, cut_out_debris
from training.sampling import FieldOfCrops, draw_batch


def read_fields(images: Path, masks: Path) -> dict[str, LabelledField]:
    """Read and normalise every field that has a mask."""
    fields = {}
    for path in sorted(masks.glob("*.png")):
        image = tifffile.imread(images / f"{path.stem}.tiff")
        contrast = normalise_by_background(image, estimate_background(image))
        fields[path.stem] = LabelledField(contrast, np.array(Image.open(path)))
    return fields


def draw_fields(n: int, seed: int) -> list[LabelledField]:
    """Draw synthetic fields, crowded with artifacts, outlined as loosely as the real masks are."""
    fields = []
    for i in range(n):
        rng = np.random.default_rng((seed, i))
        scene = draw_scene(
            (1080, 1080), seed=(seed, i), dose=rng.uniform(), artifact_density=np.exp(rng.uniform(-1, 1.5))
        )
        classes = scene.artifacts.copy()
        grown = ndimage.binary_dilation(classes == DEBRIS, iterations=2) & (classes == BACKGROUND)
        classes[grown] = DEBRIS
        contrast = normalise_by_background(scene.image[0], estimate_background(scene.image[0]))
        fields.append(LabelledField(contrast, classes))
    return fields


def split_by_well(fields: dict[str, LabelledField], n_folds: int) -> list[list[str]]:
    """Share the wells out to folds of about equal numbers of fields with shadows and fields in all."""
    wells: dict[str, list[str]] = {}
    for stem in fields:
        wells.setdefault(stem[:6], []).append(stem)
    folds: list[list[str]] = [[] for _ in range(n_folds)]

    def n_shadows(stems: list[str]) -> int:
        return sum(bool((fields[s].classes == BLOB).any()) for s in stems)

    for well in sorted(wells, key=lambda w: (-n_shadows(wells[w]), -len(wells[w]), w)):
        smallest = min(folds, key=lambda f: (n_shadows(f) if n_shadows(wells[well]) else 0, len(f)))
        smallest.extend(wells[well])
    return folds


def loss_of(logit: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus soft Dice over the batch."""
    entropy = functional.binary_cross_entropy_with_logits(logit, target, weight=weight, reduction="sum")
    probability = torch.sigmoid(logit)
    overlap = (weight * probability * target).sum()
    dice = 1 - (2 * overlap + 100) / ((weight * (probability + target)).sum() + 100)
    return 5 * entropy / weight.sum() + dice


def train(
    fields: list[LabelledField],
    simulated: list[LabelledField],
    args: argparse.Namespace,
    *,
    seed: int,
    start: Path | None,
) -> ArtifactUNet:
    """Train one network and return the moving average of its weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = build_unet(UNetSpec(features=tuple(args.features))).to(memory_format=torch.channels_last)
    torch.nn.init.constant_(network.body.final_conv.bias, -4.0)  # about 2 % of the pixels are artifact
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True))
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=args.steps, pct_start=0.15)
    cutouts = cut_out_debris(fields)
    real = [FieldOfCrops(f) for f in fields]
    composed = [FieldOfCrops(compose(f, cutouts, rng)) for f in fields] if args.composed > 0 else []
    drawn = [FieldOfCrops(f) for f in simulated]
    shares = {"composed": args.composed if composed else 0.0, "drawn": args.drawn if drawn else 0.0}
    began, running = time.perf_counter(), 0.0
    for step in range(args.steps):
        pool = real + composed + drawn
        weights = np.concatenate(
            [
                np.full(len(real), (1 - sum(shares.values())) / len(real)),
                np.full(len(composed), shares["composed"] / max(len(composed), 1)),
                np.full(len(drawn), shares["drawn"] / max(len(drawn), 1)),
            ]
        )
        contrast, target, weight = draw_batch(pool, weights, args.batch, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logit = network(contrast.contiguous(memory_format=torch.channels_last))
        loss = loss_of(logit.float(), target, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _follow(average, network, min(0.995, (step + 1) / (step + 10)))
        running += (loss.item() - running) * max(0.01, 1 / (step + 1))
        if composed and step % 8 == 7:
            i = int(rng.integers(len(fields)))
            composed[i] = FieldOfCrops(compose(fields[i], cutouts, rng))
        if step % 200 == (199 if start is None else 0):
            for crops in real:
                crops.learn_from(probability_of(average, crops.layers[0, 0].numpy()))
        if step % 50 == 49:
            print(f"  step {step + 1}/{args.steps} loss {running:.4f} {time.perf_counter() - began:.0f} s", flush=True)
    return average


@torch.no_grad()
def _follow(average: ArtifactUNet, network: ArtifactUNet, momentum: float) -> None:
    """Move the averaged weights and statistics towards the network's."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - momentum)
        else:
            kept.copy_(new)


@torch.inference_mode()
def probability_of(network: ArtifactUNet, contrast: NDArray[np.float32]) -> NDArray[np.float32]:
    """Predict one whole field."""
    height, width = contrast.shape
    padded = np.pad(contrast, ((0, -height % 32), (0, -width % 32)), mode="reflect")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logit = network(torch.from_numpy(padded)[None, None].contiguous(memory_format=torch.channels_last))
    result: NDArray[np.float32] = torch.sigmoid(logit.float())[0, 0, :height, :width].numpy()
    return result


def describe(args: argparse.Namespace, n_fields: int) -> UNetCard:
    """Write the card of the network trained on everything."""
    choice: dict[str, Any] = {"threshold": 0.5, "min_object_px": 25, "metrics": {}}
    if args.choice:
        choice = json.loads(args.choice.read_text())
    return UNetCard(
        name="default-unet",
        version="1",
        architecture=UNetSpec(features=tuple(args.features)),
        pixel_size_um=0.3,
        pixel_size_assumed=True,
        threshold=choice["threshold"],
        min_object_px=choice["min_object_px"],
        threshold_choice=(
            "By hand on pooled predictions of a cross-validation over wells: the plateau of the tolerant F1 of debris "
            "(0.2 to 0.5 and 15 to 60 px differ by 0.005), midway between more objects found and fewer false ones."
        ),
        training_data=(
            f"{n_fields} real brightfield fields (40x air, SA-beta-Gal-stained mesenchymal stem cells) of the toy data "
            "set of Ebony-Watson/Automatic_Imaging_Artifact_Masking (GPL-3.0), with silver-standard masks of our own",
            "the same fields with defocused blobs, well edges and their own debris drawn in",
            f"{args.simulated} synthetic fields of artifact_mask.kernels.scene",
        ),
        metrics=choice["metrics"],
        software={"python": platform.python_version()}
        | {p: version(p) for p in ("artmask", "torch", "monai", "numpy")},
        licence="BSD-3-Clause",
    )


def main() -> None:
    """Cross-validate, or train on everything and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--simulated", type=int, default=0, help="number of drawn fields")
    parser.add_argument("--composed", type=float, default=0.35, help="share of crops from composed fields")
    parser.add_argument("--drawn", type=float, default=0.12, help="share of crops from drawn fields")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate with so many folds")
    parser.add_argument("--only-folds", type=int, nargs="*", help="run these folds only")
    parser.add_argument("--predictions", type=Path, help="folder for the probabilities of the held-out fields")
    parser.add_argument("--out", type=Path, help="train on all fields and save here")
    parser.add_argument("--choice", type=Path, help="choice.json of training.choose_threshold, for the card")
    parser.add_argument("--start", type=Path, help="predictions of an earlier round, to go on from its networks")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--features", type=int, nargs=6, default=[16, 24, 32, 64, 128, 16])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    fields = read_fields(args.images, args.masks)
    simulated = draw_fields(args.simulated, args.seed)
    folds = split_by_well(fields, args.folds) if args.folds else []
    for number, held_out in enumerate(folds):
        if args.only_folds and number not in args.only_folds:
            continue
        print(f"fold {number}: {' '.join(held_out)}", flush=True)
        rest = [f for s, f in fields.items() if s not in held_out]
        earlier = args.start / f"fold{number}.pt" if args.start else None
        network = train(rest, simulated, args, seed=args.seed + number, start=earlier)
        args.predictions.mkdir(parents=True, exist_ok=True)
        for stem in held_out:
            np.save(args.predictions / f"{stem}.npy", probability_of(network, fields[stem].contrast).astype(np.float16))
        torch.save(network.state_dict(), args.predictions / f"fold{number}.pt")
    if args.out:
        earlier = args.start / "fold0.pt" if args.start else None
        network = train(list(fields.values()), simulated, args, seed=args.seed, start=earlier)
        save_model(args.out, network, describe(args, len(fields)))


if __name__ == "__main__":
    main()

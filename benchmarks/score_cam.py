"""Score-CAM beside grad-cam and torchcam: `python benchmarks/score_cam.py --classifier FILE --images DIR`.

On fields averaged to 576x576, the published configuration, with the classifier's last stage. The two packages get the
same network as it was trained (batch norms not merged), in float32, and only some of the maps of one field, since a
field takes minutes; every map costs them the same. All engines are timed in turn, in one run.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from artifact_mask.config import ExplanationConfig, Precision
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.saliency import upsample
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.score_regression import disagreement
from artifact_mask.nn.checkpoint import load_model
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.device import native_precision
from artifact_mask.nn.model_card import ClassifierCard
from artifact_mask.nn.resnet import ARTIFACT
from artifact_mask.nn.score_cam import Saliency, ScoreCam, class_activation, mean_of_maps

SIDE_PX = 576
FAST_TOLERANCE = ExplanationConfig().tolerance
Field = NDArray[np.float32]


class Few(torch.nn.Module):
    """A network whose last stage hands only some of its maps to whoever hooks it."""

    def __init__(self, network: torch.nn.Module, n_maps: int) -> None:
        super().__init__()
        self.network, self.n_maps, self.shown = network, n_maps, torch.nn.Identity()

    def forward(self, contrast: torch.Tensor) -> torch.Tensor:
        """Compute logits as the network does."""
        maps = self.network.stages(contrast.clamp(-self.network.clip, self.network.clip))
        self.shown(maps[:, : self.n_maps])
        logits: torch.Tensor = self.network.judge(maps)
        return logits


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="folder of brightfield TIFF files")
    parser.add_argument("--simulated", type=int, default=0, help="fields to draw as well")
    parser.add_argument("--fields", type=int, help="at most")
    parser.add_argument("--peer-maps", type=int, default=32, help="maps that the packages score in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-exact", action="store_true", help="do without the exact maps, and the overlaps with them")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the other packages
    if arguments.memory_of:
        classifier = Classifier.load(arguments.classifier, "cpu")
        noise = np.random.default_rng(0).normal(0, 1, (SIDE_PX, SIDE_PX)).astype(np.float32)
        _engines(arguments, classifier, noise)[arguments.memory_of]()
        # Not of getrusage, which counts the process that started this one.
        status = Path("/proc/self/status").read_text()
        print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
        return
    fields = _load(arguments.images, arguments.simulated)[: arguments.fields]
    classifier = Classifier.load(arguments.classifier, "cpu")
    n_maps = classifier.network.fc.in_features
    precision = native_precision(classifier.device)
    gflop = _gflop(classifier)
    print(
        f"{torch.get_num_threads()} thread(s), {n_maps} maps, {len(fields)} fields, {gflop:.1f} GFLOP a forward pass\n"
    )

    rates = _rates(arguments, _engines(arguments, classifier, fields[0]))
    peak = _peak_gflops(getattr(torch, precision))
    print(
        "| engine | forward passes/s | CPU s a pass | s a field, all maps | peak GB, some maps |\n|---|---|---|---|---|"
    )
    for name, (wall_s, cpu_s) in rates.items():
        memory_gb = _memory_gb(arguments, name)
        print(f"| {name} | {1 / wall_s:.2f} | {cpu_s:.3f} | {n_maps * wall_s:.0f} | {memory_gb:.2f} |", flush=True)
    print(
        f"| limit: {precision} matrix products, {peak:.0f} GFLOP/s "
        f"| {peak / gflop:.2f} | {gflop / peak:.3f} | {n_maps * gflop / peak:.0f} | |\n"
    )

    fast_s, fast_cpu_s, found, overlaps = _fast(classifier, fields, exact=not arguments.no_exact)
    n_passes = [saliency.n_forwards for saliency in found]
    print(
        f"fast (tolerance {FAST_TOLERANCE}): {np.mean(fast_s):.2f} s a field (worst {max(fast_s):.2f}), "
        f"{np.mean(fast_cpu_s):.2f} s CPU, {np.mean(n_passes):.0f} passes (worst {max(n_passes)}), "
        f"estimated error {np.mean([saliency.error for saliency in found]):.3f}"
    )
    for name in ("grad-cam", "torchcam"):
        print(
            f"{name} takes {n_maps * rates[name][0] / np.mean(fast_s):.0f} times as long, "
            f"{n_maps * rates[name][1] / np.mean(fast_cpu_s):.0f} times as much CPU time"
        )
    if overlaps:
        print("\n| overlap (IoU at half of maximum) with the exact map | mean | worst |\n|---|---|---|")
        for name, values in overlaps.items():
            print(f"| {name} | {np.mean(values):.3f} | {min(values):.3f} |")


def _load(folder: Path | None, n_simulated: int) -> list[Field]:
    images = [tifffile.imread(path) for path in sorted(folder.glob("*.tif*"))] if folder else []
    images += [draw_scene((1080, 1080), seed=seed, dose=0.5).image[0] for seed in range(n_simulated)]
    fields = [normalise_by_background(image, estimate_background(image)) for image in images]
    return [
        functional.interpolate(torch.from_numpy(f)[None, None], (SIDE_PX, SIDE_PX), mode="area")[0, 0].numpy()
        for f in fields
    ]


def _engines(arguments: argparse.Namespace, classifier: Classifier, field: Field) -> dict[str, Callable[[], object]]:
    """Make what scores ``--peer-maps`` maps of a field, by the names of the packages."""
    from pytorch_grad_cam import ScoreCAM as GradCam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import ScoreCAM as TorchCam

    network, _ = load_model(arguments.classifier, ClassifierCard)
    few, n = Few(network.requires_grad_(False), arguments.peer_maps), arguments.peer_maps
    tensor = torch.from_numpy(field)[None, None]

    def grad_cam() -> None:
        with GradCam(few, [few.shown]) as cam, contextlib.redirect_stderr(io.StringIO()):
            cam(tensor, [ClassifierOutputTarget(ARTIFACT)])

    def torchcam() -> None:
        with TorchCam(few, "shown", input_shape=(1, SIDE_PX, SIDE_PX)) as cam, torch.inference_mode():
            few(tensor)
            cam(class_idx=ARTIFACT)

    def ours(precision: Precision) -> Callable[[], object]:
        scorer = ScoreCam(classifier, precision=precision).scorer()
        tiles, pairs = field[None], np.stack([np.zeros(n, np.intp), np.arange(n)], axis=1)
        return lambda: scorer.score(tiles, scorer.maps_of(tiles).maps, pairs)

    precisions: dict[Precision, None] = {"float32": None, native_precision(classifier.device): None}
    return {"grad-cam": grad_cam, "torchcam": torchcam} | {f"artmask, {name}": ours(name) for name in precisions}


def _rates(arguments: argparse.Namespace, engines: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Least wall and CPU seconds of each engine for a forward pass."""
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for name, engine in engines.items():
            wall, cpu = time.perf_counter(), time.process_time()
            engine()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (min(wall for wall, _ in each) / arguments.peer_maps, min(cpu for _, cpu in each) / arguments.peer_maps)
        for name, each in seconds.items()
    }


def _memory_gb(arguments: argparse.Namespace, engine: str) -> float:
    """Peak resident memory of a process that runs one engine once."""
    command = [
        sys.executable,
        __file__,
        "--classifier",
        str(arguments.classifier),
        "--peer-maps",
        str(arguments.peer_maps),
    ]
    printed = subprocess.run([*command, "--memory-of", engine], check=True, capture_output=True, text=True).stdout
    return float(printed) / 1e6


def _fast(
    classifier: Classifier, fields: list[Field], *, exact: bool
) -> tuple[list[float], list[float], list[Saliency], dict[str, list[float]]]:
    seconds, cpu_seconds, found, overlaps = [], [], [], defaultdict(list)
    fast = ScoreCam(classifier, tolerance=FAST_TOLERANCE)
    fast.explain(fields[0][None])
    for i, field in enumerate(fields):
        wall, cpu = time.perf_counter(), time.process_time()
        saliency = fast.explain(field[None])[0]
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
        found.append(saliency)
        if not exact:
            continue
        reference = upsample(ScoreCam(classifier).explain(field[None])[0].map, field.shape)
        maps = {
            "fast": saliency.map,
            "mean of the maps": mean_of_maps(classifier, field[None])[0],
            "CAM": class_activation(classifier, field[None])[0],
        }
        for name, map_ in maps.items():
            overlaps[name].append(1 - disagreement(upsample(map_, field.shape)[None], reference))
        print(f"field {i}: p {saliency.probability:.2f}, {saliency.n_forwards} passes, overlaps", end=" ")
        print(", ".join(f"{name} {values[-1]:.3f}" for name, values in overlaps.items()), flush=True)
    return seconds, cpu_seconds, found, overlaps


def _gflop(classifier: Classifier) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        classifier.network(torch.zeros(1, 1, SIDE_PX, SIDE_PX))
    return counter.get_total_flops() / 1e9


def _peak_gflops(dtype: torch.dtype) -> float:
    a = torch.randn(2048, 2048).to(dtype)
    best = np.inf
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return float(2 * 2048**3 / best / 1e9)


if __name__ == "__main__":
    main()

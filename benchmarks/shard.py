"""What the shard writer saves against zarr-python, for one plane with its pyramid: `python benchmarks/shard.py`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
import zarr.codecs

from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.shard import INTENSITY, create_sharded_array, write_plane
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean
from artifact_mask.kernels.scene import draw_scene

CHUNKS = (540, 540, 270, 135)
ROUNDS = 20


def main() -> None:
    """Write the same levels both ways, in turn, and compare the medians."""
    plane = draw_scene((1080, 1080), seed=0, dose=0.5).image[0]
    levels = build_pyramid(plane, len(CHUNKS), downsample_mean)
    ways = {"zarr-python": _with_zarr_python, "shard writer": _with_shard_writer}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(ROUNDS):
            for name, way in ways.items():
                target = Path(folder) / f"{name}-{i}"
                wall_s, cpu_s = _time(lambda target=target, way=way: way(target, levels))
                wall[name].append(wall_s)
                cpu[name].append(cpu_s)
                assert np.array_equal(open_level(target)[0, 0, 0], plane)
    for name in ways:
        print(f"{name:13} {1e3 * np.median(wall[name]):6.1f} ms wall  {1e3 * np.median(cpu[name]):6.1f} ms CPU")
    print(f"ratio of CPU  {np.median(cpu['zarr-python']) / np.median(cpu['shard writer']):.1f}")


def _time(call: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _with_shard_writer(folder: Path, levels: list[np.ndarray]) -> None:
    for level, (pixels, chunk) in enumerate(zip(levels, CHUNKS, strict=True)):
        create_sharded_array(folder / str(level), (1, 1, 1, *pixels.shape), (chunk, chunk), "tczyx", INTENSITY)
        write_plane(folder / str(level), (0, 0, 0), pixels, (chunk, chunk), INTENSITY)


def _with_zarr_python(folder: Path, levels: list[np.ndarray]) -> None:
    for level, (pixels, chunk) in enumerate(zip(levels, CHUNKS, strict=True)):
        array = zarr.create_array(
            zarr.storage.LocalStore(folder / str(level)),
            shape=(1, 1, 1, *pixels.shape),
            dtype="uint16",
            chunks=(1, 1, 1, chunk, chunk),
            shards=(1, 1, 1, *pixels.shape),
            compressors=(
                zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
                zarr.codecs.Crc32cCodec(),
            ),
            fill_value=0,
        )
        array[0, 0, 0] = pixels


if __name__ == "__main__":
    main()

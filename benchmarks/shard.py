"""What our own shards save against zarr-python, for one plane with its pyramid: `python benchmarks/shard.py`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
import zarr.codecs

from artifact_mask.io.chunk import INTENSITY
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.plane import create_array, read_plane, write_plane
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean
from artifact_mask.kernels.scene import draw_scene

CHUNKS = (540, 540, 270, 135)
ROUNDS = 20


def main() -> None:
    """Write and read the same levels both ways, in turn, and compare the medians."""
    plane = draw_scene((1080, 1080), seed=0, dose=0.5).image[0]
    levels = build_pyramid(plane, len(CHUNKS), downsample_mean)
    with tempfile.TemporaryDirectory() as folder:
        print("writing four levels, neither synced")
        _compare(
            {
                "zarr-python": lambda i: _write_with_zarr_python(Path(folder) / f"theirs-{i}", levels),
                "own shards": lambda i: _write_own(Path(folder) / f"own-{i}", levels),
            }
        )
        print("reading a plane")
        _compare(
            {
                "zarr-python": lambda i: _read_with_zarr_python(Path(folder) / f"theirs-{i}"),
                "own shards": lambda i: _read_own(Path(folder) / f"theirs-{i}"),
            }
        )


def _compare(ways: dict[str, Callable[[int], None]]) -> None:
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(ROUNDS):
        for name, way in ways.items():
            wall_s, cpu_s = _time(lambda way=way, i=i: way(i))
            wall[name].append(wall_s)
            cpu[name].append(cpu_s)
    for name in ways:
        print(f"{name:13} {1e3 * np.median(wall[name]):6.1f} ms wall  {1e3 * np.median(cpu[name]):6.1f} ms CPU")
    print(f"ratio of CPU  {np.median(cpu['zarr-python']) / np.median(cpu['own shards']):.1f}")


def _time(call: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _write_own(folder: Path, levels: list[np.ndarray]) -> None:
    folder.mkdir()
    files = StagedFiles(folder, folder)
    for level, (pixels, chunk) in enumerate(zip(levels, CHUNKS, strict=True)):
        place = folder / str(level)
        create_array(files, place, (1, 1, 1, *pixels.shape), (chunk, chunk), "tczyx", INTENSITY)
        write_plane(files, place, (0, 0, 0), pixels, (chunk, chunk), INTENSITY)


def _read_own(folder: Path) -> None:
    assert read_plane(folder / "0", (1, 1, 1, 1080, 1080), (0, 0, 0), (540, 540), "tczyx", INTENSITY) is not None


def _read_with_zarr_python(folder: Path) -> None:
    np.asarray(open_level(folder)[0, 0, 0])


def _write_with_zarr_python(folder: Path, levels: list[np.ndarray]) -> None:
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
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=tuple("tczyx"),
        )
        array[0, 0, 0] = pixels


if __name__ == "__main__":
    main()

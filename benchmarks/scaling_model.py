"""What a campaign will take on 1, 8 or 64 GPUs: a small model of where the bottleneck is.

`python benchmarks/scaling_model.py` prints the tables of `docs/scaling.md`. Every stage of the way has a rate, fields
flow through all of them at once, and the slowest one decides. Each constant says where it comes from; change those that
are your machine's.
"""

from dataclasses import dataclass

PLATES, WELLS, FIELDS = 100, 384, 9
N_FIELDS = PLATES * WELLS * FIELDS


@dataclass(frozen=True)
class Constant:
    """A number, and where it comes from."""

    value: float
    unit: str
    origin: str


CONSTANTS = {
    # One field: 1080 x 1080, one brightfield channel segmented.
    "cpu_around": Constant(
        0.040, "s of a core", "benchmarks/field_cost.py: 0.028 around the model; the rest is an allowance for Dask"
    ),
    "cpu_model": Constant(
        0.22, "s of a core", "benchmarks/field_cost.py: the default U-Net on a core of a 2-core EPYC"
    ),
    "bytes_read": Constant(1.45e6, "bytes", "size of a simulated field's shard, lz4 with bitshuffle"),
    "bytes_written": Constant(2.6e6, "bytes", "labels and masked image with pyramids, simulated fields"),
    "entries_made": Constant(30, "files and folders", "19 files of labels and masked image, in 11 folders"),
    "flops": Constant(14.1e9, "operations", "torch's FlopCounterMode over the default U-Net"),
    "activation_bytes": Constant(3 * 132e6 * 2, "bytes", "132 million activations, bf16, written once and read twice"),
    "bytes_to_device": Constant(1080 * 1080 * 4, "bytes", "contrast as float32; as much comes back"),
    # Machines: data sheets, at the share of the peak that is usual for such networks. None was at hand to measure.
    "gpu_flops": Constant(0.15 * 312e12, "operations/s", "A100 data sheet (bf16), 15 % of the peak for few channels"),
    "gpu_bandwidth": Constant(0.5 * 2.0e12, "bytes/s", "A100 80 GB data sheet, half of the peak"),
    "pcie": Constant(20e9, "bytes/s", "PCIe 4.0 x16, pinned memory, 80 % of the peak"),
    "file_system": Constant(5e9, "bytes/s", "assumed: a parallel file system's share for one user"),
    "metadata_server": Constant(20e3, "entries/s", "assumed: one metadata server of Lustre or BeeGFS"),
    "scheduler": Constant(2.0e-3, "s of a core a unit", "benchmarks/campaign_scale.py, a million fields"),
    "client": Constant(1.8e-3, "s of a core a unit", "benchmarks/campaign_scale.py, a million fields"),
    "fields_per_unit": Constant(9, "fields", "a well's, at most 16"),
}


def rates(n_gpus: int, cores_per_gpu: int) -> dict[str, float]:
    """Fields a second that each stage carries.

    Parameters
    ----------
    n_gpus
        0 for a cluster without: then ``cores_per_gpu`` is the number of cores, and the model runs on them too.
    cores_per_gpu
        Cores that read, prepare, label, measure and write beside each GPU.
    """
    c = {name: constant.value for name, constant in CONSTANTS.items()}
    cores = max(1, n_gpus) * cores_per_gpu
    per_unit = c["fields_per_unit"]
    shared = {
        "disk": c["file_system"] / (c["bytes_read"] + c["bytes_written"]),
        "metadata": c["metadata_server"] / c["entries_made"],
        "scheduler": per_unit / c["scheduler"],
        "client": per_unit / c["client"],
    }
    if n_gpus == 0:
        return {"cores": cores / (c["cpu_around"] + c["cpu_model"])} | shared
    seconds_on_gpu = max(c["flops"] / c["gpu_flops"], c["activation_bytes"] / c["gpu_bandwidth"])
    return {
        "GPU": n_gpus / seconds_on_gpu,
        "PCIe": n_gpus * c["pcie"] / (2 * c["bytes_to_device"]),
        "cores": cores / c["cpu_around"],
    } | shared


def main() -> None:
    """Print the tables."""
    print("| constant | value | origin |\n|---|---|---|")
    for name, constant in CONSTANTS.items():
        print(f"| {name} | {constant.value:.3g} {constant.unit} | {constant.origin} |")
    print(
        f"\n{PLATES} plates x {WELLS} wells x {FIELDS} fields = {N_FIELDS:,} fields; fields a second of each stage:\n"
    )
    columns = ("GPU", "PCIe", "cores", "disk", "metadata", "scheduler", "client")
    print("| machines |", " | ".join(columns), "| slowest | campaign |")
    print("|" + "---|" * (len(columns) + 3))
    for n_gpus, cores in ((0, 2), (0, 64), (1, 8), (1, 16), (8, 16), (64, 16)):
        of_stage = rates(n_gpus, cores)
        slowest = min(of_stage, key=lambda stage: of_stage[stage])
        hours = N_FIELDS / of_stage[slowest] / 3600
        name = f"{n_gpus} GPU x {cores} cores" if n_gpus else f"{cores} cores"
        numbers = " | ".join(f"{of_stage[c]:,.0f}" if c in of_stage else "" for c in columns)
        print(f"| {name} | {numbers} | {slowest} | {hours:.1f} h |")


if __name__ == "__main__":
    main()

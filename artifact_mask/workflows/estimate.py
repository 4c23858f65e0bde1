"""How long a stage takes and how much it writes: as records of it say, or else as was once measured."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.jobs import DEFAULT_THREADS
from artifact_mask.engine.journal import open_journal, read_settings, settle
from artifact_mask.engine.machine import share, this_machine
from artifact_mask.errors import PlateError
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.location import Location, list_folders
from artifact_mask.metadata import PIXEL_BYTES, Acquisition, FieldKey, Plate
from artifact_mask.workflows.status import fields_per_s

_WHOLE_FIELDS = ("ingest", "export")
"""Stages that look at all channels; the others at one."""
_MOST_BESIDE = 8
"""Plates beside those of a plan that are looked at for records."""
_THIS_MACHINE = ("local", "cuda")


class Cost(NamedTuple):
    """What a stage costs, for the planes that it looks at.

    Attributes
    ----------
    core_s
        Seconds of a core for a megapixel.
    written
        Bytes on the disk for each byte of pixels, pyramids and compression included.
    beside_gpu_s
        Seconds of a core for a megapixel where a GPU does the rest; None where that is not known.
    """

    core_s: float
    written: float
    beside_gpu_s: float | None = None


COSTS: Mapping[str, Cost] = {
    "ingest": Cost(0.05, 0.9),
    "label": Cost(12, 0.01),
    "run": Cost(0.4, 1.1, beside_gpu_s=0.035),
    "cells": Cost(0.2, 0.02),
    "stain": Cost(0.05, 0.01),
    "export cellprofiler": Cost(0.05, 0.9),
    "export ome-tiff": Cost(0.08, 0.9),
    "export zarr": Cost(0.07, 0.9),
    "export geojson": Cost(0.03, 0.01),
}
"""By stage: rounded from measurements on simulated fields of 1080 x 1080 pixels, two cores and no GPU. Two measurements
of `run` were 0.2 and 0.7; `stain` was too quick to be measured."""


@dataclass(frozen=True)
class Work:
    """What a stage is, as far as its cost depends on it.

    Attributes
    ----------
    stage
        Its name.
    form
        Format of an export; empty for other stages.
    """

    stage: str
    form: str = ""

    @property
    def cost(self) -> Cost:
        """What it costs where no record says more."""
        return COSTS[f"{self.stage} {self.form}".strip()]

    def pixel_bytes(self, plate: Plate, fields: Iterable[FieldKey]) -> int:
        """Size of the planes of some fields that it looks at, in bytes."""
        counted = Counter(plate.acquisition_of[key] for key in fields)
        return sum(n * self._field_bytes(plate.acquisitions[number]) for number, n in counted.items())

    def _field_bytes(self, acquisition: Acquisition) -> int:
        n_planes = acquisition.n_planes if self.stage in _WHOLE_FIELDS else acquisition.n_planes // acquisition.shape[1]
        return n_planes * acquisition.plane_bytes


@dataclass(frozen=True)
class Record:
    """What records of a stage say about its cost.

    Attributes
    ----------
    name
        Of the plate.
    written
        Bytes on the disk for each byte of pixels.
    bytes_per_s
        Of pixels, in the latest run; 0 if unknown.
    """

    name: str
    written: float
    bytes_per_s: float


def find_records(work: Work, plates: Mapping[Location, Plate]) -> list[Record]:
    """Find what is known of a stage on some plates; if nothing, on a plate that lies beside them.

    Parameters
    ----------
    work
        The stage.
    plates
        Stores or folders that it writes into, and what is on them.
    """
    own = [record for root, plate in plates.items() if (record := _read_record(work, root, plate))]
    if own or work.stage == "export":
        return own
    for folder in dict.fromkeys(root.parent for root in plates):
        names = [name for name in list_folders(folder) if name.endswith(".zarr") and folder / name not in plates]
        for name in names[:_MOST_BESIDE]:
            try:
                record = _read_record(work, folder / name, read_plate(folder / name).plate)
            except PlateError:
                continue
            if record:
                return [record]
    return []


def _read_record(work: Work, root: Location, plate: Plate) -> Record | None:
    journal = open_journal(root, work.stage)
    if journal is None or read_settings(root, work.stage).get("format", "") != work.form:
        return None
    units = list(journal.read_units())
    done = {k: r for k, r in settle(units).items() if not r.failed and k in plate.acquisition_of}
    n_bytes = work.pixel_bytes(plate, done)
    if not n_bytes:
        return None
    written = sum(stamp.size for record in done.values() for stamp in record.files.values())
    return Record(root.name, written / n_bytes, fields_per_s(units) * n_bytes / len(done))


def estimate_bytes(work: Work, pixel_bytes: int, records: Sequence[Record]) -> tuple[int, str]:
    """How much is written for pixels of so many bytes, and what that was concluded from."""
    if records:
        written = sum(record.written for record in records) / len(records)
        return round(pixel_bytes * written), f"as was written for {records[0].name}"
    return round(pixel_bytes * work.cost.written), "rough: from simulated fields"


def estimate_seconds(
    work: Work, pixel_bytes: int, records: Sequence[Record], cluster: ClusterConfig, *, use_gpus: bool
) -> tuple[float | None, str]:
    """How long pixels of so many bytes take, start of the cluster left out, and what that was concluded from.

    Returns
    -------
    seconds
        None where it is not known who works, or how fast.
    origin
        For people.
    """
    if not pixel_bytes:
        return 0.0, "nothing is left to do"
    rates = [record for record in records if record.bytes_per_s]
    if rates:
        mean = sum(record.bytes_per_s for record in rates) / len(rates)
        return pixel_bytes / mean, f"as fast as the latest run on {rates[0].name}, whatever that ran on"
    cores = _cores(cluster)
    if cores is None:
        return None, "how many cores there will be is not known"
    has_gpu = use_gpus and cluster.kind in _THIS_MACHINE and bool(this_machine().gpus)
    core_s = work.cost.beside_gpu_s if has_gpu else work.cost.core_s
    if core_s is None:
        return None, "no time of this stage on a GPU is known"
    beside = " beside a GPU" if has_gpu else ""
    origin = f"rough: {core_s:g} s of a core for a megapixel, {cores} cores{beside}"
    return pixel_bytes / PIXEL_BYTES / 1e6 * core_s / cores, origin


def _cores(cluster: ClusterConfig) -> int | None:
    """Cores that compute; None where only the cluster could tell."""
    if cluster.kind in _THIS_MACHINE:
        machine = this_machine()
        part = share(machine, cluster.workers, cluster.threads_per_worker)
        return min(machine.cores, part.workers * part.threads)
    if cluster.workers is None:
        return None
    return cluster.workers * (cluster.threads_per_worker or DEFAULT_THREADS)

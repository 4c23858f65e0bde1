"""`artmask cells`: nuclei, cells and their stain, one row a cell."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import pandas as pd

from artifact_mask import __version__
from artifact_mask.config import CellsConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of
from artifact_mask.errors import PlateError, did_you_mean
from artifact_mask.io.cell_tables import TABLE, CellPart, WellParts, write_cell_table
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.illumination_profiles import StoredFlatField
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates
from artifact_mask.kernels.nuclei import NucleusSearch
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, FieldKey, NgffVersion, Plate
from artifact_mask.workflows.campaign import PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.cell_figures import choose_senescence_thresholds
from artifact_mask.workflows.cell_unit import (
    STAGE,
    CellParameters,
    CellTask,
    Channel,
    measure_unit,
    owned_by_cells,
    require_free,
)
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.planes import stored_flat_fields
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.run_results import RunResults, read_run
from artifact_mask.workflows.tabulate import Outcome, layout_columns, tabulate_stage
from artifact_mask.workflows.unit import Receipt, plan_plate

_NUCLEAR = re.compile("DAPI|Hoechst", re.IGNORECASE)
_LONGEST_EXCITATION_NM = 410
"""Of light that excites stains of DNA alone."""
_N_CHECKED = 512
"""Fields that are looked at for a person's labels before anything is done; each task looks at its own, too."""
_READ_THREADS = 8


def measure_cells(config: CellsConfig, progress: Progress | None = None) -> Summary:
    """Find the nuclei and cells of some plates, and measure the stain of each outside of artifacts.

    Writes ``labels/nuclei``, ``labels/cells`` and ``tables/cells`` into each field, ``tables/cells`` into each plate,
    and the numbers of cells into its other tables. Run again, it does only what is missing. Controls and the threshold
    of senescence are applied to what was measured, so that another choice of these rewrites the plate's tables alone.

    Raises
    ------
    PlateError
        If there is no such plate, `run` has not been run on the only one, it has no nuclear channel, or labels of a
        person would be written over; of several plates, such a one is left out and named in the summary.
    ConfigError
        If a control fits no well.
    LeaseError
        If a run is at work on the only plate.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    return process_campaign(prepare_cells(config, progress), progress)


def prepare_cells(config: CellsConfig, progress: Progress) -> Workload:
    """Make ready what :func:`measure_cells` does; nothing is written."""
    plates = find_plates(config.plates)
    # How many fields have such channels is known when the plate is opened.
    planned = [PlannedStage(root, None, partial(_open_stage, root, config, progress)) for root in plates]
    return Workload(STAGE, planned, config.model_dump(mode="json"), config.cluster)


@dataclass(frozen=True)
class CellsStage(Stage):
    """Cells of one plate.

    Attributes
    ----------
    stored, ingested
        What is on the plate, and what the ingest recorded of each field.
    results
        Of `run`.
    parameters
        By the number of the acquisition; those without the channels are absent.
    config
        Of the stage.
    """

    name = STAGE
    plate: Location
    ngff: NgffVersion
    stored: StoredPlate
    ingested: Mapping[FieldKey, FieldRecord]
    results: RunResults
    parameters: Mapping[int, CellParameters]
    config: CellsConfig

    def describe(self) -> Plate:
        """Describe what is on the plate."""
        return self.stored.plate

    @property
    def settings(self) -> dict[str, object]:
        """What determines labels and figures."""
        given: dict[str, object] = {"software": __version__, "ingest": self.stored.ingest_digest}
        given |= {"run": self.results.digest}
        several = len(self.parameters) > 1
        return given | {
            f"{name} of acquisition {number}" if several else name: str(value)
            for number, parameters in self.parameters.items()
            for name, value in vars(parameters).items()
        }

    def highlights(self) -> Mapping[str, str]:
        """Channels and label images."""
        chosen = [(self.stored.plate.acquisitions[number], one) for number, one in self.parameters.items()]
        nuclear = (a.channels[one.nuclear.index].name for a, one in chosen if one.nuclear)
        return {
            "nuclei": self.config.nuclei or ", ".join(dict.fromkeys(nuclear)) or "none",
            "stain": ", ".join(dict.fromkeys(a.channels[one.stained.index].name for a, one in chosen)),
        }

    def units(self) -> list[Unit]:
        """Fields of one well each, of the acquisitions that have the channels."""
        return plan_plate(self.stored.plate, self.parameters, fields_per_unit=self.config.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the unit's own well."""
        plate = self.stored.plate
        number = plate.acquisition_of[unit.well, unit.fields[0]]
        acquisition = plate.acquisitions[number].only(unit.well)
        (well,) = acquisition.wells
        task = CellTask(
            acquisition=acquisition,
            parameters=self.parameters[number],
            place={
                "plate": plate.name,
                "well": well.name,
                "row": well.row,
                "column": well.column,
                "acquisition": number,
            },
            without_mask={index: why for index in unit.fields if (why := self._why_no_mask((unit.well, index)))},
            ngff=self.ngff,
        )
        return partial(measure_unit, journal, task, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Labels and table of a field."""
        own = (self.config.nuclei, self.config.cells)
        return owned_by_cells(self.plate, key, brought=own, ngff=self.ngff)

    def write_streams(self, files: StagedFiles, records: Mapping[FieldKey, FieldRecord]) -> None:
        """Write the table of all cells."""
        plate = self.stored.plate
        thresholds = choose_senescence_thresholds(
            plate, records, self.config, (self.results.records, self.results.config)
        )
        layers = layout_columns(plate.wells)
        wells, content = [], []
        for well in plate.wells:
            keys = [(well.path, field.index) for field in sorted(well.fields, key=lambda field: field.index)]
            stamps = {key: _stamp_of_part(key, records) for key in keys}
            parts = [CellPart(self.plate / key[0] / str(key[1]), thresholds[key]) for key in keys if stamps[key]]
            wells.append(WellParts({name: values.get(well.name) for name, values in layers.items()}, parts))
            content.append([[*key, *stamps[key], thresholds[key]] for key in keys if stamps[key]])
        if any(well.parts for well in wells):
            digest = digest_of(__version__, content, [dict(well.layout) for well in wells])
            write_cell_table(files, self.plate, wells, content=digest, ngff=self.ngff)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields, wells and the plate, with the numbers of cells."""
        plate = self.stored.plate
        looked_at = {key for key, number in plate.acquisition_of.items() if number in self.parameters}
        own = Outcome(records, self.config)
        return tabulate_stage(self.plate, self.stored, self.ingested, self.name, own, looked_at)

    def _why_no_mask(self, key: FieldKey) -> str:
        if key in self._masked:
            return ""
        record = self.results.records.get(key)
        reason = f"there: {record.row['error']}" if record and record.failed else "yet. Run it again first."
        return f"no artifact mask: `artmask run` did not get {reason}"

    @cached_property
    def _masked(self) -> frozenset[FieldKey]:
        return frozenset(self.results.measured)


def _stamp_of_part(key: FieldKey, records: Mapping[FieldKey, FieldRecord]) -> Sequence[int]:
    """Size and checksum of a field's table; none where it has none."""
    record = records.get(key)
    return () if record is None else record.files.get(f"{key[0]}/{key[1]}/{TABLE}/table.parquet", ())


def find_nuclear_channel(acquisition: Acquisition, name: str | None) -> int | None:
    """Index of the channel that shows nuclei; None if there is none.

    Parameters
    ----------
    acquisition
        Whose channels.
    name
        Of the channel; None for the one called DAPI or Hoechst, or the fluorescence that ultraviolet light excites.

    Raises
    ------
    PlateError
        If several could be meant.
    """
    channels = list(enumerate(acquisition.channels))
    if name is not None:
        found = [c for c, channel in channels if channel.name == name]
    else:
        found = [c for c, channel in channels if _NUCLEAR.search(channel.name)] or [
            c
            for c, channel in channels
            if channel.kind == "fluorescence" and (channel.excitation_nm or math.inf) < _LONGEST_EXCITATION_NM
        ]
    if len(found) > 1:
        names = ", ".join(repr(acquisition.channels[c].name) for c in found)
        raise PlateError(f"has {len(found)} channels that may show nuclei: {names}. Name one with --nuclear-channel.")
    return found[0] if found else None


def _open_stage(root: Location, config: CellsConfig, progress: Progress) -> CellsStage:
    stored, ingested = read_ingest(root)
    results = read_run(root, stored)
    # Now, and not when the plate is finished.
    find_controls(stored.plate, config.negative_controls)
    flat_fields = stored_flat_fields(root, stored.ingest_digest, results.config.illumination)
    parameters = dict(_choose(stored, config, results, flat_fields))
    if not parameters:
        names = [channel.name for acquisition in stored.plate.acquisitions for channel in acquisition.channels]
        near = did_you_mean(config.nuclear_channel, names) if config.nuclear_channel else ""
        raise PlateError(
            f"{stored.plate.name} has no nuclear channel beside one that `artmask run` has masked.{near} Name one of "
            f"{', '.join(map(repr, names))} with --nuclear-channel, or bring label images of nuclei or cells "
            "(--nuclei NAME, --cells NAME)."
        )
    _require_free_labels(root, stored, parameters)
    if config.senescence_threshold is None and not (config.negative_controls or results.config.negative_controls):
        progress.note(
            f"{stored.plate.name}: without negative controls (--negative-controls) or a threshold "
            "(--senescence-threshold) no cell is called senescent or not."
        )
    return CellsStage(root, stored.ngff, stored, ingested, results, parameters, config)


def _choose(
    stored: StoredPlate,
    config: CellsConfig,
    results: RunResults,
    flat_fields: Mapping[tuple[int, int], StoredFlatField],
) -> Iterator[tuple[int, CellParameters]]:
    """Parameters of each acquisition that has what is needed."""
    for number, stained in results.channels.items():
        acquisition = stored.plate.acquisitions[number]
        try:
            nuclear = find_nuclear_channel(acquisition, config.nuclear_channel)
        except PlateError as error:
            raise PlateError(f"{stored.plate.name} {error}") from error
        if nuclear is None and not (config.nuclei or config.cells):
            continue
        n_planes = acquisition.shape[2]
        plane = n_planes // 2 if config.plane is None else config.plane
        if plane >= n_planes:
            raise PlateError(f"{stored.plate.name} has {n_planes} planes; there is no plane {plane} (--plane).")
        yield (
            number,
            CellParameters(
                stained=Channel(stained, results.flat_fields.get(number)),
                nuclear=None if nuclear is None else Channel(nuclear, flat_fields.get((number, nuclear))),
                plane=plane,
                own_nuclei=config.nuclei,
                own_cells=config.cells,
                search=NucleusSearch(float(config.min_nucleus_um2), float(config.max_nucleus_um2)),
                reach_um=float(config.cell_reach_um),
                max_artifact_fraction=float(config.max_artifact_fraction),
            ),
        )


def _require_free_labels(root: Location, stored: StoredPlate, parameters: Mapping[int, CellParameters]) -> None:
    """Look for labels of a person in fields from all over the plate."""
    keys = [key for key, number in stored.plate.acquisition_of.items() if number in parameters]
    chosen = keys[:: -(-len(keys) // _N_CHECKED)]

    def check(key: FieldKey) -> None:
        written = parameters[stored.plate.acquisition_of[key]].written
        require_free(root / key[0] / str(key[1]), written, ngff=stored.ngff)

    with ThreadPoolExecutor(_READ_THREADS) as pool:
        list(pool.map(check, chosen))

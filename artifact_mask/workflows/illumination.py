"""`artmask illumination`: the flat field of each channel, stored in the plate; no image is changed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifact_mask import __version__
from artifact_mask.config import IlluminationConfig
from artifact_mask.engine.journal import Journal, beside, digest_of, hold_plate, plan_units
from artifact_mask.engine.stream import Outcome, Work
from artifact_mask.errors import ArtmaskError, PlateError, StorageError
from artifact_mask.io.files import publish, remove_others, write_atomically
from artifact_mask.io.illumination_picture import IlluminatedChannel, draw_illumination
from artifact_mask.io.illumination_profiles import (
    FOLDER,
    load_flat_field,
    read_description,
    read_illumination,
    write_illumination,
)
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates, read_plate
from artifact_mask.kernels.retrospective import spread_evenly
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate
from artifact_mask.workflows.campaign import stream_on_cluster
from artifact_mask.workflows.flat_field_sources import FoundFlatField, find_flat_field
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.sampled_fields import (
    Channels,
    SampledFields,
    bind_sampling,
    choose_channels,
)
from artifact_mask.workflows.unit import naming_a_full_disk

STAGE = "illumination"

_FIELDS_PER_UNIT = 4

Result = TypeVar("Result")


def estimate_illumination(config: IlluminationConfig, progress: Progress | None = None) -> Summary:
    """Find the flat field of each channel of some plates, and store it in them.

    `run`, `label` and all that reads fields of a plate divide by it from then on; the images stay as they are.

    Parameters
    ----------
    config
        Which plates and channels, and how.
    progress
        Listener; it is told what was found for each channel.

    Returns
    -------
    Summary
        ``n_fields`` is the number of fields that were looked at.

    Raises
    ------
    PlateError
        If there is no such plate or channel, or the only plate has too few fields, or no profile of Harmony's; of
        several plates, such a one is left out and named in the summary.
    LeaseError
        If a run is at work on the only plate.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    plates = list(find_plates(config.plates))
    estimation = _Estimation(config, progress, only=len(plates) == 1)
    progress.begin(STAGE, 0)
    if config.method == "retrospective" and not config.remove:
        for outcome in stream_on_cluster(estimation.works(plates), cluster=config.cluster, progress=progress):
            estimation.settle(outcome)
    else:
        for root in plates:
            estimation.attempt(root, partial(estimation.finish, root, {}))
    return Summary(
        n_fields=estimation.n_fields,
        n_resumed=0,
        failures=(),
        refused=estimation.refused,
        outputs=estimation.outputs,
        seconds=time.perf_counter() - start,
    )


@dataclass
class _Open:
    """A plate whose fields are being looked at."""

    root: Location
    channels: Channels
    n_left: int
    blocks: dict[FieldKey, NDArray[np.float32]] = field(default_factory=dict)


class _Estimation:
    """Plates on their way from chosen fields to stored flat fields."""

    def __init__(self, config: IlluminationConfig, progress: Progress, *, only: bool) -> None:
        self._config = config
        self._progress = progress
        self._only = only
        self._open: dict[str, _Open] = {}
        self.n_fields = 0
        self.refused: dict[str, str] = {}
        self.outputs: dict[str, Location] = {}

    def works(self, plates: Sequence[Location]) -> Iterator[Work[SampledFields]]:
        """Units of the chosen fields of each plate."""
        for number, root in enumerate(plates, start=1):
            units = self.attempt(root, partial(self._begin, root)) or []
            self._progress.expect(sum(len(work.unit.fields) for work in units), len(plates) - number)
            yield from units

    def _begin(self, root: Location) -> list[Work[SampledFields]]:
        plate = read_plate(root).plate
        channels = choose_channels(plate, self._config.channels)
        all_keys = [plate.acquisitions[number].field_keys for number in channels]
        chosen = [[keys[i] for i in spread_evenly(len(keys), self._config.fields)] for keys in all_keys]
        name = f"{STAGE}-{digest_of(str(root), time.time_ns())}"
        self._open[name] = _Open(root, channels, sum(map(len, chosen)))
        return [
            Work(unit, partial(bind_sampling, root, plate, channels), name)
            for keys in chosen
            for unit in plan_units(keys, fields_per_unit=_FIELDS_PER_UNIT)
        ]

    def settle(self, outcome: Outcome[SampledFields]) -> None:
        """Keep what was found in a unit; with the last one of a plate, store its flat fields."""
        plate, unit = self._open[outcome.work.name], outcome.work.unit
        found = outcome.receipt.blocks if outcome.receipt else {}
        plate.blocks |= {(unit.well, index): blocks for index, blocks in found.items()}
        plate.n_left -= len(unit.fields)
        self.n_fields += len(found)
        self._progress.advance(len(unit.fields), len(unit.fields) - len(found), 0)
        if not plate.n_left:
            del self._open[outcome.work.name]
            self.attempt(plate.root, partial(self.finish, plate.root, plate.blocks))

    def attempt(self, root: Location, work: Callable[[], Result]) -> Result | None:
        """Work on a plate; if there are others, an error is no reason to stop: then there is no result."""
        try:
            return work()
        except ArtmaskError as error:
            if self._only or isinstance(error, StorageError):
                raise
            self.refused[str(root)] = str(error)
            self._progress.note(f"Left out: {root}: {error}")
            return None

    def finish(self, root: Location, blocks: Mapping[FieldKey, NDArray[np.float32]]) -> None:
        """Store the flat fields of a plate, beside those that it has of other channels."""
        stored = read_plate(root)
        plate, config = stored.plate, self._config
        if config.remove:
            with hold_plate(root, STAGE):
                remove_others([root / FOLDER], root, {})
            self.outputs[root.name] = root
            return
        channels = choose_channels(plate, config.channels)
        found: dict[tuple[int, int], FoundFlatField] = {}
        for number, of_acquisition in channels.items():
            acquisition = plate.acquisitions[number]
            sampled = [blocks[key] for key in sorted(set(acquisition.field_keys) & set(blocks))]
            for place, c in enumerate(of_acquisition):
                one = find_flat_field(config, plate, acquisition, c, [field[place] for field in sampled])
                if one is not None:
                    found[number, c] = one
        if not found:
            raise PlateError(f"{root}: Harmony found no flat field in any of these channels; use another --method.")
        kept = _keep_others(root, stored, found)
        described = [{"acquisition": n, "channel": c} | one.described for (n, c), one in sorted(found.items())]
        profiles = kept.profiles | {place: one.flat_field for place, one in found.items()}
        _store(root, stored, profiles, sorted([*kept.described, *described], key=_place))
        drawn = [
            IlluminatedChannel(
                one.described["name"], one.flat_field, one.blocks, one.estimate.before, one.estimate.after
            )
            for _, one in sorted(found.items())
            if one.estimate is not None and one.blocks is not None
        ]
        self.outputs[root.name] = root
        if drawn:
            picture = beside(root) / STAGE / "flatfield.png"
            write_atomically(picture, draw_illumination(f"{plate.name}: flat fields", drawn))
            self.outputs[f"picture of {root.name}"] = picture
        for entry in described:
            self._tell(plate, entry)

    def _tell(self, plate: Plate, entry: Mapping[str, Any]) -> None:
        several = len(plate.acquisitions) > 1
        name = f"{plate.name} {entry['name']}" + (f" (acquisition {entry['acquisition']})" if several else "")
        if entry["method"] != "retrospective":
            self._progress.note(f"{name}: flat field by {entry['method']} stored")
        elif not entry["degree"]:
            self._progress.note(
                f"{name}: the {entry['n_fields']} fields have no shading in common (background "
                f"varies by {entry['variation_before']:.2%}); a flat one is stored"
            )
        else:
            self._progress.note(
                f"{name}: background varies by {entry['variation_before']:.2%} before, "
                f"{entry['variation_after']:.2%} after ({entry['n_fields']} fields, each by the others' flat field)"
            )
            if not entry["is_sure"]:
                self._progress.note(
                    f"Warning: {name}: the {entry['n_fields']} fields do not agree well enough to tell their shading "
                    "from chance. Look at the picture; give more fields or a reference image, or go on without it "
                    "(--illumination none)."
                )


class _Kept(NamedTuple):
    """Flat fields of other channels that a plate has already."""

    profiles: dict[tuple[int, int], NDArray[np.float32]]
    described: list[dict[str, Any]]


def _keep_others(root: Location, stored: StoredPlate, found: Mapping[tuple[int, int], FoundFlatField]) -> _Kept:
    known = read_illumination(root, stored.ingest_digest)
    entries = read_description(root, stored.ingest_digest).get("channels", ())
    return _Kept(
        {place: load_flat_field(root, flat_field) for place, flat_field in known.items() if place not in found},
        [dict(entry) for entry in entries if _place(entry) not in found],
    )


def _place(entry: Mapping[str, Any]) -> tuple[int, int]:
    return entry["acquisition"], entry["channel"]


def _store(
    root: Location,
    stored: StoredPlate,
    profiles: Mapping[tuple[int, int], NDArray[np.float32]],
    described: Sequence[Mapping[str, Any]],
) -> None:
    by_acquisition: dict[int, dict[int, NDArray[np.float32]]] = {}
    for (number, c), pixels in profiles.items():
        by_acquisition.setdefault(number, {})[c] = pixels
    document = {"software": __version__, "ingest_digest": stored.ingest_digest, "channels": described}
    n_channels = {number: len(a.channels) for number, a in enumerate(stored.plate.acquisitions)}
    with hold_plate(root, STAGE) as lease, naming_a_full_disk(root):
        with Journal(root, STAGE, "", lease.epoch).stage_files() as files:
            write_illumination(files, root, by_acquisition, document, n_channels=n_channels, ngff=stored.ngff)
            publish([files])

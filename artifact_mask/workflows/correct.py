"""`artmask correct`: copies of labels that a person edits, and edited masks brought back."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import CorrectConfig
from artifact_mask.engine.journal import Journal, hold_plate
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ImageError, PlateError, did_you_mean
from artifact_mask.io.editable_labels import (
    compare_label,
    read_coarse_label,
    read_label,
    refresh_levels,
    write_editable_label,
)
from artifact_mask.io.files import publish
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates, read_plate
from artifact_mask.kernels.labels import label_objects, spare_number
from artifact_mask.kernels.truth import ARTIFACT, IGNORE
from artifact_mask.location import Location
from artifact_mask.metadata import STAGE_LABELS, Acquisition, Field, NgffVersion, Plate, Well
from artifact_mask.workflows.progress import FieldFailure, Progress, Silent, Summary
from artifact_mask.workflows.segmented_fields import SegmentedField, find_segmented_fields
from artifact_mask.workflows.unit import naming_a_full_disk

STAGE = "correct"

_NAMED = 12
_THREADS = 8
"""A network disk or an object store answers many questions in the time of one."""


class _Place(NamedTuple):
    """A field of a plate."""

    well: Well
    field: Field
    acquisition: Acquisition
    folder: Location


class _Target(NamedTuple):
    """A field whose label is to be edited, and what to start from."""

    well: Well
    field: Field
    acquisition: Acquisition
    folder: Location
    origin: str
    read: Callable[[], NDArray[np.int32]]
    """Reads the pixels ``(t, z, y, x)``."""


def correct(config: CorrectConfig, progress: Progress | None = None) -> Summary:
    """Copy labels of some fields to ``labels/<to>``, in a form that other tools write into; or fill it from masks.

    Neither ``run`` nor ``label`` ever touches the copy. One that has been edited is kept, whatever becomes of the
    labels that it was made from; its coarser levels are brought up to date.

    Parameters
    ----------
    config
        Which labels of which fields.
    progress
        Listener; it is told what is kept.

    Returns
    -------
    Summary
        ``n_resumed`` are the fields whose edited labels were kept.

    Raises
    ------
    PlateError
        If there is no such plate or well, or no field of a plate has such a label.
    ConfigError
        If no mask belongs to a field, or one could belong to several.
    LeaseError
        If a run is at work on a plate.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    stored = {root: read_plate(root) for root in find_plates(config.plates)}
    targets = _find_masks(stored, config, progress) if config.masks else _find_labels(stored, config)
    n_fields = sum(map(len, targets.values()))
    progress.begin(STAGE, n_fields)
    n_kept, failures = 0, []
    for root, of_plate in targets.items():
        with hold_plate(root, STAGE) as lease, naming_a_full_disk(root):
            journal = Journal(root, STAGE, "", lease.epoch)
            for target in of_plate:
                try:
                    n_kept += retry(partial(_write, journal, target, config, stored[root].ngff, progress))
                    progress.advance(1, 0, 0)
                except (PlateError, ImageError) as error:
                    failures.append(FieldFailure(str(root), target.well.name, target.field.field_id, str(error)))
                    progress.advance(1, 1, 0)
    if config.ignore is not None:
        progress.note(f"Pixels to leave out have the number {IGNORE} now: train with --ignore {IGNORE}.")
    outputs = {root.name: root for root, of_plate in targets.items() if of_plate}
    return Summary(n_fields, n_kept, tuple(failures), outputs=outputs, seconds=time.perf_counter() - start)


def _find_labels(stored: Mapping[Location, StoredPlate], config: CorrectConfig) -> dict[Location, list[_Target]]:
    """Fields whose labels are to be copied, by plate; all of some wells, or those with most artifact."""
    found = {}
    for root, plate in stored.items():
        targets = [
            _Target(*place, f"copied from {config.source}", partial(_read_label, place.folder, config.source))
            for place in _places(root, plate.plate, config.wells)
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            fractions = list(pool.map(partial(_fraction, source=config.source), targets))
        if all(fraction is None for fraction in fractions):
            raise PlateError(
                f"{root}: none of {len(targets)} fields has labels/{config.source}. Run `artmask run` first, or name "
                "another label image with --from."
            )
        found[root] = targets if config.fields is None else _choose(targets, fractions, config.fields)
    return found


def _find_masks(
    stored: Mapping[Location, StoredPlate], config: CorrectConfig, progress: Progress
) -> dict[Location, list[_Target]]:
    """Fields that a folder has masks of, by plate."""
    segmented = find_segmented_fields(
        list(stored),
        labels=(),
        masks=config.masks,
        channel=config.channel,
        pixel_size_um=None,
        ignore=config.ignore,
        progress=progress,
    )
    # No mask belongs to two fields, so that plates of one name have none in common.
    mask_of = {(field.plate, field.well, field.field): field for field in segmented}
    return {
        root: [
            _Target(*place, f"imported from {field.source}", partial(_read_mask, field, place.acquisition))
            for place in _places(root, plate.plate, config.wells)
            if (field := mask_of.get((plate.plate.name, place.well.name, place.field.index)))
        ]
        for root, plate in stored.items()
    }


def _places(root: Location, plate: Plate, wells: Sequence[str]) -> list[_Place]:
    """Fields of some wells, or of all."""
    known = [well.name for well in plate.wells]
    unknown = [name for name in wells if name not in known]
    if unknown:
        some = ", ".join(known[:_NAMED]) + (" ..." if len(known) > _NAMED else "")
        near = did_you_mean(unknown[0], known)
        raise PlateError(
            f"{root} has no well {', '.join(unknown)}; its wells are {some}.{near} Write names such as B02."
        )
    return [
        _Place(well, field, acquisition, root / well.path / str(field.index))
        for acquisition in plate.acquisitions
        for well in acquisition.wells
        for field in well.fields
        if not wells or well.name in wells
    ]


def _choose(targets: Sequence[_Target], fractions: Sequence[float | None], n_fields: int) -> list[_Target]:
    """Choose the fields with most artifact: the worst of each well, then the second of each, the worst wells first."""
    of_well: dict[str, list[tuple[float, _Target]]] = defaultdict(list)
    for target, fraction in zip(targets, fractions, strict=True):
        if fraction is not None:
            of_well[target.well.path].append((fraction, target))
    wells = [sorted(of, key=lambda pair: -pair[0]) for of in of_well.values()]
    wells.sort(key=lambda of: -of[0][0])
    in_turn = (pair[1] for turn in zip_longest(*wells) for pair in turn if pair is not None)
    return list(islice(in_turn, n_fields))


def _fraction(target: _Target, *, source: str) -> float | None:
    """Share of artifact in a field, by the coarsest level; None where there is no label."""
    labels = read_coarse_label(target.folder, source, target.acquisition.shape[-2:])
    return None if labels is None else float(np.mean(labels > 0))


def _read_label(folder: Location, name: str) -> NDArray[np.int32]:
    pixels = read_label(folder, name)
    if pixels is None:
        raise PlateError(f"has no labels/{name}: run `artmask run`, or name another label image with --from")
    return spare_number(pixels, IGNORE) if name in STAGE_LABELS else pixels


def _read_mask(mask: SegmentedField, acquisition: Acquisition) -> NDArray[np.int32]:
    """Objects of a mask, as labels of all planes; what is to be left out has the number that masks have for it."""
    pixels = mask.read_mask()
    found = label_objects((pixels == ARTIFACT).astype(np.float32), threshold=0.5, min_object_px=1, max_hole_px=0)
    objects = spare_number(found, IGNORE)
    objects[pixels == IGNORE] = IGNORE
    t, _, z, y, x = acquisition.shape
    return np.broadcast_to(objects, (t, z, y, x))


def _write(journal: Journal, target: _Target, config: CorrectConfig, ngff: NgffVersion, progress: Progress) -> bool:
    """Write the label of a field, unless a person's work is there; return whether it was kept."""
    name, place = config.to, f"{journal.plate.name} {target.well.name} field {target.field.index}"
    journal.lease.require()
    is_kept = not config.overwrite and compare_label(target.folder, name) == "edited"
    with journal.stage_files() as files:
        if is_kept:
            refreshed = refresh_levels(files, target.folder, name, ngff=ngff)
            levels = "; its coarser levels are brought up to date" if refreshed else ""
            progress.note(f"{place}: labels/{name} has been edited and is kept{levels}")
        else:
            pixels = target.read()
            place_of = (target.folder, target.acquisition, target.field)
            write_editable_label(files, *place_of, pixels, name=name, origin=target.origin, ngff=ngff)
        publish([files])
    return is_kept

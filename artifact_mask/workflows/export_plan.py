"""What `artmask export` makes of a plate: which fields, channels and masks, and what the result depends on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from artifact_mask import __version__
from artifact_mask.config import ExportConfig, IlluminationUse
from artifact_mask.engine.journal import FieldRecord, open_journal, read_config, read_settings
from artifact_mask.errors import PlateError, did_you_mean
from artifact_mask.io.ome_zarr_plate import StoredPlate
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, ArtifactFill, FieldKey, Masking, NgffVersion, Plate
from artifact_mask.workflows.exported_field import FieldExport
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.planes import Illumination, stored_flat_fields
from artifact_mask.workflows.run_results import read_run
from artifact_mask.workflows.stages import AFTER_RUN

IMAGES = "Images"
"""Folder of the files of all formats but `zarr`, as Harmony calls it."""
_WRITTEN_BY = {"artifacts": "run", "weak": "label", "stain": "stain"}
"""Stages by their label image."""


@dataclass(frozen=True)
class ExportPlan:
    """What is exported of a plate.

    Attributes
    ----------
    content
        The plate with the acquisitions, wells, fields and channels that were asked for.
    ngff
        Version of the plate.
    tasks
        What is made of the fields of each acquisition of ``content``.
    unlabelled
        Why fields have no mask.
    identity
        What the result depends on, by names that people know.
    """

    content: Plate
    ngff: NgffVersion
    tasks: Mapping[int, FieldExport]
    unlabelled: Mapping[FieldKey, str]
    identity: Mapping[str, object]


@dataclass(frozen=True)
class _Masks:
    """Masks of a plate: what made them, with which model, and why fields have none."""

    digest: str
    model: str
    unlabelled: Mapping[FieldKey, str]


@dataclass(frozen=True)
class _Source:
    """A plate, and what its acquisitions have in common."""

    root: Location
    stored: StoredPlate
    fill: ArtifactFill
    masks: _Masks
    illumination: Illumination


def plan_export(root: Location, config: ExportConfig) -> ExportPlan:
    """Decide what is exported of a plate.

    Raises
    ------
    PlateError
        If the plate has no such well, field, channel or masks, or its masks are of images that are no longer there.
    """
    stored, _ = read_ingest(root)
    fill: ArtifactFill = config.fill or read_config(root, "run").get("fill", "median")
    if config.format == "zarr" and fill == "nan" and not config.unmasked:
        raise PlateError(f"{root} was masked with nan, and a plate has whole numbers: name another --fill.")
    _require_known(stored.plate, config)
    masks = _find_masks(root, stored, config)
    use: IlluminationUse = config.illumination or read_config(root, "run").get("illumination", "stored")
    source = _Source(root, stored, fill, masks, stored_flat_fields(root, stored.ingest_digest, use))
    chosen = {number: _choose(acquisition, config) for number, acquisition in enumerate(stored.plate.acquisitions)}
    kept = {number: one for number, one in chosen.items() if one.channels and one.wells}
    if not kept:
        raise PlateError(f"{stored.plate.name} has no field with these channels in these wells.")
    tasks = {
        position: _plan_acquisition(source, config, number, acquisition)
        for position, (number, acquisition) in enumerate(kept.items())
    }
    identity = {
        "software": __version__,
        "ingest": stored.ingest_digest,
        "label": config.label,
        "masks": masks.digest,
        "format": config.format,
        "fill": "" if config.unmasked else fill,
        "channels": [channel.name for task in tasks.values() for channel in task.acquisition.channels],
        "wells": sorted(config.wells),
        "fields": sorted(config.fields),
        "flat fields": [flat.digest for task in tasks.values() for flat in task.flat_fields.values()],
    }
    content = replace(stored.plate, acquisitions=tuple(kept.values()))
    return ExportPlan(content, stored.ngff, tasks, masks.unlabelled, identity)


def _plan_acquisition(source: _Source, config: ExportConfig, number: int, acquisition: Acquisition) -> FieldExport:
    plate, masks = source.stored.plate, source.masks
    whole = plate.acquisitions[number]
    channels = tuple(c for c, channel in enumerate(whole.channels) if channel in acquisition.channels)
    flat_fields = {c: source.illumination[number, c] for c in channels if (number, c) in source.illumination}
    # Of each channel, in their order.
    digests = ",".join(flat_fields[c].digest if c in flat_fields else "" for c in channels) if flat_fields else ""
    return FieldExport(
        source=source.root,
        plate_name=plate.name,
        whole=replace(whole, wells=()),
        acquisition=acquisition,
        channels=channels,
        flat_fields=flat_fields,
        format=config.format,
        label=config.label,
        unlabelled={},
        masking=None if config.unmasked else Masking(source.fill, config.label, masks.model, digests, __version__),
        # FieldIDs, which the files are named by, begin anew in each acquisition.
        folder=f"{IMAGES}/acquisition{number}" if len(plate.acquisitions) > 1 else IMAGES,
        ngff=source.stored.ngff,
    )


def _find_masks(root: Location, stored: StoredPlate, config: ExportConfig) -> _Masks:
    """Find what made the label image, and which fields it has not done: what they have is of something else."""
    stage = _WRITTEN_BY.get(config.label)
    if stage is None:
        # A person may have changed a label image of their own since.
        return _Masks(f"at {time.time_ns()}", "", {})
    fields, journal, settings = stored.plate.acquisition_of, open_journal(root, stage), read_settings(root, stage)
    run = open_journal(root, "run")
    is_current = settings.get("ingest") == stored.ingest_digest
    if stage in AFTER_RUN:
        is_current = is_current and run is not None and settings.get("run") == run.digest
    if journal is None or not is_current:
        reason = f"{root} has no masks of the images that are there now. Run `artmask {stage} {root.name}` first."
        if not config.unmasked:
            raise PlateError(reason)
        return _Masks("", "", dict.fromkeys(fields, reason))
    if stage == "run" and not config.unmasked:
        read_run(root, stored)  # raises if the flat field has changed since
    records = journal.read()
    unlabelled = {key: why for key in fields if (why := _why_unlabelled(stage, records.get(key)))}
    return _Masks(journal.digest, str(settings.get("model", "")), unlabelled)


def _why_unlabelled(stage: str, record: FieldRecord | None) -> str:
    if record is None:
        return f"`artmask {stage}` has not reached it"
    return f"`artmask {stage}` failed: {record.row['error']}" if record.failed else ""


def _require_known(plate: Plate, config: ExportConfig) -> None:
    """Raise if there is no well, field or channel of a name."""
    wells = {well.name for well in plate.wells}
    fields = {str(field.field_id) for well in plate.wells for field in well.fields}
    channels = {channel.name for acquisition in plate.acquisitions for channel in acquisition.channels}
    wanted = (("well", wells, config.wells), ("field", fields, map(str, config.fields)))
    for kind, known, names in (*wanted, ("channel", channels, config.channels)):
        unknown = [name for name in names if name not in known]
        if unknown:
            listed = ", ".join(sorted(known)[:12]) + (", ..." if len(known) > 12 else "")
            near = did_you_mean(unknown[0], known)
            raise PlateError(f"{plate.name} has no {kind} {unknown[0]!r}; it has {listed}.{near}")


def _choose(acquisition: Acquisition, config: ExportConfig) -> Acquisition:
    """Leave the wells, fields and channels that were asked for; there may be none."""
    channels = tuple(c for c in acquisition.channels if not config.channels or c.name in config.channels)
    t, _, z, y, x = acquisition.shape
    wells = (
        replace(well, fields=tuple(f for f in well.fields if not config.fields or f.field_id in config.fields))
        for well in acquisition.wells
        if not config.wells or well.name in config.wells
    )
    shape = (t, len(channels), z, y, x)
    return replace(acquisition, channels=channels, shape=shape, wells=tuple(well for well in wells if well.fields))

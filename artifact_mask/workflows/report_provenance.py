"""Where the figures of a plate come from: images, settings of each stage, the model, versions."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from artifact_mask.config import LabelConfig, RunConfig
from artifact_mask.engine.journal import open_journal, read_config, read_settings
from artifact_mask.errors import ModelError
from artifact_mask.io.illumination_profiles import read_description
from artifact_mask.io.ome_zarr_plate import StoredPlate
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition
from artifact_mask.nn.model_card import (
    ClassifierCard,
    ModelCard,
    UNetCard,
    default_classifier_path,
    find_unet,
    model_digest,
    read_card,
)
from artifact_mask.workflows.stages import STAGES

Section = tuple[str, list[tuple[str, str]]]
"""A title, with names and values."""

_OF_THE_MACHINE = ("cluster", "fields_per_unit")
"""Where the work was done changes no figure, and is nobody else's business."""


def describe_provenance(root: Location, stored: StoredPlate, models: Mapping[str, ModelCard | None]) -> list[Section]:
    """Describe the images of a plate, each stage that has begun, and the models that :func:`read_models` found."""
    sections: list[Section] = []
    several = len(stored.plate.acquisitions) > 1
    for number, acquisition in enumerate(stored.plate.acquisitions):
        sections.append((f"Images of acquisition {number}" if several else "Images", _describe_images(acquisition)))
    sections[0][1].extend(_describe_store(root, stored))
    for stage in STAGES:
        journal = open_journal(root, stage)
        if journal is None:
            continue
        config, settings = read_config(root, stage), read_settings(root, stage)
        rows = [("digest of all settings", journal.digest), *_flatten(settings)]
        sections.append((f"artmask {stage}: settings on record", rows))
        given = {key: value for key, value in config.items() if key not in _OF_THE_MACHINE}
        sections.append((f"artmask {stage}: configuration", list(_flatten(given))))
        model = models.get(stage)
        if "model" in settings:
            title = f"artmask {stage}: model"
            digest = str(settings["model"])
            if model is None:
                why = "its file is not on the machine that wrote this report, or has changed"
                sections.append((title, [("digest (SHA-256)", digest), ("card", why)]))
            else:
                sections.append((title, [("digest (SHA-256)", digest), *_flatten(model.model_dump(exclude={"seen"}))]))
    return sections


def read_models(root: Location) -> dict[str, ModelCard | None]:
    """Read the cards of the models that stages were run with; None where there is none, or the file has changed."""
    return {stage: _read_model(root, stage) for stage in ("run", "label")}


def _read_model(root: Location, stage: str) -> ModelCard | None:
    settings, config = read_settings(root, stage), read_config(root, stage)
    try:
        if stage == "run":
            path = find_unet(RunConfig.model_validate(config).model)
            card: ModelCard = read_card(path, UNetCard)
        else:
            path = LabelConfig.model_validate(config).classifier or default_classifier_path()
            card = read_card(path, ClassifierCard)
        return card if model_digest(path) == settings.get("model") else None
    except (ModelError, ValidationError):
        return None


def say_time(ns: int) -> str:
    """Say a time, in nanoseconds since 1970, for people."""
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _describe_images(acquisition: Acquisition) -> list[tuple[str, str]]:
    t, _, z, y, x = acquisition.shape
    objective = "" if acquisition.magnification is None else f"{acquisition.magnification:g}x"
    if objective and acquisition.numerical_aperture:
        objective += f", NA {acquisition.numerical_aperture:g}"
    rows = [
        ("measured", acquisition.started),
        ("measurement", acquisition.measurement_id),
        ("field", f"{y} x {x} pixels of {acquisition.pixel_size_um:.4g} um"),
        ("planes", f"{z}, {acquisition.z_step_um:g} um apart" if z > 1 else ""),
        ("times", f"{t}, {acquisition.t_step_s:g} s apart" if t > 1 else ""),
        ("objective", objective),
        ("flat field divided by at ingest", acquisition.flat_field),
    ]
    for channel in acquisition.channels:
        parts = [
            channel.kind,
            "" if channel.excitation_nm is None else f"excitation {channel.excitation_nm:g} nm",
            "" if channel.emission_nm is None else f"emission {channel.emission_nm:g} nm",
            "" if channel.exposure_s is None else f"{channel.exposure_s * 1e3:g} ms",
            "" if channel.binning is None else f"binning {channel.binning}",
        ]
        rows.append((f"channel {channel.channel_id}: {channel.name}", ", ".join(part for part in parts if part)))
    return [(name, value) for name, value in rows if value]


def _describe_store(root: Location, stored: StoredPlate) -> Iterator[tuple[str, str]]:
    yield "store", str(root)
    yield "format", f"OME-Zarr {stored.ngff}"
    if stored.plate.barcode:
        yield "barcode", stored.plate.barcode
    for entry in read_description(root, stored.ingest_digest).get("channels", ()):
        yield f"stored flat field of {entry['name']}", f"{entry['method']}, digest {entry['digest']}"


def _flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a nested document; what was not given is left out."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None and value != "":
            yield f"{prefix}{name}", f"{value:.6g}" if isinstance(value, float) else str(value)

"""Configurations: one frozen model a command, the same for the command line, a YAML file and Python."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifact_mask.errors import ConfigError

Config = TypeVar("Config", bound="Frozen")


class Frozen(BaseModel):
    """Base of all configurations and metadata: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterConfig(Frozen):
    """How many processes of a local Dask cluster share the work."""

    workers: int | None = Field(default=None, ge=1, description="Worker processes; by default one per core, at most 8.")
    threads_per_worker: int | None = Field(
        default=None,
        ge=1,
        description="Threads that each worker computes with; by default the cores divided by the workers.",
    )
    dashboard: bool = Field(default=True, description="Serve Dask's dashboard on the loopback address.")


class IngestConfig(Frozen):
    """From an export of Harmony to an OME-Zarr plate."""

    export: Path = Field(description="Folder that Harmony exported, its Images folder, or the index file.")
    plate: Path = Field(description="Plate to write, such as plate1.zarr.")
    pixel_size_um: float | None = Field(
        default=None, gt=0, description="Pixel size in micrometre; needed where there is no index."
    )
    channel_names: dict[int, str] = Field(
        default_factory=dict,
        description="Names by Harmony's channel number, where the export has none, or none that says enough.",
    )
    fields_per_unit: int = Field(default=8, ge=1, description="Fields of one well that make one task.")
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class RunConfig(Frozen):
    """Find artifacts on a plate, mask them, and measure."""

    plate: Path = Field(description="Plate that `artmask ingest` wrote.")
    channel: str | None = Field(
        default=None, description="Name of the channel to segment; by default the brightfield one."
    )
    model: Path | None = Field(
        default=None, description="Model file (safetensors); by default the one that artmask ships."
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Probability from which a pixel is an artifact; by default the model's own.",
    )
    min_object_px: int | None = Field(
        default=None, ge=1, description="Objects of fewer pixels are dropped; by default the model's own."
    )
    stain_threshold_od: float = Field(
        default=0.08, gt=0, description="Optical density from which a pixel counts as stained."
    )
    fields_per_unit: int = Field(default=8, ge=1, description="Fields of one well that make one task.")
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class SimulateConfig(Frozen):
    """Draw a synthetic campaign, exported as by Harmony, with the truth about every field."""

    dest: Path = Field(description="Folder to write the plates into, one folder a plate.")
    plates: int = Field(default=1, ge=1, le=999, description="Number of plates.")
    wells: int = Field(default=6, ge=1, le=384, description="Wells of each plate: controls and a dilution series.")
    fields: int = Field(default=4, ge=1, le=999, description="Fields of view of each well.")
    size: int = Field(default=1080, ge=64, le=2160, description="Side of a field, in pixels.")
    channels: int = Field(default=1, ge=1, le=5, description="Brightfield, then nuclei, then further fluorescence.")
    seed: int = Field(default=0, ge=0, description="Seed; the same seed writes the same bytes.")
    pixel_size_um: float = Field(default=0.3, ge=0.1, le=2.0, description="Side of a pixel, in micrometre.")


def load_config(kind: type[Config], file: Path | None, given: dict[str, Any]) -> Config:
    """Build a configuration from a YAML file and from what was given by hand, which takes precedence.

    Parameters
    ----------
    kind
        The configuration to build.
    file
        YAML file; None for none.
    given
        Keys and values, nested as in the file; None stands for "not given".

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong; the message names each.
    """
    values = _read_yaml(file) if file else {}
    try:
        return kind.model_validate(_merge(values, given))
    except ValidationError as error:
        problems = [f"  {'.'.join(str(part) for part in e['loc'])}: {_explain(e, kind)}" for e in error.errors()]
        raise ConfigError("\n".join(["The configuration is wrong:", *problems])) from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold keys and values, such as `threshold: 0.5`.")
    return values


def _merge(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        elif isinstance(value, dict):
            merged[key] = _merge({}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _explain(error: Any, kind: type[Frozen]) -> str:
    if error["type"] != "extra_forbidden":
        return str(error["msg"])
    known = ", ".join(kind.model_fields) if len(error["loc"]) == 1 else "see `artmask --help`"
    return f"there is no such key; known are: {known}"

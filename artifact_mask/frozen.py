"""What every configuration is: immutable, checked, and the same from the command line, a YAML file and Python."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from artifact_mask.errors import ConfigError

Config = TypeVar("Config", bound="Frozen")


class Frozen(BaseModel):
    """Base of all configurations and model cards: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

"""What every configuration is: immutable, checked, and the same from the command line, a YAML file and Python."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from artifact_mask.errors import ConfigError, did_you_mean

Config = TypeVar("Config", bound="Frozen")

_BRANCH = re.compile(r"[a-z-]+\[.*\]|constrained-[a-z]+")
"""How pydantic names one of the types that a value may have."""


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
        raise ConfigError("\n".join(["The configuration is wrong:", *_list_problems(error, kind)])) from error


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


def _list_problems(error: ValidationError, kind: type[Frozen]) -> Iterator[str]:
    """Say what is wrong with each key, in a line; a value that may be of several kinds is wrong for each of them."""
    of_key: dict[str, list[str]] = {}
    for one in error.errors():
        # Names of types, which pydantic puts between, say nothing to users.
        path = ".".join(str(part) for part in one["loc"] if _BRANCH.fullmatch(str(part)) is None)
        of_key.setdefault(path, []).append(_explain(one, kind))
    for path, problems in of_key.items():
        # Who misspelt a word meant none of the other kinds.
        likely = [problem for problem in problems if "Did you mean" in problem] or problems
        yield f"  {path}: {'; or: '.join(likely)}" if path else f"  {'; '.join(likely)}"


def _explain(error: Any, kind: type[Frozen]) -> str:
    if error["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        near = did_you_mean(error["input"], valid)
        return f"{error['msg']}, found {error['input']!r}{near and '.'}{near}"
    if error["type"] != "extra_forbidden":
        return str(error["msg"]).removeprefix("Value error, ")
    *path, key = error["loc"]
    known = list(_model_at(kind, path).model_fields)
    return f"there is no such key.{did_you_mean(key, known)} Known are: {', '.join(known)}"


def _model_at(kind: type[Frozen], path: Sequence[str | int]) -> type[Frozen]:
    """Find the model of a nested key."""
    for name in path:
        field = kind.model_fields.get(str(name))
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, Frozen):
            kind = field.annotation
    return kind

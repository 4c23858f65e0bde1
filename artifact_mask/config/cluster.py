"""Which Dask cluster does the work."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, field_validator, model_validator

from artifact_mask.errors import did_you_mean
from artifact_mask.frozen import Frozen

CLUSTER_KINDS = ("local", "cuda", "slurm", "pbs", "sge", "lsf", "ssh", "kubernetes")
FIXED_KINDS = ("ssh", "tcp", "tls")
"""Clusters whose workers we cannot add or take away on the way."""


class ClusterConfig(Frozen):
    """Which Dask cluster does the work."""

    kind: str = Field(
        default="local",
        description=f"One of {', '.join(CLUSTER_KINDS)}, or a running scheduler: tcp://HOST:PORT or tls://HOST:PORT.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Worker processes, at most where they come and go; by default chosen from cores, memory and GPUs.",
    )
    min_workers: int | None = Field(
        default=None, ge=1, description="Let workers come and go with the work, between this number and `workers`."
    )
    threads_per_worker: int | None = Field(
        default=None,
        ge=1,
        description="Threads that each worker computes with; by default the cores divided by the workers.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of this kind of cluster, such as queue=gpu for slurm; docs/clusters.md lists them.",
    )
    insecure: bool = Field(
        default=False, description="Allow unencrypted connections to other machines: who can reach them can run code."
    )
    dashboard: bool = Field(default=True, description="Serve Dask's dashboard on the loopback address.")
    performance_report: Path | None = Field(default=None, description="Write Dask's performance report (HTML) here.")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind in CLUSTER_KINDS:
            return kind
        if kind.startswith(("tcp://", "tls://")):
            _check_address(kind)
            return kind
        raise ValueError(
            f"there is no cluster {kind!r}.{did_you_mean(kind, CLUSTER_KINDS)} "
            f"Known are {', '.join(CLUSTER_KINDS)} and tcp://HOST:PORT"
        )

    @field_validator("options")
    @classmethod
    def _parsed(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {key: _parse(value) if isinstance(value, str) else value for key, value in options.items()}

    @model_validator(mode="after")
    def _can_adapt(self) -> "ClusterConfig":
        if self.min_workers is not None:
            if self.kind.split("://")[0] in FIXED_KINDS:
                raise ValueError(f"workers of {self.kind} cannot come and go: leave min_workers away")
            if self.workers is None or self.workers < self.min_workers:
                raise ValueError(f"min_workers={self.min_workers} needs workers, and at least as many")
        return self


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        complete = parts.hostname and parts.port and not parts.path
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(f"{address!r} must be the address of a scheduler, such as tls://cluster.example.org:8786")


def _parse(text: str) -> Any:
    """Give a value of the command line its type; times (`12:00:00`) and codes (`0123`) stay the text that they are."""
    plain = re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?|true|false|null|\[.*\]|\{.*\}", text, re.DOTALL)
    try:
        return yaml.safe_load(text) if plain else text
    except yaml.YAMLError:
        return text

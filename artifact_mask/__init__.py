"""artmask: find artifacts in high-content screening images without drawing a pixel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
    from artifact_mask.errors import ArtmaskError
    from artifact_mask.workflows.ingest import ingest
    from artifact_mask.workflows.progress import Summary
    from artifact_mask.workflows.run import run
    from artifact_mask.workflows.simulate import simulate

__version__ = "0.1.0"

__all__ = [
    "ArtmaskError",
    "ClusterConfig",
    "IngestConfig",
    "RunConfig",
    "SimulateConfig",
    "Summary",
    "__version__",
    "ingest",
    "run",
    "simulate",
]

_HOMES = {
    "ArtmaskError": "errors",
    "ClusterConfig": "config",
    "IngestConfig": "config",
    "RunConfig": "config",
    "SimulateConfig": "config",
    "Summary": "workflows.progress",
    "ingest": "workflows.ingest",
    "run": "workflows.run",
    "simulate": "workflows.simulate",
}


def __getattr__(name: str) -> Any:
    # On first use: `artmask --help` must not wait for Dask and Zarr.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

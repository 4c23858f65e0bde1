"""artmask: find artifacts in high-content screening images without drawing a pixel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig, VerifyConfig
    from artifact_mask.errors import ArtmaskError
    from artifact_mask.workflows.ingest import ingest
    from artifact_mask.workflows.progress import Summary
    from artifact_mask.workflows.run import run
    from artifact_mask.workflows.simulate import simulate
    from artifact_mask.workflows.status import StageStatus, read_status
    from artifact_mask.workflows.verify import verify

__version__ = "0.1.0"

__all__ = [
    "ArtmaskError",
    "ClusterConfig",
    "IngestConfig",
    "RunConfig",
    "SimulateConfig",
    "StageStatus",
    "Summary",
    "VerifyConfig",
    "__version__",
    "ingest",
    "read_status",
    "run",
    "simulate",
    "verify",
]

_HOMES = {
    "ArtmaskError": "errors",
    "ClusterConfig": "config",
    "IngestConfig": "config",
    "RunConfig": "config",
    "SimulateConfig": "config",
    "StageStatus": "workflows.status",
    "Summary": "workflows.progress",
    "VerifyConfig": "config",
    "ingest": "workflows.ingest",
    "read_status": "workflows.status",
    "run": "workflows.run",
    "simulate": "workflows.simulate",
    "verify": "workflows.verify",
}


def __getattr__(name: str) -> Any:
    # On first use: `artmask --help` must not wait for Dask and Zarr.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

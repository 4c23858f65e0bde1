"""artmask: find artifacts in high-content screening images without drawing a pixel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artifact_mask.config import (
        ClusterConfig,
        ExplainConfig,
        IngestConfig,
        LabelConfig,
        LabelSheetConfig,
        RunConfig,
        SimulateConfig,
        TrainClassifierConfig,
        VerifyConfig,
    )
    from artifact_mask.errors import ArtmaskError
    from artifact_mask.workflows.explain import explain
    from artifact_mask.workflows.ingest import ingest
    from artifact_mask.workflows.label import label
    from artifact_mask.workflows.label_sheet import write_label_sheet
    from artifact_mask.workflows.progress import Summary
    from artifact_mask.workflows.run import run
    from artifact_mask.workflows.simulate import simulate
    from artifact_mask.workflows.status import StageStatus, read_status
    from artifact_mask.workflows.train_classifier import train_classifier
    from artifact_mask.workflows.verify import verify

__version__ = "0.1.0"

__all__ = [
    "ArtmaskError",
    "ClusterConfig",
    "ExplainConfig",
    "IngestConfig",
    "LabelConfig",
    "LabelSheetConfig",
    "RunConfig",
    "SimulateConfig",
    "StageStatus",
    "Summary",
    "TrainClassifierConfig",
    "VerifyConfig",
    "__version__",
    "explain",
    "ingest",
    "label",
    "read_status",
    "run",
    "simulate",
    "train_classifier",
    "verify",
    "write_label_sheet",
]

_HOMES = {
    "ArtmaskError": "errors",
    "ClusterConfig": "config",
    "ExplainConfig": "config",
    "IngestConfig": "config",
    "LabelConfig": "config",
    "LabelSheetConfig": "config",
    "RunConfig": "config",
    "SimulateConfig": "config",
    "StageStatus": "workflows.status",
    "Summary": "workflows.progress",
    "TrainClassifierConfig": "config",
    "VerifyConfig": "config",
    "explain": "workflows.explain",
    "ingest": "workflows.ingest",
    "label": "workflows.label",
    "read_status": "workflows.status",
    "run": "workflows.run",
    "simulate": "workflows.simulate",
    "train_classifier": "workflows.train_classifier",
    "verify": "workflows.verify",
    "write_label_sheet": "workflows.label_sheet",
}


def __getattr__(name: str) -> Any:
    # On first use: `artmask --help` must not wait for Dask and Zarr.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

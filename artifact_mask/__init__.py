"""artmask: find artifacts in high-content screening images without drawing a pixel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artifact_mask.config import (
        CellsConfig,
        ClusterConfig,
        CorrectConfig,
        EvaluateConfig,
        ExplainConfig,
        ExportConfig,
        IlluminationConfig,
        IngestConfig,
        LabelConfig,
        LabelSheetConfig,
        ReportConfig,
        RunConfig,
        SimulateConfig,
        StainConfig,
        TrainClassifierConfig,
        TrainUNetConfig,
        VerifyConfig,
        ViewConfig,
    )
    from artifact_mask.errors import ArtmaskError
    from artifact_mask.views.plate_dataset import open_campaign, open_plate
    from artifact_mask.workflows.cells import measure_cells
    from artifact_mask.workflows.correct import correct
    from artifact_mask.workflows.evaluate import Evaluation, evaluate
    from artifact_mask.workflows.explain import explain
    from artifact_mask.workflows.export import export
    from artifact_mask.workflows.illumination import estimate_illumination
    from artifact_mask.workflows.ingest import ingest
    from artifact_mask.workflows.label import label
    from artifact_mask.workflows.label_sheet import write_label_sheet
    from artifact_mask.workflows.progress import Summary
    from artifact_mask.workflows.report import Report, write_report
    from artifact_mask.workflows.run import run
    from artifact_mask.workflows.simulate import simulate
    from artifact_mask.workflows.stain import label_stain
    from artifact_mask.workflows.status import StageStatus, read_status
    from artifact_mask.workflows.train_classifier import train_classifier
    from artifact_mask.workflows.train_unet import train_unet
    from artifact_mask.workflows.verify import verify
    from artifact_mask.workflows.view import start_view

__version__ = "0.1.0"

__all__ = [
    "ArtmaskError",
    "CellsConfig",
    "ClusterConfig",
    "CorrectConfig",
    "EvaluateConfig",
    "Evaluation",
    "ExplainConfig",
    "ExportConfig",
    "IlluminationConfig",
    "IngestConfig",
    "LabelConfig",
    "LabelSheetConfig",
    "Report",
    "ReportConfig",
    "RunConfig",
    "SimulateConfig",
    "StageStatus",
    "StainConfig",
    "Summary",
    "TrainClassifierConfig",
    "TrainUNetConfig",
    "VerifyConfig",
    "ViewConfig",
    "__version__",
    "correct",
    "estimate_illumination",
    "evaluate",
    "explain",
    "export",
    "ingest",
    "label",
    "label_stain",
    "measure_cells",
    "open_campaign",
    "open_plate",
    "read_status",
    "run",
    "simulate",
    "start_view",
    "train_classifier",
    "train_unet",
    "verify",
    "write_label_sheet",
    "write_report",
]

_HOMES = {
    "ArtmaskError": "errors",
    "CellsConfig": "config",
    "ClusterConfig": "config",
    "CorrectConfig": "config",
    "EvaluateConfig": "config",
    "Evaluation": "workflows.evaluate",
    "ExplainConfig": "config",
    "ExportConfig": "config",
    "IlluminationConfig": "config",
    "IngestConfig": "config",
    "LabelConfig": "config",
    "LabelSheetConfig": "config",
    "Report": "workflows.report",
    "ReportConfig": "config",
    "RunConfig": "config",
    "SimulateConfig": "config",
    "StageStatus": "workflows.status",
    "StainConfig": "config",
    "Summary": "workflows.progress",
    "TrainClassifierConfig": "config",
    "TrainUNetConfig": "config",
    "VerifyConfig": "config",
    "ViewConfig": "config",
    "correct": "workflows.correct",
    "estimate_illumination": "workflows.illumination",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "export": "workflows.export",
    "ingest": "workflows.ingest",
    "label": "workflows.label",
    "label_stain": "workflows.stain",
    "measure_cells": "workflows.cells",
    "open_campaign": "views.plate_dataset",
    "open_plate": "views.plate_dataset",
    "read_status": "workflows.status",
    "run": "workflows.run",
    "simulate": "workflows.simulate",
    "start_view": "workflows.view",
    "train_classifier": "workflows.train_classifier",
    "train_unet": "workflows.train_unet",
    "verify": "workflows.verify",
    "write_label_sheet": "workflows.label_sheet",
    "write_report": "workflows.report",
}


def __getattr__(name: str) -> Any:
    # On first use: `artmask --help` must not wait for Dask and Zarr.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

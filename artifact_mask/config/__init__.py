"""Configurations: one frozen model a command, the same for the command line, a YAML file and Python."""

from artifact_mask.config.cells import CellsConfig
from artifact_mask.config.cluster import CLUSTER_KINDS, FIXED_KINDS, ClusterConfig
from artifact_mask.config.export import ExportConfig, ExportFormat
from artifact_mask.config.illumination import IlluminationConfig
from artifact_mask.config.ingest import IngestConfig
from artifact_mask.config.labelling import (
    ExplainConfig,
    ExplanationConfig,
    Fill,
    LabelConfig,
    Refinement,
    SaliencyMethod,
    Weight,
)
from artifact_mask.config.places import Names, Places
from artifact_mask.config.report import ReportConfig
from artifact_mask.config.review import CorrectConfig, EvaluateConfig, VerifyConfig
from artifact_mask.config.run import Density, IlluminationUse, RunConfig, ShippedUNet, StainMethod
from artifact_mask.config.simulate import SimulateConfig
from artifact_mask.config.stain import StainConfig
from artifact_mask.config.training import (
    LabelSheetConfig,
    Precision,
    ResNetName,
    ResNetStage,
    TrainClassifierConfig,
    TrainUNetConfig,
    UNetPreset,
)
from artifact_mask.config.view import ViewConfig

__all__ = [
    "CLUSTER_KINDS",
    "FIXED_KINDS",
    "CellsConfig",
    "ClusterConfig",
    "CorrectConfig",
    "Density",
    "EvaluateConfig",
    "ExplainConfig",
    "ExplanationConfig",
    "ExportConfig",
    "ExportFormat",
    "Fill",
    "IlluminationConfig",
    "IlluminationUse",
    "IngestConfig",
    "LabelConfig",
    "LabelSheetConfig",
    "Names",
    "Places",
    "Precision",
    "Refinement",
    "ReportConfig",
    "ResNetName",
    "ResNetStage",
    "RunConfig",
    "SaliencyMethod",
    "ShippedUNet",
    "SimulateConfig",
    "StainConfig",
    "StainMethod",
    "TrainClassifierConfig",
    "TrainUNetConfig",
    "UNetPreset",
    "VerifyConfig",
    "ViewConfig",
    "Weight",
]

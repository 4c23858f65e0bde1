"""Configurations: one frozen model a command, the same for the command line, a YAML file and Python."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator
from upath import UPath

from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath, StoreLocation
from artifact_mask.metadata import FlatField, Harmony, NgffVersion

Precision = Literal["float32", "bfloat16", "float16"]
ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
ResNetStage = Literal["layer2", "layer3", "layer4"]
Weight = Literal["probability", "softmax-logit"]
"""What weighs a map of Score-CAM."""
Fill = Literal["background", "zero"]
"""What becomes of the pixels that a map hides."""
SaliencyMethod = Literal["score-cam", "mean", "cam"]
"""What finds where a classifier looks."""
Refinement = Literal["edges", "darkness", "edges-and-darkness", "none", "published"]
"""What sharpens a saliency map."""

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
        near = get_close_matches(kind, CLUSTER_KINDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no cluster {kind!r}; {hint}Known are {', '.join(CLUSTER_KINDS)} and tcp://HOST:PORT"
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


Places = Annotated[
    tuple[StoreLocation, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str | Path | UPath) else given),
]
"""One plate or folder, or several."""


class IngestConfig(Frozen):
    """From exports of Harmony to OME-Zarr plates."""

    exports: Places = Field(
        min_length=1, description="Folders to search for measurements, Images folders, or index files."
    )
    dest: StoreLocation = Field(
        description="Plate to write, such as plate1.zarr or s3://bucket/plate1.zarr, or a folder for one store a plate."
    )
    pixel_size_um: float | None = Field(
        default=None, gt=0, description="Pixel size in micrometre; needed where there is no index."
    )
    channel_names: dict[int, str] = Field(
        default_factory=dict,
        description="Names by Harmony's channel number, where the export has none, or none that says enough.",
    )
    flatfield: FlatField = Field(
        default="none", description="Divide by the background's flat field: `harmony` takes the profiles of the export."
    )
    ngff: NgffVersion = Field(default="0.5", description="Version of OME-Zarr; 0.4 for readers that know no other.")
    strict: bool = Field(default=False, description="Whether a missing or damaged image is an error.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class RunConfig(Frozen):
    """Find artifacts on a plate, mask them, and measure."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    channel: str | None = Field(
        default=None, description="Name of the channel to segment; by default the brightfield one."
    )
    model: LocalPath | None = Field(
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
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class LabelSheetConfig(Frozen):
    """Show fields to a person, who says which are clean."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    dest: LocalPath = Field(description="Page to write, such as sheet.html.")
    channel: str | None = Field(
        default=None, description="Name of the channel to show; by default the brightfield one."
    )
    fields: int = Field(default=100, ge=1, description="Fields to show, spread over all wells.")
    tile_px: int | None = Field(
        default=None, ge=32, description="Side of the tiles to judge, in pixels; by default whole fields are judged."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of fields.")


class TrainClassifierConfig(Frozen):
    """Teach a classifier which fields, or tiles of fields, have artifacts."""

    labels: LocalPath = Field(
        description="Table (CSV) with plate, well, field and label, or a folder with TIFFs in clean/ and artifact/."
    )
    plates: tuple[StoreLocation, ...] = Field(
        default=(), description="Plates that the table speaks of, or folders of plates; none for TIFFs."
    )
    dest: LocalPath = Field(description="Model to write, such as classifier.safetensors; a report lies beside it.")
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    pixel_size_um: float | None = Field(default=None, gt=0, description="Pixel size of TIFFs, in micrometre.")
    start: str = Field(
        default="default",
        description="Weights to start from: `default` (the classifier that artmask ships), `scratch`, `imagenet` "
        "(downloaded), or a file: a classifier of artmask, or ImageNet weights of torchvision.",
    )
    network: ResNetName = Field(default="resnet50", description="Which ResNet.")
    last_stage: ResNetStage = Field(
        default="layer2", description="Stage after which it is cut; layer4 is the whole network."
    )
    field_px: int = Field(default=576, ge=64, description="Side that whole fields are resampled to; tiles are not.")
    max_epochs: int = Field(default=150, ge=1, description="Passes over the training tiles, at most.")
    patience: int = Field(default=25, ge=1, description="Epochs without improvement after which training stops.")
    batch_size: int = Field(default=16, ge=2, description="Tiles in one step.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="At the start, reduced where the loss stays; by default 1e-3 from scratch, else 3e-4.",
    )
    validation: float = Field(default=0.2, gt=0, lt=1, description="Share of the labels kept back, in whole wells.")
    precision: Precision | None = Field(
        default=None, description="float32, bfloat16 or float16; by default the fastest that the machine computes well."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the split, the order and the augmentation.")
    licence: str = Field(
        default="NOASSERTION",
        min_length=1,
        description="SPDX identifier of the weights' licence, for the model's card.",
    )


class ExplanationConfig(Frozen):
    """How fields are explained: which tiles show an artifact, and where."""

    classifier: LocalPath | None = Field(
        default=None, description="Classifier (safetensors) of `artmask train classifier`; by default the shipped one."
    )
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a tile has an artifact; by default the model's."
    )
    weight: Weight = Field(
        default="probability",
        description="What weighs a map: `probability` (reference code) or `softmax-logit` (paper).",
    )
    fill: Fill = Field(default="background", description="What masked pixels become: `background` or `zero`.")
    layer: str | None = Field(default=None, description="Stage whose maps are weighed; by default the last one.")
    saliency: SaliencyMethod = Field(
        default="score-cam", description="What finds where the classifier looks: score-cam, or mean or cam of its maps."
    )
    tolerance: float = Field(
        default=0.04,
        ge=0,
        lt=1,
        description="Expected error of Score-CAM's map (1 - IoU) at which no more maps are scored; 0 scores them all.",
    )
    refinement: Refinement = Field(
        default="edges",
        description="What sharpens the saliency: edges, darkness, edges-and-darkness, none, or published.",
    )
    cut: Literal["otsu"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="otsu", description="Where the refined map is cut: `otsu`, or a fixed share of its range."
    )
    object_threshold: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Probability that an object must reach when the classifier sees it alone; by default that of "
        "tiles, and 0 for no such check.",
    )
    reach_um: float = Field(
        default=9.0, ge=0, description="How far objects grow to their own edge, over dark pixels; 0 for not at all."
    )
    min_object_px: int = Field(default=12, ge=1, description="Objects of fewer pixels are dropped.")


class LabelConfig(ExplanationConfig):
    """Label the artifacts of plates by what a classifier looked at."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class ExplainConfig(ExplanationConfig):
    """Draw how the label of one field comes about."""

    plate: StoreLocation = Field(description="Plate that `artmask ingest` wrote.")
    well: str = Field(description="Name of the well, such as B03.")
    field: int = Field(default=0, ge=0, description="Index of the field, as in the tables.")
    dest: LocalPath = Field(default=Path("explanation.png"), description="Picture to write.")


class VerifyConfig(Frozen):
    """Compare the files of plates with their records."""

    plates: Places = Field(min_length=1, description="Plates, or folders of plates.")
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class SimulateConfig(Frozen):
    """Draw a synthetic campaign, exported as by Harmony, with the truth about every field."""

    dest: Path = Field(description="Folder to write the plates into, one folder a measurement.")
    plates: int = Field(default=1, ge=1, le=999, description="Number of plates.")
    wells: int = Field(default=6, ge=1, le=384, description="Wells of each plate: controls and a dilution series.")
    fields: int = Field(default=4, ge=1, le=999, description="Fields of view of each well.")
    size: int = Field(default=1080, ge=64, le=2160, description="Side of a field, in pixels.")
    channels: int = Field(default=1, ge=1, le=5, description="Brightfield, then nuclei, then further fluorescence.")
    planes: int = Field(default=1, ge=1, le=99, description="Planes of a stack; the middle one is in focus.")
    timepoints: int = Field(default=1, ge=1, le=99, description="Times that each field is taken.")
    measurements: int = Field(
        default=1, ge=1, le=99, description="Measurements of each plate; several get folders named as Harmony does."
    )
    harmony: Harmony = Field(
        default="v5", description="Generation of the software whose export is imitated: v4, v5, v6, v7 or columbus."
    )
    seed: int = Field(default=0, ge=0, description="Seed; the same seed writes the same bytes.")
    pixel_size_um: float = Field(default=0.3, ge=0.1, le=2.0, description="Side of a pixel, in micrometre.")

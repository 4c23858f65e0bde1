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
ShippedUNet = Literal["weak", "supervised"]
"""U-Nets that artmask ships: one that saw no mask of a real field, and one that did."""
UNetPreset = Literal["light", "wide", "published", "resnet18", "resnet34", "resnet50"]
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


STAGE_LABELS = ("artifacts", "weak")
"""Label images that `run` and `label` write, and write again; all others are a person's own."""


def _split_names(given: Any) -> Any:
    """Names in one text, with commas between them."""
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


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
    model: ShippedUNet | LocalPath | None = Field(
        default=None,
        description="Model file (safetensors), or `weak` or `supervised` for one that artmask ships; by default the "
        "better of these.",
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
    reach_um: float | None = Field(
        default=None,
        ge=0,
        description="How far objects grow over dark pixels to their own edge, in um; by default the model's own.",
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


class TrainUNetConfig(Frozen):
    """Teach a U-Net which pixels of fields are artifacts."""

    places: Places = Field(
        min_length=1,
        description="Plates that `artmask ingest` wrote, folders of plates, or folders with images/ and masks/.",
    )
    dest: LocalPath = Field(description="Model to write, such as unet.safetensors; a report lies beside it.")
    labels: Annotated[tuple[str, ...], BeforeValidator(_split_names)] = Field(
        default=("weak",),
        min_length=1,
        description="Label images to learn from; of each field the first that it has, such as `corrected,weak`.",
    )
    masks: LocalPath | None = Field(
        default=None, description="Folder of masks or outlines for fields of the plates, instead of label images."
    )
    ignore: int | None = Field(default=None, description="Value of pixels in labels and masks to learn nothing from.")
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    pixel_size_um: float | None = Field(default=None, gt=0, description="Pixel size of TIFFs, in micrometre.")
    preset: UNetPreset = Field(
        default="light", description="The network: light, wide, published, or one with the encoder of a ResNet."
    )
    start: str = Field(
        default="scratch",
        description="Weights to start from: `scratch`, `weak` or `supervised` (those of artmask), or a U-Net's "
        "file; its architecture and pixel size are kept.",
    )
    encoder_start: str = Field(
        default="scratch",
        description="Weights of a ResNet encoder: `scratch`, `imagenet` (downloaded), or a file of torchvision.",
    )
    model_pixel_size_um: float | None = Field(
        default=None, gt=0, description="Pixel size that the network works at; by default that of the first field."
    )
    known: LocalPath | None = Field(
        default=None,
        description="Table of `artmask label-sheet`: what a person called clean is background, whatever labels say.",
    )
    rounds: int = Field(
        default=1,
        ge=1,
        le=9,
        description="Trainings in a row; after each, labels made by a program that the network contradicts are left "
        "out of the next.",
    )
    simulated: int = Field(
        default=0, ge=0, le=999, description="Simulated fields to learn from beside the others, an eighth of the crops."
    )
    drawn: float = Field(
        default=0.35,
        ge=0,
        lt=1,
        description="Share of the crops with shadows, well edges, debris and stain drawn in (brightfield alone).",
    )
    crop_px: int = Field(default=256, ge=64, description="Side of a crop, in pixels of the network.")
    max_epochs: int = Field(default=60, ge=1, description="Passes over the fields in a round, at most.")
    patience: int = Field(default=15, ge=1, description="Epochs without improvement after which a round stops.")
    batch_size: int = Field(default=16, ge=2, description="Crops in one step.")
    learning_rate: float | None = Field(
        default=None, gt=0, description="At the start of a round; by default 3e-3, and 1e-3 from trained weights on."
    )
    validation: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the fields kept back, in whole wells, to stop in time, to choose the threshold, and for "
        "the report; with 0 all is learnt from, and training takes all its epochs.",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a pixel is an artifact; by default chosen."
    )
    min_object_px: int | None = Field(
        default=None, ge=1, description="Objects of fewer pixels of the network are dropped; by default chosen."
    )
    large_threshold: float | None = Field(
        default=None, gt=0, lt=1, description="The same for large objects, where nothing is held out to choose it on."
    )
    reach_um: float = Field(
        default=9.0, ge=0, description="How far objects grow over dark pixels to their own edge; 0 for not at all."
    )
    precision: Precision | None = Field(
        default=None, description="float32, bfloat16 or float16; by default the fastest that the machine computes well."
    )
    devices: int | None = Field(
        default=None, ge=1, description="Processes, each with a GPU; by default as many as the fields are worth."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the split, the first weights and the augmentation.")
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


class CorrectConfig(Frozen):
    """Copy labels for a person to edit, or bring edited masks back."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    source: str = Field(default="artifacts", min_length=1, description="Label image to copy.")
    to: str = Field(
        default="corrected", pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Label image to write, for editing."
    )
    wells: Annotated[tuple[str, ...], BeforeValidator(_split_names)] = Field(
        default=(), description="Names of wells, such as B02,B03; by default all."
    )
    fields: int | None = Field(
        default=None,
        ge=1,
        description="Fields to copy of each plate, those with most artifact, from all wells in turn; by default all.",
    )
    masks: LocalPath | None = Field(
        default=None, description="Folder with edited masks (TIFF, PNG, ImageJ ROIs, GeoJSON) to bring in instead."
    )
    ignore: int | None = Field(default=None, description="Value of pixels in masks to learn nothing from.")
    channel: str | None = Field(
        default=None, description="Name of the channel that masks were drawn on; by default the brightfield one."
    )
    overwrite: bool = Field(default=False, description="Whether to replace labels that have been edited.")

    @model_validator(mode="after")
    def _keeps_results(self) -> "CorrectConfig":
        if self.to in (*STAGE_LABELS, self.source):
            raise ValueError(
                f"`to` is {self.to!r}, a label image that stays as it is; give a name of your own, such as corrected"
            )
        return self


class EvaluateConfig(Frozen):
    """Compare predicted artifacts with true ones."""

    prediction: ShippedUNet | StoreLocation = Field(
        description="Plate or folder of plates with predicted labels, a folder of masks or probabilities (PNG, TIFF, "
        "NPY), or a U-Net (safetensors, or `weak` or `supervised`), which is applied to the images of the truth."
    )
    truth: Places = Field(
        min_length=1,
        description="Plates with true labels, folders of plates, folders with TIFFs in images/ and masks/, or a folder "
        "of masks.",
    )
    dest: LocalPath = Field(default=Path("evaluation"), validate_default=True, description="Folder to write into.")
    prediction_label: str = Field(default="artifacts", min_length=1, description="Predicted label image of plates.")
    truth_label: str = Field(default="corrected", min_length=1, description="True label image of plates.")
    masks: LocalPath | None = Field(
        default=None, description="Folder of masks or outlines for fields of the true plates, instead of label images."
    )
    ignore: int | None = Field(
        default=None, description="Value of pixels of the truth that are left out; -1 where none is."
    )
    ring_px: int = Field(
        default=10,
        ge=0,
        description="Tolerant scores leave out the background within this distance of a true artifact.",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a pixel is an artifact; by default the model's."
    )
    min_object_px: int | None = Field(
        default=None, ge=1, description="Predicted objects of fewer pixels are dropped; by default the model's."
    )
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    pixel_size_um: float | None = Field(default=None, gt=0, description="Pixel size of TIFFs, in micrometre.")


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

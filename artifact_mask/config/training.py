"""Teaching networks."""

from typing import Literal

from pydantic import Field

from artifact_mask.config.places import Names, Places
from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath, StoreLocation

Precision = Literal["float32", "bfloat16", "float16"]
ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
ResNetStage = Literal["layer2", "layer3", "layer4"]
UNetPreset = Literal["light", "wide", "published", "resnet18", "resnet34", "resnet50"]


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
    labels: Names = Field(
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

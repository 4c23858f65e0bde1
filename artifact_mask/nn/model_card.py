"""What a model file says about itself. Needs no torch, so that a command can look at a model without paying for it."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator

from artifact_mask.config import ResNetName, ResNetStage, ShippedUNet, UNetPreset
from artifact_mask.errors import ModelError, did_you_mean
from artifact_mask.frozen import Frozen
from artifact_mask.kernels.illumination import CONTRAST_UNIT
from artifact_mask.kernels.labels import Cut

DEFAULT_UNET: ShippedUNet = "supervised"
"""The better one in cross-validation."""
CARD_KEY = "artmask"
"""Where the card lies in the file's metadata. The only key there: several would be written in random order."""

_MAX_HEADER_BYTES = 100_000_000  # what the safetensors library itself accepts
_N_POOLINGS = 4

_Channels = Annotated[int, Field(ge=1, le=1024)]


class UNetSpec(Frozen):
    """Architecture of the U-Net: five levels on blocks of pixels."""

    kind: Literal["unet"] = "unet"
    encoder: tuple[_Channels, _Channels, _Channels, _Channels, _Channels] | ResNetName = (16, 24, 32, 64, 128)
    """Channels of the five levels, finest first; or the ResNet, as torchvision names it, that takes their place."""
    decoder: tuple[_Channels, _Channels, _Channels, _Channels] = (64, 32, 24, 16)
    """Channels of the four levels on the way up, coarsest first."""
    unshuffle: int = Field(default=2, ge=1, le=8)
    """Side of the pixel blocks that become channels before the first convolution, and pixels again after the last."""
    norm: Literal["batch", "none"] = "batch"
    """What follows each 3x3 convolution."""
    negative_slope: float = Field(default=0.1, ge=0, le=1)
    """Slope of the rectifiers below zero."""
    clip: float = Field(default=5.0, gt=0)
    """Contrast is clipped to plus and minus this; with the default contrast unit -5 is black."""

    @model_validator(mode="after")
    def _resnet_halves(self) -> "UNetSpec":
        if isinstance(self.encoder, str) and self.unshuffle != 2:
            raise ValueError("a ResNet's first level has half of the pixels a side: unshuffle must be 2")
        return self

    @property
    def stride_px(self) -> int:
        """What the sides of an input, and the offsets of tiles, must be multiples of."""
        return self.unshuffle << _N_POOLINGS

    @property
    def receptive_radius_px(self) -> int:
        """Distance beyond which no input pixel changes an output pixel.

        Two 3x3 convolutions a level reach two cells of that level, once on the way down and, but for the deepest
        level, once on the way up; poolings and transposed convolutions add at most one cell of the deepest level.
        """
        up = sum(2 << level for level in range(_N_POOLINGS)) * self.unshuffle
        if isinstance(self.encoder, str):
            down = _resnet_radius_px(self.encoder)
        else:
            down = sum(2 << level for level in range(_N_POOLINGS + 1)) * self.unshuffle
        return down + up + self.stride_px - 1


def _resnet_radius_px(name: ResNetName) -> int:
    """Distance from which on no pixel reaches a cell of the last stage of a ResNet."""
    n_convolutions = {"resnet18": (4, 4, 4, 4), "resnet34": (6, 8, 12, 6), "resnet50": (3, 4, 6, 3)}.get(
        name, (3, 4, 23, 3)
    )
    radius = 3 + 2  # 7x7, then a pooling of 3x3 on cells of two pixels
    for stage, n in enumerate(n_convolutions):
        cell = 4 << stage
        # But for the first stage, the first 3x3 convolution steps from the finer cells of the stage before.
        radius += cell * n if stage == 0 else cell // 2 + cell * (n - 1)
    return radius


@dataclass(frozen=True)
class Preset:
    """A U-Net by name.

    Attributes
    ----------
    architecture
        Of the network.
    field_px
        Side that the first field is brought to, which fixes the pixel size; None for that of the field.
    """

    architecture: UNetSpec
    field_px: int | None = None


PRESETS: dict[UNetPreset, Preset] = {
    "light": Preset(UNetSpec()),
    "wide": Preset(UNetSpec(encoder=(32, 48, 64, 128, 256), decoder=(128, 64, 48, 32))),
    # Of the method's publication: 501,345 weights, fields of 576 x 576.
    "published": Preset(
        UNetSpec(encoder=(64,) * 5, decoder=(32,) * 4, unshuffle=1, norm="none", negative_slope=0), field_px=576
    ),
    "resnet18": Preset(UNetSpec(encoder="resnet18", decoder=(128, 64, 48, 32))),
    "resnet34": Preset(UNetSpec(encoder="resnet34", decoder=(128, 64, 48, 32))),
    "resnet50": Preset(UNetSpec(encoder="resnet50", decoder=(256, 128, 64, 32))),
}
"""The U-Nets that `artmask train unet` knows; the encoders of the last three can start from a ResNet's weights."""


class Normalisation(Frozen):
    """What is done to a field before the network sees it."""

    name: Literal["contrast-against-background"] = "contrast-against-background"
    """``(image / background - 1) / contrast_unit``, see :mod:`artifact_mask.kernels.illumination`."""
    contrast_unit: float = Field(default=CONTRAST_UNIT, gt=0)
    """Relative deviation from the background that counts as 1."""


class ResNetSpec(Frozen):
    """Architecture of the classifier: the first stages of a ResNet on one channel, an average, two classes."""

    kind: Literal["resnet"] = "resnet"
    name: ResNetName = "resnet50"
    """Which ResNet, as torchvision names it."""
    last_stage: ResNetStage = "layer2"
    """Stage after which it is cut; ``layer4`` is the whole network. Earlier stages have finer maps."""
    clip: float = Field(default=5.0, gt=0)
    """Contrast is clipped to plus and minus this; with the default contrast unit -5 is black."""


class ModelCard(Frozen):
    """What every model says about itself."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    normalisation: Normalisation = Normalisation()
    pixel_size_um: float = Field(gt=0)
    """Size of a pixel in the training fields; a field of another size has to be resampled to it."""
    pixel_size_assumed: bool = False
    """Whether the training fields did not record it."""
    threshold_choice: str = ""
    """How thresholds were chosen."""
    training_data: tuple[str, ...] = ()
    """Where the training fields came from."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Scores on fields of wells that were not trained on."""
    software: dict[str, str] = Field(default_factory=dict)
    """Versions that trained the model."""
    licence: str = Field(min_length=1)
    """SPDX identifier of the weights' licence."""


class UNetCard(ModelCard):
    """Card of a U-Net, which tells the artifacts' pixels."""

    architecture: UNetSpec
    threshold: float = Field(gt=0, lt=1)
    """Probability from which on a pixel is artifact."""
    min_object_px: int = Field(ge=0)
    """Objects of fewer pixels are dropped."""
    reach_um: float = Field(default=0.0, ge=0)
    """How far objects then grow to their own edge, over dark pixels, in micrometre."""
    large_threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which on a pixel is artifact where as many hang together as make a large object."""
    large_object_px: int = Field(default=1500, ge=1)
    """Pixels of a large object."""
    seen: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Range of each statistic of :mod:`artifact_mask.kernels.familiarity` over the training fields, by its name; `run`
    warns of a plate far beyond. It says nothing where this is empty."""

    def cut(
        self,
        scale: float = 1.0,
        *,
        threshold: float | None = None,
        min_object_px: int | None = None,
        reach_um: float | None = None,
    ) -> Cut:
        """How a probability map becomes objects.

        Parameters
        ----------
        scale
            How many times more pixels a side the model works at than the field has.
        threshold, min_object_px, reach_um
            In the place of the card's own; the smallest object in pixels of the field.
        """
        wanted = threshold or self.threshold
        return Cut(
            threshold=wanted,
            min_object_px=min_object_px or max(1, round(self.min_object_px / scale**2)),
            reach_px=(self.reach_um if reach_um is None else reach_um) / (self.pixel_size_um * scale),
            large_threshold=None if self.large_threshold is None else min(self.large_threshold, wanted),
            large_object_px=max(1, round(self.large_object_px / scale**2)),
        )


class ClassifierCard(ModelCard):
    """Card of a classifier, which tells tiles with artifacts from clean ones."""

    architecture: ResNetSpec
    tile_px: int = Field(ge=32)
    """Side of the tiles that it was taught, in pixels of ``pixel_size_um``; a larger field is cut into such tiles."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which on a tile has an artifact."""


Card = TypeVar("Card", UNetCard, ClassifierCard)
_WHAT = {UNetCard: ("unet", "U-Net"), ClassifierCard: ("resnet", "classifier")}


def read_card(path: str | Path, kind: type[Card]) -> Card:
    """Read the card of a model file without touching its weights.

    Parameters
    ----------
    path
        A ``.safetensors`` file written by :func:`artifact_mask.nn.checkpoint.save_model`.
    kind
        The card of the kind of model that is wanted.

    Raises
    ------
    ModelError
        If the file is missing, is no safetensors file, carries no valid card, or is a model of another kind.

    References
    ----------
    https://huggingface.co/docs/safetensors/index#format: eight bytes of little-endian length, then a JSON header.
    """
    text = _read_header(Path(path)).get("__metadata__", {}).get(CARD_KEY)
    if text is None:
        raise ModelError(
            f"{path} is a safetensors file without an artmask card; "
            "expected a model written by artmask. Train or export the model with artmask."
        )
    wanted, name = _WHAT[kind]
    found = _kind_of(text)
    if found != wanted and found in dict(_WHAT.values()):
        raise ModelError(
            f"{path} is a {dict(_WHAT.values())[found]}; expected a {name}. Name the file of a {name} instead."
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelError(
            f"The card of {path} is not valid: {where}: {first['msg']} ({error.error_count()} problem(s) in all); "
            "expected one written by this version of artmask. Use a matching version or train the model again."
        ) from error


def model_digest(path: str | Path) -> str:
    """Compute the SHA-256 of a model file, as lower-case hex.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def find_unet(model: Path | ShippedUNet | None = None) -> Path:
    """Locate a U-Net: a file, or one that artmask ships, by its name; the better one of these for None."""
    if isinstance(model, Path):
        return model
    # The wheel is always unpacked, so that the resource is a real file.
    return Path(str(resources.files("artifact_mask") / "models" / f"{model or DEFAULT_UNET}-unet.safetensors"))


def default_classifier_path() -> Path:
    """Locate the classifier that artmask ships, which a training starts from and labels are made with by default."""
    return Path(str(resources.files("artifact_mask") / "models" / "default-classifier.safetensors"))


def _kind_of(card: str) -> object:
    try:
        return json.loads(card)["architecture"]["kind"]
    except (ValueError, LookupError, TypeError):
        return None  # the model of the card says what is wrong with it


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            # A foreign file's first bytes are mostly a huge number: do not try to read as much.
            header = file.read(size) if size <= _MAX_HEADER_BYTES else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        content = json.loads(header)
        if isinstance(content, dict) and isinstance(content.get("__metadata__", {}), dict):
            return content
    except ValueError:
        pass  # falls through to the one error for everything that is not a header
    raise ModelError(
        f"{path} is not a safetensors file (its header is not JSON); expected a model written by artmask. "
        "Check that the path names a model and that the file was copied whole."
    )


def _unreadable(path: str | Path, error: OSError) -> ModelError:
    known = [*get_args(ShippedUNet), *(file.name for file in Path(path).parent.glob("*.safetensors"))]
    return ModelError(
        f"Cannot read the model {path} ({error.strerror or error}); expected a .safetensors file."
        f"{did_you_mean(Path(path).name, known)} Check the path, or name no model to use the one that artmask ships."
    )

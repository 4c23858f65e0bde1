"""What a model file says about itself. Needs no torch, so that a command can look at a model without paying for it."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from artifact_mask.config import ResNetName, ResNetStage
from artifact_mask.errors import ModelError
from artifact_mask.frozen import Frozen
from artifact_mask.kernels.illumination import CONTRAST_UNIT

CARD_KEY = "artmask"
"""Where the card lies in the file's metadata. The only key there: several would be written in random order."""

_MAX_HEADER_BYTES = 100_000_000  # what the safetensors library itself accepts
_N_POOLINGS = 4

_Channels = Annotated[int, Field(ge=1, le=1024)]


class UNetSpec(Frozen):
    """Architecture of the U-Net: five levels on blocks of pixels."""

    kind: Literal["unet"] = "unet"
    features: tuple[_Channels, _Channels, _Channels, _Channels, _Channels, _Channels] = (16, 24, 32, 64, 128, 16)
    """Channels of the five levels, finest first, then of the last decoder stage."""
    unshuffle: int = Field(default=2, ge=1, le=8)
    """Side of the pixel blocks that become channels before the first convolution."""
    negative_slope: float = Field(default=0.1, ge=0, le=1)
    """Slope of the leaky rectifier below zero."""
    clip: float = Field(default=5.0, gt=0)
    """Contrast is clipped to plus and minus this; with the default contrast unit -5 is black."""

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
        n_cells: int = sum(2 << level for level in [*range(_N_POOLINGS + 1), *range(_N_POOLINGS)])
        return n_cells * self.unshuffle + self.stride_px - 1


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


def default_model_path() -> Path:
    """Locate the model that artmask ships and uses when none is named."""
    # The wheel is always unpacked, so that the resource is a real file.
    return Path(str(resources.files("artifact_mask") / "models" / "default-unet.safetensors"))


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
    return ModelError(
        f"Cannot read the model {path} ({error.strerror or error}); expected a .safetensors file. "
        "Check the path, or name no model to use the one that artmask ships."
    )

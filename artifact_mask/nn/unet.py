"""Build the U-Net that finds artifacts from its architecture in plain numbers."""

import torch
from monai.networks.nets.basic_unet import BasicUNet
from torch import nn
from torch.nn import functional

from artifact_mask.nn.model_card import UNetSpec

__all__ = ["ArtifactUNet", "UNetSpec", "build_unet"]


class ArtifactUNet(nn.Module):
    """A U-Net on pixel blocks: ``(n, 1, y, x)`` contrast -> ``(n, 1, y, x)`` logit of artifact.

    Blocks of ``unshuffle`` x ``unshuffle`` pixels become channels before the first convolution and pixels again after
    the last one, so that the widest layers run on a quarter of the positions and no pixel is averaged away.

    Parameters
    ----------
    spec
        The architecture.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.unshuffle = spec.unshuffle
        self.clip = spec.clip
        n_pixels = spec.unshuffle**2
        self.body = BasicUNet(
            spatial_dims=2,
            in_channels=n_pixels,
            out_channels=n_pixels,
            features=spec.features,
            act=("LeakyReLU", {"negative_slope": spec.negative_slope, "inplace": True}),
            # Not instance norm: its statistics would differ between a tile and the whole field.
            norm=("batch", {}),
            upsample="deconv",
        )

    def forward(self, contrast: torch.Tensor) -> torch.Tensor:
        """Compute the logit of artifact for fields whose sides are multiples of the total stride."""
        blocks = functional.pixel_unshuffle(contrast.clamp(-self.clip, self.clip), self.unshuffle)
        logit: torch.Tensor = functional.pixel_shuffle(self.body(blocks), self.unshuffle)
        return logit


def build_unet(spec: UNetSpec) -> ArtifactUNet:
    """Build the network with random weights.

    Parameters
    ----------
    spec
        The architecture.

    Returns
    -------
    ArtifactUNet
        In training mode.
    """
    return ArtifactUNet(spec)

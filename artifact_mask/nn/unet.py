"""Build the U-Net that finds artifacts from its architecture in plain numbers."""

from itertools import pairwise
from typing import Any

import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import nn
from torch.nn import functional

from artifact_mask.nn.model_card import ResNetSpec, UNetSpec
from artifact_mask.nn.resnet import build_classifier

_UPWARDS = (4, 3, 2, 1)
_RESNET_LEVELS = ("relu", "layer1", "layer2", "layer3", "layer4")
_RARE = -4.0
"""First bias of the logit: some 2 % of the pixels are artifact."""


class ArtifactUNet(nn.Module):
    """A U-Net on pixel blocks: ``(n, 1, y, x)`` contrast -> ``(n, 1, y, x)`` logit of artifact.

    Blocks of ``unshuffle`` x ``unshuffle`` pixels become channels before the first convolution and pixels again after
    the last one, so that the widest layers run on a fraction of the positions and no pixel is averaged away.

    Parameters
    ----------
    spec
        The architecture.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.unshuffle = spec.unshuffle
        self.clip = spec.clip
        self.body = _Body(spec, n_pixels=spec.unshuffle**2)

    def forward(self, contrast: torch.Tensor) -> torch.Tensor:
        """Compute the logit of artifact for fields whose sides are multiples of the total stride."""
        logit = self.body(contrast.clamp(-self.clip, self.clip), self.unshuffle)
        return functional.pixel_shuffle(logit, self.unshuffle)


class _Body(nn.Module):
    """Five levels, down and up again."""

    def __init__(self, spec: UNetSpec, n_pixels: int) -> None:
        super().__init__()
        common: dict[str, Any] = {
            "act": ("LeakyReLU", {"negative_slope": spec.negative_slope, "inplace": True}),
            # Not instance norm: its statistics would differ between a tile and the whole field.
            "norm": ("batch", {}) if spec.norm == "batch" else None,
            "bias": True,
        }
        self.stages: nn.Sequential | None = None
        if isinstance(spec.encoder, str):
            self.stages = build_classifier(ResNetSpec(name=spec.encoder, last_stage="layer4")).stages
            channels = _count_channels(self.stages)
        else:
            channels = list(spec.encoder)
            self.conv_0 = TwoConv(2, n_pixels, channels[0], **common)
            for level, (finer, coarser) in enumerate(pairwise(channels), start=1):
                self.add_module(f"down_{level}", Down(2, finer, coarser, **common))
        below = channels[-1]
        for level, skip, above in zip(_UPWARDS, channels[-2::-1], spec.decoder, strict=True):
            halves = level > 1 and above < below
            self.add_module(f"upcat_{level}", UpCat(2, below, skip, above, upsample="deconv", halves=halves, **common))
            below = above
        self.final_conv = nn.Conv2d(below, n_pixels, kernel_size=1)

    def forward(self, contrast: torch.Tensor, unshuffle: int) -> torch.Tensor:
        levels = self._encode(contrast, unshuffle)
        x = levels.pop()
        for level in _UPWARDS:
            x = self.get_submodule(f"upcat_{level}")(x, levels.pop())
        logit: torch.Tensor = self.final_conv(x)
        return logit

    def _encode(self, contrast: torch.Tensor, unshuffle: int) -> list[torch.Tensor]:
        if self.stages is None:
            levels = [self.conv_0(functional.pixel_unshuffle(contrast, unshuffle))]
            for level in reversed(_UPWARDS):
                levels.append(self.get_submodule(f"down_{level}")(levels[-1]))
            return levels
        levels, x = [], contrast
        for name, stage in self.stages.named_children():
            x = stage(x)
            if name in _RESNET_LEVELS:
                levels.append(x)
        return levels


def _count_channels(stages: nn.Sequential) -> list[int]:
    """Channels of the levels of a ResNet."""
    found = []
    with torch.no_grad():
        x = torch.zeros(1, 1, 64, 64)
        for name, stage in stages.eval().named_children():
            x = stage(x)
            if name in _RESNET_LEVELS:
                found.append(x.shape[1])
    stages.train()
    return found


def build_unet(spec: UNetSpec) -> ArtifactUNet:
    """Build the network with random weights (He), and a bias that expects artifacts to be rare.

    Parameters
    ----------
    spec
        The architecture.

    Returns
    -------
    ArtifactUNet
        In training mode.
    """
    network = ArtifactUNet(spec)
    for name, module in network.body.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not name.startswith("stages."):
            nn.init.kaiming_normal_(module.weight, a=spec.negative_slope, nonlinearity="leaky_relu")
    final = network.body.final_conv
    final.bias = nn.Parameter(torch.full((final.out_channels,), _RARE))
    return network

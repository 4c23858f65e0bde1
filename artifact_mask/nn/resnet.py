"""Build the classifier that tells tiles with artifacts from clean ones: a ResNet cut after one of its stages."""

import torch
import torchvision
from torch import nn

from artifact_mask.nn.model_card import ResNetSpec

CLEAN, ARTIFACT = 0, 1
"""Classes, in the order of the logits."""

_STEM = ("conv1", "bn1", "relu", "maxpool")
_STAGES = ("layer1", "layer2", "layer3", "layer4")


class ArtifactResNet(nn.Module):
    """The first stages of a ResNet: ``(n, 1, y, x)`` contrast -> ``(n, 2)`` logits of clean and artifact.

    Parameters
    ----------
    spec
        The architecture.

    Attributes
    ----------
    stages
        Stem and stages by torchvision's names; the last one's maps are what Score-CAM weighs.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.clip = spec.clip
        whole = getattr(torchvision.models, spec.name)(weights=None)
        whole.conv1 = nn.Conv2d(1, whole.conv1.out_channels, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(whole.conv1.weight, mode="fan_out", nonlinearity="relu")
        names = _STEM + _STAGES[: _STAGES.index(spec.last_stage) + 1]
        self.stages = nn.Sequential()
        for name in names:
            self.stages.add_module(name, getattr(whole, name))
        self.fc = nn.Linear(self._count_maps(), 2)

    def forward(self, contrast: torch.Tensor) -> torch.Tensor:
        """Compute the logits of tiles of any size."""
        return self.judge(self.stages(contrast.clamp(-self.clip, self.clip)))

    def judge(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)`` from the last stage's maps ``(n, k, y, x)``."""
        logits: torch.Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits

    def _count_maps(self) -> int:
        last = [module for module in self.stages.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        return last.num_features


def build_classifier(spec: ResNetSpec) -> ArtifactResNet:
    """Build the network with random weights.

    Parameters
    ----------
    spec
        The architecture.

    Returns
    -------
    ArtifactResNet
        In training mode.
    """
    return ArtifactResNet(spec)

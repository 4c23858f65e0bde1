"""What the shell completes after options that take one of a few words.

These are copies, so that completing does not wait for the configurations to be imported; a test compares them.
"""

from collections.abc import Callable, Sequence

CLUSTERS = ("local", "cuda", "slurm", "pbs", "sge", "lsf", "ssh", "kubernetes")
CUTS = ("otsu",)
ENCODER_STARTS = ("scratch", "imagenet")
EXPORT_FORMATS = ("cellprofiler", "ome-tiff", "zarr", "geojson", "tables")
FILLS = ("median", "background", "inpaint", "nan")
FLAT_FIELDS = ("none", "harmony")
HARMONIES = ("v4", "v5", "v6", "v7", "columbus")
ILLUMINATION_METHODS = ("retrospective", "harmony", "reference")
ILLUMINATION_USES = ("stored", "none")
LABELS = ("artifacts", "weak", "stain", "corrected")
NGFF_VERSIONS = ("0.5", "0.4")
REFINEMENTS = ("edges", "darkness", "edges-and-darkness", "none", "published")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
RESNET_STAGES = ("layer2", "layer3", "layer4")
SHADINGS = ("field", "plate")
SHIPPED_UNETS = ("supervised", "weak")
STAIN_SCOPES = ("plate", "field")
STAIN_THRESHOLDS = ("otsu", "triangle", "controls")
UNET_PRESETS = ("light", "wide", "published", "resnet18", "resnet34", "resnet50")
WEIGHTS = ("probability", "softmax-logit")


def one_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Make the function that Typer asks which words begin like what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete

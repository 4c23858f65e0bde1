"""artmask: find artifacts in high-content screening images without drawing a pixel."""

__version__ = "0.1.0"

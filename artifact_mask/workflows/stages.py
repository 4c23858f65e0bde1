"""The stages that a plate goes through."""

STAGES = ("ingest", "label", "run", "cells", "stain")
"""In the order in which tables show what they found. Each depends on the ingest."""

AFTER_RUN = ("cells", "stain")
"""Stages that depend on what `run` has found, too."""

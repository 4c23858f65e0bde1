"""The stages that a plate goes through."""

STAGES = ("ingest", "label", "run")
"""In the order in which tables show what they found. Each depends on the ingest alone."""

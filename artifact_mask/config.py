"""Configurations: one frozen model a command, the same for the command line, a YAML file and Python."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configurations and metadata: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

"""The `artmask` command."""

"""Errors that artmask raises on purpose; each says what was found, what was expected and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class ArtmaskError(Exception):
    """Base of every error that artmask raises on purpose. The command line prints it and exits with 1."""


class ConfigError(ArtmaskError, ValueError):
    """A configuration that cannot be meant: a misspelt key, a value out of range. Exit code 2."""


class ExportError(ArtmaskError, ValueError):
    """A folder that is not a readable Harmony export."""


class ImageError(ArtmaskError, ValueError):
    """An image file that is missing, damaged, or not what its index promises."""


class PlateError(ArtmaskError, ValueError):
    """A plate store that is missing, foreign, or lacks what a command needs."""


class ModelError(ArtmaskError, ValueError):
    """A model file that is not one, or does not fit the data."""


class StorageError(ArtmaskError, OSError):
    """The disk is full, or refuses to be written."""


class LeaseError(ArtmaskError):
    """A plate that another run is working on."""


class ClusterError(ArtmaskError):
    """A Dask cluster that cannot be started, reached, or was lost."""


def did_you_mean(found: object, valid: Iterable[object]) -> str:
    """Suggest the valid value that comes nearest to what was found, as a sentence for an error's message.

    Returns
    -------
    str
        Empty where none is near; else it begins with a space.

    Examples
    --------
    >>> did_you_mean("medain", ["median", "background"])
    " Did you mean 'median'?"
    >>> did_you_mean("nothing", ["median", "background"])
    ''
    """
    by_case = {str(value).casefold(): value for value in valid}
    near = get_close_matches(str(found).casefold(), by_case, n=1)
    return f" Did you mean {by_case[near[0]]!r}?" if near else ""

"""Try again what a network or a file system may have refused for a moment only."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

PAUSES_S = (0.2, 1.0, 4.0)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the system that no other attempt, and no other unit, would be spared."""
_FINAL = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_OF_NETWORKS = {
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.FlexibleChecksumError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.parsers.ResponseParserError",
}
"""What libraries for object stores raise, with their subclasses; by name, since the libraries need not be there."""


def retry(call: Callable[[], Result]) -> Result:
    """Call a function; again after a pause, up to three times, where its error may be over by then.

    Notes
    -----
    An error of input or output may be over, but for those that say what is there and what is allowed, a full disk, and
    the errors of artmask, which are about contents.
    """
    for pause_s in PAUSES_S:
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(pause_s)
    return call()


def may_pass(error: Exception) -> bool:
    """Return whether an error may be over at another attempt: a file system or a network that did not do its work."""
    if type(error).__module__.startswith("artifact_mask."):
        return False
    if isinstance(error, OSError):
        return not isinstance(error, _FINAL) and error.errno not in FULL_DISK
    return any(f"{kind.__module__}.{kind.__name__}" in _OF_NETWORKS for kind in type(error).__mro__)

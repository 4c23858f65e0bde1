"""`campaign.json`: which plates a campaign has, so that later commands need only its folder."""

import json
from collections.abc import Iterable
from typing import Any

from artifact_mask.errors import PlateError
from artifact_mask.io.files import write_atomically
from artifact_mask.location import Location, read_bytes

CAMPAIGN_FILE = "campaign.json"
_VERSION = 1


def list_plates(folder: Location) -> list[str]:
    """Names of the stores that a campaign's file lists; none where there is no such file.

    Raises
    ------
    PlateError
        If the file is damaged.
    """
    return [entry["store"] for entry in _read(folder)]


def add_plates(folder: Location, plates: Iterable[dict[str, Any]]) -> None:
    """List plates in a campaign's file, beside those that are listed already.

    Parameters
    ----------
    folder
        Of the campaign.
    plates
        For each its ``store`` (name in the folder), and what people want to know of it.

    Raises
    ------
    PlateError
        If the file is damaged.
    """
    listed = {entry["store"]: entry for entry in _read(folder)}
    merged = listed | {plate["store"]: plate for plate in plates}
    if merged != listed:
        document = {"artmask_campaign": _VERSION, "plates": [merged[store] for store in sorted(merged)]}
        write_atomically(folder / CAMPAIGN_FILE, json.dumps(document, indent=1).encode())


def _read(folder: Location) -> list[dict[str, Any]]:
    file = folder / CAMPAIGN_FILE
    try:
        document = json.loads(read_bytes(file))
        plates: list[dict[str, Any]] = document["plates"]
        wrong = [plate["store"] for plate in plates if "/" in plate["store"] or "\\" in plate["store"]]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise PlateError(f"{file} is damaged ({error!r}). Remove it and run `artmask ingest` again.") from error
    if wrong:
        raise PlateError(f"{file} names {wrong[0]!r}, which is not in its folder. Name plates that lie beside it.")
    return plates

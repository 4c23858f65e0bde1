"""Which measurements make which plate, and what its store is called."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from artifact_mask.errors import ExportError
from artifact_mask.io.operetta_folder import Found, find_measurements
from artifact_mask.location import Location


@dataclass
class PlatePlan:
    """Plates to ingest.

    Attributes
    ----------
    plates
        Measurements of each, by the store that it becomes.
    refused
        By folder, why a measurement is left out.
    """

    plates: dict[Location, list[Found]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def plan_plates(exports: Iterable[Location], dest: Location) -> PlatePlan:
    """Find all measurements and give each plate its store.

    Parameters
    ----------
    exports
        Folders to search.
    dest
        Store of the only plate (``*.zarr``), or folder for a store a plate.

    Raises
    ------
    ExportError
        If a folder holds no measurement, none can be read, or there are several plates for one store.
    """
    plan = PlatePlan()
    measurements: dict[str, Found] = {}
    for place in exports:
        found, problems = find_measurements(place)
        plan.refused |= problems
        measurements |= {str(one.index or one.images): one for one in found}
    by_plate = _by_plate(measurements.values(), plan.refused)
    if dest.name.endswith(".zarr"):
        if len(by_plate) > 1:
            names = ", ".join(sorted(group[0].plate_name for group in by_plate))
            raise ExportError(
                f"{len(by_plate)} plates were found ({names}), for which {dest} is one store. Give a folder."
            )
        plan.plates = {dest: by_plate[0]} if by_plate else {}
    else:
        plan.plates = _name_stores(by_plate, dest, plan.refused)
    if not plan.plates:
        raise ExportError("\n".join(plan.refused.values()))
    return plan


def describe_plate(store: Location, measurements: Iterable[Found]) -> dict[str, Any]:
    """Describe a plate for a campaign's file."""
    members = sorted(measurements, key=lambda one: one.began)
    return {
        "store": store.name,
        "plate": members[0].plate_name,
        "measurements": [
            {
                "measurement_id": one.head.measurement_id if one.head else "",
                "started": one.head.started if one.head else "",
                "export": str(one.folder),
            }
            for one in members
        ],
    }


def _by_plate(measurements: Iterable[Found], refused: dict[str, str]) -> list[list[Found]]:
    """Put measurements of one plate together: those whose indexes name the same barcode, or name, and size."""
    groups: dict[object, list[Found]] = defaultdict(list)
    for one in measurements:
        # Folders without an index may have the same name and be of different plates.
        key = (one.plate_name, one.head.plate_size) if one.head else str(one.folder)
        known = next((other for other in groups[key] if _is_same(one, other)), None)
        if known is None:
            groups[key].append(one)
        else:
            refused[str(one.folder)] = (
                f"{one.folder} is a second copy of the measurement in {known.folder}, which is taken. "
                "Remove one of them."
            )
    return list(groups.values())


def _is_same(one: Found, other: Found) -> bool:
    return bool(one.head and other.head and one.head.measurement_id) and one.head == other.head


def _name_stores(
    by_plate: Iterable[list[Found]], dest: Location, refused: dict[str, str]
) -> dict[Location, list[Found]]:
    by_name: dict[str, list[list[Found]]] = defaultdict(list)
    for group in by_plate:
        # Case is no difference on some file systems.
        by_name[_file_name(group[0].plate_name).casefold()].append(group)
    plates = {}
    for groups in by_name.values():
        if len(groups) == 1:
            plates[dest / f"{_file_name(groups[0][0].plate_name)}.zarr"] = groups[0]
            continue
        folders = ", ".join(str(one.folder) for group in groups for one in group)
        for group in groups:
            for one in group:
                refused[str(one.folder)] = (
                    f"{len(groups)} plates would all be called {_file_name(one.plate_name)}.zarr: {folders}. "
                    "Ingest each into a store of its own: artmask ingest EXPORT NAME.zarr"
                )
    return plates


def _file_name(plate: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", plate).strip("._") or "plate"

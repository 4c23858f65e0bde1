"""Group the images of a measurement into wells and fields, and tell where and when each was taken."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from artifact_mask.io.harmony_index import Record
from artifact_mask.metadata import (
    Acquisition,
    Channel,
    Field,
    FieldKey,
    PlaneIndex,
    Well,
    seconds_since_1970,
    well_path,
)

_N_STACKS = 99
"""Stacks whose steps are looked at: all have the same."""


class Source(NamedTuple):
    """Where the pixels of a plane are.

    Attributes
    ----------
    url
        File, relative to the folder of the images.
    page
        Page of a file that has several; None for one of a single page.
    problem
        Why it cannot be told; empty if it can.
    """

    url: str
    page: int | None = None
    problem: str = ""


Sources = dict[FieldKey, dict[PlaneIndex, Source]]


def assemble_fields(
    records: Sequence[Record],
    described: Acquisition,
    channels: Mapping[int, Channel],
    layout: Mapping[tuple[int, int], Mapping[str, str | float]],
) -> tuple[Acquisition, Sources]:
    """Group records into wells and fields; every ID becomes its rank among the measurement's.

    Parameters
    ----------
    records
        Images, in any order.
    described
        What else is known of the acquisition; its shape tells ``(y, x)`` alone.
    channels
        By the microscope's number.
    layout
        Of each well, by ``(row, column)``.

    Returns
    -------
    Acquisition
        With its wells, the order of its channels, and its steps in z and time.
    Sources
        Where the planes are. A plane of which records contradict each other has a problem instead.
    """
    t_of = _ranks(record.timepoint_id for record in records)
    z_of = _ranks(record.plane_id for record in records)
    c_of = _ranks(channels)
    index_of = _ranks(record.field_id for record in records)
    taken = _planes_of_images(records)
    by_field: dict[tuple[int, int, int], dict[PlaneIndex, Record]] = defaultdict(dict)
    sources: Sources = {}
    for record in records:
        key = well_path(record.row, record.column), index_of[record.field_id]
        plane = (t_of[record.timepoint_id], c_of[record.channel_id], z_of[record.plane_id])
        of_field = sources.setdefault(key, {})
        source = Source(record.url, record.page)
        if source.url and len(taken[source.url, source.page]) > 1:
            source = Source(
                "", problem=f"the index names {source.url} for {len(taken[source.url, source.page])} planes"
            )
        known = of_field.get(plane)
        if known is not None and known != source:
            names = " and ".join(s.url or "none" for s in (known, source))
            source = Source("", problem=known.problem or f"the index lists two images for this plane: {names}")
        of_field[plane] = source
        by_field[record.row, record.column, record.field_id].setdefault(plane, record)
    started = seconds_since_1970(described.started)
    fields: dict[tuple[int, int], list[Field]] = defaultdict(list)
    for (row, column, field_id), planes in sorted(by_field.items()):
        first = planes[min(planes)]
        fields[row, column].append(
            Field(
                index_of[field_id],
                field_id,
                # Harmony's y grows upwards, an image's downwards.
                y_um=0.0 - _to_um(first.y_m),
                x_um=_to_um(first.x_m),
                z_um=min(_to_um(record.z_m) for plane, record in planes.items() if plane[:2] == min(planes)[:2]),
                times_s=_times(planes, len(t_of), started),
            )
        )
    acquisition = replace(
        described,
        shape=(len(t_of), len(c_of), len(z_of), *described.shape[-2:]),
        z_step_um=_z_step_um(records, z_of),
        t_step_s=_t_step_s(field for of_well in fields.values() for field in of_well),
        channels=tuple(channels[channel_id] for channel_id in c_of),
        wells=tuple(
            Well(row, column, tuple(of_well), layout.get((row, column), {}))
            for (row, column), of_well in sorted(fields.items())
        ),
    )
    return acquisition, {key: dict(sorted(planes.items())) for key, planes in sources.items()}


def _planes_of_images(records: Iterable[Record]) -> dict[tuple[str, int | None], set[tuple[int, ...]]]:
    """Planes that each image is named for: more than one would make one of them a copy of another."""
    planes: dict[tuple[str, int | None], set[tuple[int, ...]]] = defaultdict(set)
    for record in records:
        planes[record.url, record.page].add(record[:6])
    return planes


def _ranks(values: Iterable[int]) -> dict[int, int]:
    return {value: rank for rank, value in enumerate(sorted(set(values)))}


def _to_um(length_m: float) -> float:
    """Micrometre, rounded to a picometre: 2e-05 m is 20 um, not 20.000000000000004."""
    return round(length_m * 1e6, 6)


def _z_step_um(records: Iterable[Record], z_of: Mapping[int, int]) -> float:
    """Median distance of neighbouring planes, each in one channel: channels may be focused at different heights."""
    if len(z_of) < 2:
        return 1.0
    heights: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for record in records:
        key = (record.row, record.column, record.field_id, record.timepoint_id, record.channel_id)
        heights[key][z_of[record.plane_id]] = record.z_m
    steps = [
        abs(_to_um(stack[max(stack)] - stack[min(stack)])) / (max(stack) - min(stack))
        for stack in islice((stack for stack in heights.values() if len(stack) > 1), _N_STACKS)
    ]
    return (statistics.median(steps) if steps else 0.0) or 1.0


def _times(planes: Mapping[PlaneIndex, Record], n_t: int, started: float | None) -> tuple[float, ...]:
    """Seconds from the start of the measurement to the first plane of each timepoint; empty if one is not known."""
    if started is None:
        return ()
    times: dict[int, float] = {}
    for (t, _, _), record in planes.items():
        taken = seconds_since_1970(record.time)
        if taken is not None:
            times[t] = min(times.get(t, taken), taken)
    return tuple(round(times[t] - started, 3) for t in range(n_t)) if len(times) == n_t else ()


def _t_step_s(fields: Iterable[Field]) -> float:
    """Median time between timepoints."""
    steps = [
        (field.times_s[-1] - field.times_s[0]) / (len(field.times_s) - 1)
        for field in islice((field for field in fields if len(field.times_s) > 1), _N_STACKS)
    ]
    step = statistics.median(steps) if steps else 0.0
    return step if step > 0 else 1.0

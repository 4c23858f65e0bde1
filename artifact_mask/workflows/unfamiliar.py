"""What is told of a plate that does not look like the fields that a model was trained on."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from artifact_mask.engine.journal import FieldRecord
from artifact_mask.kernels.familiarity import TEXTURE, Unfamiliar, find_unfamiliar
from artifact_mask.metadata import FieldKey, Plate

_WORDS = {
    "contrast_p01": "darkest pixels (contrast_p01)",
    "contrast_p99": "brightest pixels (contrast_p99)",
    "contrast_asymmetry": "bright against dark (contrast_asymmetry)",
    "roughness": "noise (roughness)",
    "flat_fraction": "share of equal neighbours (flat_fraction)",
    "sharpness": "sharpness (sharpness)",
    "artifact_fraction": "share of artifact (artifact_fraction)",
}
_MAY_BE = {
    "contrast_p99": "another channel than brightfield, or clipped",
    "contrast_asymmetry": "inverted, or another channel than brightfield",
    "flat_fraction": "clipped or 8-bit pixels",
    "sharpness": "out of focus",
}
FEWEST_FIELDS = 4
"""Fewer fields say too little about a plate."""
_MAX_WELLS = 12
_STICKS_OUT, _LEAST = 5.0, 0.05
"""A well is named from so many times the largest share of artifact that was seen, and from that share on."""


def describe_unfamiliar(
    plate: Plate,
    records: Mapping[FieldKey, FieldRecord],
    seen: Mapping[str, tuple[float, float]],
    *,
    resampled: bool = False,
) -> list[str]:
    """Warn of a plate that is unlike the training fields, and of single wells that stick out.

    Parameters
    ----------
    plate
        Its content.
    records
        Of `run`; rows that lack the statistics are passed over.
    seen
        Of the model's card.
    resampled
        Whether the plate has another pixel size than the model, and texture can't be compared.

    Returns
    -------
    list[str]
        A message each; empty if all is familiar.
    """
    comparable = {name: ends for name, ends in seen.items() if not (resampled and name in TEXTURE)}
    rows = [record.row for record in records.values() if not record.failed]
    measured = {name: [row[name] for row in rows if name in row] for name in comparable}
    n_fields = max(map(len, measured.values()), default=0)
    unfamiliar = find_unfamiliar(measured, comparable) if n_fields >= FEWEST_FIELDS else []
    warnings = [_warn(plate.name, n_fields, unfamiliar)] if unfamiliar else []
    if all(found.name != "artifact_fraction" for found in unfamiliar) and "artifact_fraction" in seen:
        warnings += _warn_of_wells(plate, records, seen["artifact_fraction"][1])
    return warnings


def _warn(plate: str, n_fields: int, unfamiliar: Sequence[Unfamiliar]) -> str:
    found = "; ".join(
        f"{_WORDS[name]}: {value:.3g}, seen {low:.3g} to {high:.3g}"
        + (f" ({_MAY_BE[name]}?)" if name in _MAY_BE else "")
        for name, value, low, high in unfamiliar
    )
    return (
        f"Warning: {plate} is unlike the fields that the model was trained on: in the median of {n_fields} fields, "
        f"{found}. Look at labels/artifacts before you trust them; correct some of them (`artmask correct`) and train "
        "a model of your own (`artmask train unet`), or name another --channel or --model."
    )


def _warn_of_wells(plate: Plate, records: Mapping[FieldKey, FieldRecord], most: float) -> list[str]:
    limit = max(_STICKS_OUT * most, _LEAST)
    of_well = defaultdict(list)
    for (path, _), record in records.items():
        fraction = record.row.get("artifact_fraction", math.nan)
        if not math.isnan(fraction):
            of_well[path].append(fraction)
    names = [well.name for well in plate.wells if (of := of_well[well.path]) and sum(of) / len(of) > limit]
    if not names:
        return []
    more = f" and {len(names) - _MAX_WELLS} more" if len(names) > _MAX_WELLS else ""
    wells = f"well{'s' if len(names) > 1 else ''} {', '.join(names[:_MAX_WELLS])}{more}"
    return [
        f"Warning: {plate.name}: in {wells} artifacts cover more than {limit:.0%}; the training fields had "
        f"{most:.1%} at most. Look at the labels of these wells before you use their numbers."
    ]

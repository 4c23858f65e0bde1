"""Which wells are controls: named, or told from the plate's layout."""

import re
from collections.abc import Iterable, Sequence

from artifact_mask.errors import ConfigError, did_you_mean
from artifact_mask.metadata import Plate, Well

_WELL = re.compile(r"([A-Z]{1,2})0*(\d{1,2})", re.IGNORECASE)


def find_controls(plate: Plate, selection: Sequence[str]) -> frozenset[str]:
    """Names of the wells that a selection speaks of.

    Parameters
    ----------
    plate
        Whose wells.
    selection
        Names of wells such as ``A01``, or ``LAYER=VALUE`` such as ``Compound=DMSO``: what the plate's layout says.
        A well need fit one of these only.

    Raises
    ------
    ConfigError
        If one of these fits no well; the message says what there is.

    Examples
    --------
    >>> wells = (Well(1, 1, (), {"Compound": "DMSO", "Concentration": 0.0}), Well(1, 2, (), {"Compound": "X"}))
    >>> from artifact_mask.metadata import Acquisition
    >>> acquisition = Acquisition("", (1, 1, 1, 8, 8), 0.3, 1.0, (), wells)
    >>> sorted(find_controls(Plate("P", 8, 12, (acquisition,)), ["compound=dmso", "a2"]))
    ['A01', 'A02']
    """
    found: set[str] = set()
    for item in selection:
        wells = _fitting(plate.wells, item)
        if not wells:
            raise ConfigError(f"{plate.name} has no well for the controls {item!r}. {_hint(plate.wells, item)}")
        found.update(wells)
    return frozenset(found)


def find_control_paths(plate: Plate, selection: Sequence[str]) -> frozenset[str]:
    """Paths of the wells that a selection speaks of; see :func:`find_controls`."""
    names = find_controls(plate, selection)
    return frozenset(well.path for well in plate.wells if well.name in names)


def _fitting(wells: Iterable[Well], item: str) -> list[str]:
    layer, equals, value = (part.strip() for part in item.partition("="))
    if equals:
        return [well.name for well in wells if any(_same(v, value) for v in _layer(well, layer))]
    match = _WELL.fullmatch(layer)
    name = f"{match[1].upper()}{int(match[2]):02d}" if match else layer
    return [well.name for well in wells if well.name == name]


def _layer(well: Well, name: str) -> list[str | float]:
    """Values of a layer, whose name may be written in another case."""
    return [value for layer, value in well.layout.items() if layer.casefold() == name.casefold()]


def _same(found: str | float, wanted: str) -> bool:
    if str(found).casefold() == wanted.casefold():
        return True
    try:
        return float(found) == float(wanted)
    except ValueError:
        return False


def _hint(wells: Sequence[Well], item: str) -> str:
    layer, equals, value = (part.strip() for part in item.partition("="))
    if not equals:
        names = [well.name for well in wells]
        return f"Its wells are {names[0]} to {names[-1]}; name one, or what the layout says, such as Compound=DMSO."
    layers = list(dict.fromkeys(name for well in wells for name in well.layout))
    values = list(dict.fromkeys(str(v) for well in wells for v in _layer(well, layer)))
    if not values:
        return f"Its layout has {', '.join(layers) or 'no layers: name wells instead'}.{did_you_mean(layer, layers)}"
    listed = ", ".join(values[:8]) + (" ..." if len(values) > 8 else "")
    return f"Values of {layer} are {listed}.{did_you_mean(value, values)}"

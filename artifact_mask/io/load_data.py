"""The list of images that CellProfiler's module LoadData reads."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def column_names(names: Sequence[str], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """Make names fit for columns of CellProfiler, which knows letters, digits and underscores.

    Parameters
    ----------
    names
        Of channels, or of layers of the layout.
    taken
        What none may be called.

    Returns
    -------
    dict[str, str]
        By name; no two are alike, whatever their case, and each begins with a letter.

    Examples
    --------
    >>> column_names(["HOECHST 33342", "405ex", "DAPI (1)", "DAPI [1]"])
    {'HOECHST 33342': 'HOECHST_33342', '405ex': 'C405ex', 'DAPI (1)': 'DAPI_1', 'DAPI [1]': 'DAPI_1_2'}
    """
    used = {name.lower() for name in taken}
    found = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        plain = plain if plain[:1].isalpha() else f"C{plain}"
        unique, number = plain, 2
        while unique.lower() in used:
            unique, number = f"{plain}_{number}", number + 1
        used.add(unique.lower())
        found[name] = unique
    return found


def encode_load_data(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode the list, a line a plane; what a row lacks is empty."""
    listed = list(rows)
    columns = list(dict.fromkeys(name for row in listed for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue().encode()

"""The pixels of labelled tiles: cut, brought to one size, and kept in memory as far as it reaches."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from artifact_mask.engine.retry import retry
from artifact_mask.errors import ConfigError
from artifact_mask.io.label_list import Box
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.workflows.labelled_fields import LabelledField
from artifact_mask.workflows.planes import resample, scale_between, scaled_shape
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.training import read_in_order

MEMORY_BYTES = 4_000_000_000
"""Of pixels that are kept; what goes beyond it is read whenever it is needed."""
SIZE_TOLERANCE = 0.12
"""Share of a tile's side that is cut off or mirrored to bring it to the common size."""

_MOST_CONTRAST = 100.0
"""Beyond it half precision could overflow; networks look no further than 5."""


@dataclass(frozen=True)
class TileFormat:
    """What all tiles are brought to.

    Attributes
    ----------
    tile_px
        Side in pixels.
    pixel_size_um
        Side of a pixel in micrometre.
    first_um, scale
        Pixel size of the first field, which others are brought to, and what it is then resampled by.
    """

    tile_px: int
    pixel_size_um: float
    first_um: float
    scale: float

    def scale_of(self, field: LabelledField) -> float:
        """Factor by which a field has more pixels a side in the end."""
        return scale_between(field.pixel_size_um, self.first_um) * self.scale


class LabelledTiles(Sequence[NDArray[np.float16]]):
    """Tiles ``(y, x)`` of contrast, in half precision: from memory, or read again from where they lie.

    Parameters
    ----------
    fields
        Those that can be read.
    kept
        Tiles of fields that are in memory, by the number of the field.
    form
        What they are brought to.
    places
        Numbers of field and tile of each element.

    Attributes
    ----------
    labels
        ``(n,)``, 0 for clean and 1 for artifact.
    """

    def __init__(
        self,
        fields: list[LabelledField],
        kept: dict[int, list[NDArray[np.float16]]],
        form: TileFormat,
        places: list[tuple[int, int]],
    ) -> None:
        self._fields, self._kept, self._form, self._places = fields, kept, form, places
        self.labels = np.array([fields[number].labels[row] for number, row in places], np.intp)

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._places)

    def __getitem__(self, index: int) -> NDArray[np.float16]:  # type: ignore[override]  # no slices
        """Give a tile."""
        number, row = self._places[index]
        kept = self._kept.get(number)
        return kept[row] if kept is not None else _read_tiles(self._fields[number], self._form)[row]

    def source(self, index: int) -> tuple[LabelledField, Box | None]:
        """Where a tile comes from."""
        number, row = self._places[index]
        return self._fields[number], self._fields[number].boxes[row]

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Plate and well of each tile."""
        return [self._fields[number].group for number, _ in self._places]

    def part(self, chosen: NDArray[np.bool_]) -> "LabelledTiles":
        """Take some of the tiles; pixels in memory are shared."""
        places = [place for place, is_in in zip(self._places, chosen, strict=True) if is_in]
        return LabelledTiles(self._fields, self._kept, self._form, places)


def choose_format(fields: list[LabelledField], field_px: int) -> TileFormat:
    """Choose the size that all tiles are brought to: the commonest one.

    Parameters
    ----------
    fields
        With their labels.
    field_px
        Side that whole fields, and TIFFs, are averaged to if they are larger; tiles stay at full resolution.

    Raises
    ------
    ConfigError
        If a tile has another size by more than an eighth, or is too small for a network.
    """
    first_um = fields[0].pixel_size_um
    sizes = [
        scaled_shape((box.height, box.width) if box else field.shape, scale_between(field.pixel_size_um, first_um))
        for field in fields
        for box in field.boxes
    ]
    side = Counter(n for size in sizes for n in size).most_common(1)[0][0]
    is_whole = fields[0].boxes[0] is None
    scale = min(1.0, field_px / side) if is_whole else 1.0
    form = TileFormat(round(side * scale), first_um / scale, first_um, scale)
    if form.tile_px < 32:
        raise ConfigError(f"Most tiles have a side of {side} pixels; expected 32 or more. Label larger tiles.")
    names = (field.name for field in fields for _ in field.boxes)
    for name, size in zip(names, sizes, strict=True):
        if any(abs(n - side) > SIZE_TOLERANCE * side for n in size):
            raise ConfigError(
                f"{name}: the labelled image has {size[0]} x {size[1]} pixels (of {first_um:.3g} um), most others have "
                f"a side of {side}; expected one size, to within {SIZE_TOLERANCE:.0%}. Leave it out, or label places "
                "of one size."
            )
    return form


def read_labelled_tiles(
    fields: list[LabelledField], form: TileFormat, progress: Progress, *, memory_bytes: int = MEMORY_BYTES
) -> tuple[LabelledTiles, int]:
    """Read all labelled tiles once; a field that cannot be read is left out, with a note.

    Returns
    -------
    tuple[LabelledTiles, int]
        The tiles, and the checksum of their pixels.
    """
    progress.begin("read", len(fields))
    good: list[LabelledField] = []
    kept: dict[int, list[NDArray[np.float16]]] = {}
    checksum, room = 0, memory_bytes
    for field, tiles in zip(
        fields, read_in_order([partial(_read_tiles, field, form) for field in fields]), strict=True
    ):
        n_bytes = field.shape[0] * field.shape[1] * np.dtype(np.uint16).itemsize
        progress.advance(1, int(isinstance(tiles, Exception)), n_bytes)
        if isinstance(tiles, Exception):
            progress.note(f"{field.name} is left out: {tiles}")
            continue
        for tile in tiles:
            checksum = zlib.crc32(tile.tobytes(), checksum)
        room -= sum(tile.nbytes for tile in tiles)
        if room >= 0:
            kept[len(good)] = tiles
        good.append(field)
    if len(kept) < len(good):
        progress.note(f"The tiles of {len(good) - len(kept)} fields do not fit into memory; they are read when needed.")
    places = [(number, row) for number, field in enumerate(good) for row in range(len(field.labels))]
    return LabelledTiles(good, kept, form, places), checksum


def _read_tiles(field: LabelledField, form: TileFormat) -> list[NDArray[np.float16]]:
    """Read a field and cut its tiles; the background is that of the whole field."""
    pixels = retry(field.read)
    contrast = normalise_by_background(pixels, estimate_background(pixels))
    np.clip(contrast, -_MOST_CONTRAST, _MOST_CONTRAST, out=contrast)
    scale = form.scale_of(field)
    tiles = []
    for box in field.boxes:
        tile = contrast if box is None else contrast[box.y0 : box.y0 + box.height, box.x0 : box.x0 + box.width]
        resampled = resample(tile, scaled_shape(tile.shape, scale)) if scale != 1 else tile
        tiles.append(fit_to_side(resampled, form.tile_px).astype(np.float16))
    return tiles


def fit_to_side(tile: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Bring a tile ``(y, x)`` to a square of another size: cut off at its borders, or mirrored there, on both sides.

    Examples
    --------
    >>> fit_to_side(np.arange(8, dtype=np.float32).reshape(2, 4), 3)
    array([[0., 1., 2.],
           [4., 5., 6.],
           [0., 1., 2.]], dtype=float32)
    """
    before = [max(0, n - side) // 2 for n in tile.shape]
    cut = tile[before[0] : before[0] + side, before[1] : before[1] + side]
    missing = [side - n for n in cut.shape]
    return np.pad(cut, [(n // 2, n - n // 2) for n in missing], mode="reflect")

"""The fields that a U-Net learns from: read, brought to one pixel size, and kept in memory as far as it reaches."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact_mask.engine.retry import retry
from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.label_list import LabelledPlace, read_label_list
from artifact_mask.kernels.crops import TrainingField, prepare_field
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE, TruthField
from artifact_mask.workflows.planes import resample, scale_between, scaled_shape
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.segmented_fields import SegmentedField
from artifact_mask.workflows.training import read_in_order

MEMORY_BYTES = 4_000_000_000
"""Of fields that are kept; what goes beyond it is read whenever it is needed."""

_MOST_CONTRAST = 100.0
"""Beyond it half precision could overflow; networks look no further than 5."""


class TrainingFields(Sequence[TrainingField]):
    """Fields to learn from: from memory, or read again from where they lie.

    Parameters
    ----------
    fields
        Those that can be read.
    kept
        Fields that are in memory, by number.
    pixel_size_um
        What all are brought to.
    cleaned
        Truths of an earlier round in the place of the fields' own, by number.
    """

    def __init__(
        self,
        fields: Sequence[SegmentedField],
        kept: Mapping[int, TrainingField],
        pixel_size_um: float,
        cleaned: "Mapping[int, PackedTruth] | None" = None,
    ) -> None:
        self.sources, self._kept, self._pixel_size_um = fields, kept, pixel_size_um
        self._cleaned = cleaned or {}

    def __len__(self) -> int:
        """Count the fields."""
        return len(self.sources)

    def __getitem__(self, index: int) -> TrainingField:  # type: ignore[override]  # no slices
        """Give a field."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        contrast, truth = read_truth_field(self.sources[index], self._pixel_size_um)
        cleaned = self._cleaned.get(index)
        return prepare_field(TruthField(contrast, truth if cleaned is None else cleaned.unpack()))

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Plate and well of each field."""
        return [field.group for field in self.sources]

    def part(self, chosen: NDArray[np.bool_]) -> "TrainingFields":
        """Take some of the fields; pixels in memory are shared."""
        numbers = np.flatnonzero(chosen).tolist()
        kept = {new: self._kept[old] for new, old in enumerate(numbers) if old in self._kept}
        return TrainingFields([self.sources[number] for number in numbers], kept, self._pixel_size_um)

    def with_truths(self, cleaned: "Mapping[int, PackedTruth]") -> "TrainingFields":
        """Replace the truth of some fields; what was replaced before stays so."""
        kept = {
            number: prepare_field(TruthField(field.truth_field.contrast, cleaned[number].unpack()))
            if number in cleaned
            else field
            for number, field in self._kept.items()
        }
        return TrainingFields(self.sources, kept, self._pixel_size_um, {**self._cleaned, **cleaned})


@dataclass(frozen=True)
class PackedTruth:
    """A truth ``(y, x)`` uint8 in little memory."""

    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def pack(cls, truth: NDArray[np.uint8]) -> "PackedTruth":
        """Pack a truth."""
        return cls((truth.shape[0], truth.shape[1]), zlib.compress(truth.tobytes(), 1))

    def unpack(self) -> NDArray[np.uint8]:
        """Unpack it."""
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.shape).copy()


def read_training_fields(
    sources: Sequence[SegmentedField], pixel_size_um: float, progress: Progress, *, memory_bytes: int = MEMORY_BYTES
) -> tuple[TrainingFields, NDArray[np.bool_], int]:
    """Read all fields once; one that cannot be read is left out, with a note.

    Returns
    -------
    fields
        Those that could be read.
    has_artifact
        ``(n,)``, whether the truth of each has any.
    checksum
        Of all pixels and truths.
    """
    progress.begin("read", len(sources))
    good: list[SegmentedField] = []
    kept: dict[int, TrainingField] = {}
    has_artifact: list[bool] = []
    checksum, room = 0, memory_bytes
    readers = [partial(_prepare, source, pixel_size_um) for source in sources]
    for source, found in zip(sources, read_in_order(readers), strict=True):
        n_bytes = source.shape[0] * source.shape[1] * np.dtype(np.uint16).itemsize
        progress.advance(1, int(isinstance(found, Exception)), n_bytes)
        if isinstance(found, ConfigError):
            raise found  # of all fields alike
        if isinstance(found, Exception):
            progress.note(f"{source.name} is left out: {found}")
            continue
        for layer in (found.contrast, found.is_artifact, found.weight):
            checksum = zlib.crc32(np.ascontiguousarray(layer).tobytes(), checksum)
        room -= found.nbytes
        if room >= 0:
            kept[len(good)] = found
        has_artifact.append(bool(found.is_artifact.any()))
        good.append(source)
    if len(kept) < len(good):
        progress.note(f"{len(good) - len(kept)} fields do not fit into memory; they are read when needed.")
    return TrainingFields(good, kept, pixel_size_um), np.array(has_artifact, bool), checksum


def _prepare(source: SegmentedField, pixel_size_um: float) -> TrainingField:
    return prepare_field(read_truth_field(source, pixel_size_um))


def read_truth_field(source: SegmentedField, pixel_size_um: float) -> TruthField:
    """Read a field and its truth at a pixel size; the background is that of the whole field.

    Raises
    ------
    ImageError
        If image and truth differ in size.
    """
    pixels, truth = retry(source.read), retry(source.read_mask)
    if truth.shape != pixels.shape:
        raise ImageError(
            f"the truth ({source.source}) has {truth.shape[0]} x {truth.shape[1]} pixels, the image "
            f"{pixels.shape[0]} x {pixels.shape[1]}; expected the same. Export the truth at full resolution."
        )
    contrast = normalise_by_background(pixels, estimate_background(pixels))
    np.clip(contrast, -_MOST_CONTRAST, _MOST_CONTRAST, out=contrast)
    scale = scale_between(source.pixel_size_um, pixel_size_um)
    if scale == 1:
        return TruthField(contrast, truth)
    shape = scaled_shape(contrast.shape, scale)
    artifact, left_out = (resample((truth == value).astype(np.float32), shape) >= 0.5 for value in (ARTIFACT, IGNORE))
    resampled = artifact.astype(np.uint8) * np.uint8(ARTIFACT)
    resampled[left_out] = IGNORE
    return TruthField(resample(contrast, shape), resampled)


def take_at_their_word(sources: Sequence[SegmentedField], table: Path, progress: Progress) -> list[SegmentedField]:
    """Let what a person said of fields and tiles overrule their truth.

    What was called clean is background, whatever the labels say, and of what was called unsure nothing is learnt.

    Parameters
    ----------
    sources
        Fields to learn from.
    table
        Labels of `artmask label-sheet`, by the plate's name.
    progress
        Told how many fields the table speaks of.
    """
    said: dict[tuple[str, str, int], list[LabelledPlace]] = {}
    for place in read_label_list(table):
        said.setdefault((place.plate, place.well, place.field), []).append(place)
    keys = [(source.plate, source.well, source.field) for source in sources]
    n_known = sum(key in said for key in keys)
    progress.note(f"{table.name} says of {n_known} of {len(sources)} fields what is clean.")
    return [
        replace(source, read_mask=partial(_overrule, source.read_mask, said[key])) if key in said else source
        for source, key in zip(sources, keys, strict=True)
    ]


def _overrule(read_mask: Callable[[], NDArray[np.uint8]], places: Sequence[LabelledPlace]) -> NDArray[np.uint8]:
    truth = read_mask()
    for place in places:
        box = place.box
        window = np.s_[box.y0 : box.y0 + box.height, box.x0 : box.x0 + box.width] if box else np.s_[:, :]
        if place.label != "artifact":
            truth[window] = BACKGROUND if place.label == "clean" else IGNORE
    return truth

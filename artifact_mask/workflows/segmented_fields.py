"""Find the fields whose artifacts are known to the pixel: by label images of plates, or by masks beside images."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.label_images import list_labels, read_label_image
from artifact_mask.io.mask_files import list_masks, read_mask
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.io.tiff import read_tiff_plane, read_tiff_shape
from artifact_mask.io.tiff_folders import find_place, list_tiffs, parse_harmony_name
from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE
from artifact_mask.location import Location
from artifact_mask.metadata import Field, FieldKey, Plate, Well
from artifact_mask.workflows.planes import stored_flat_fields
from artifact_mask.workflows.plate_fields import PlateField, open_field
from artifact_mask.workflows.progress import Progress
from artifact_mask.workflows.training import N_THREADS

IMAGES, MASKS = "images", "masks"
"""Folders of images and of masks, of the same names."""

_MOST_LISTED = 8
_WELL_AND_FIELD = re.compile(
    r"(?:(?P<plate>.+?)_)?(?P<row>[A-Z]{1,2})(?P<column>\d{1,2})_(?P<field>\d+)(?![0-9A-Za-z]).*", re.IGNORECASE
)
_Open = Callable[[Location, Plate, FieldKey], PlateField]
_PREFERRED = re.compile(r"artifacts?$", re.IGNORECASE)


@dataclass(frozen=True)
class SegmentedField:
    """One field, or one TIFF, whose artifacts are known.

    Attributes
    ----------
    plate, well, field
        Where it is.
    file
        Name of the TIFF; empty for a field of a plate.
    source
        Where the truth comes from: name of the label image, or of the folder of masks.
    shape
        ``(y, x)`` in pixels.
    pixel_size_um
        Side of a pixel in micrometre.
    read
        Gives the pixels ``(y, x)`` uint16.
    read_mask
        Gives the truth ``(y, x)``: 0 background, 1 artifact, 255 leave out.
    """

    plate: str
    well: str
    field: int
    file: str
    source: str
    shape: tuple[int, int]
    pixel_size_um: float
    read: Callable[[], NDArray[np.uint16]]
    read_mask: Callable[[], NDArray[np.uint8]]

    @property
    def name(self) -> str:
        """What people call it."""
        return self.file or f"{self.plate} {self.well} field {self.field}"

    @property
    def group(self) -> tuple[str, str]:
        """Plate and well."""
        return self.plate, self.well


def find_segmented_fields(
    places: Sequence[Location],
    *,
    labels: Sequence[str],
    masks: Path | None,
    channel: str | None,
    pixel_size_um: float | None,
    ignore: int | None,
    progress: Progress,
) -> list[SegmentedField]:
    """Find all fields whose artifacts are known; no pixels are read.

    Parameters
    ----------
    places
        Plates, folders of plates, or folders with ``images`` and ``masks`` of the same names.
    labels
        Label images of plates; of each field the first that it has.
    masks
        Folder of masks for fields of the plates, in the place of label images; named by Harmony
        (``r02c03f01...``) or by well and index of the field (``B03_0``), after the plate's name if there are several.
    channel
        Name of the channel; the brightfield one if None.
    pixel_size_um
        Of TIFFs, in micrometre.
    ignore
        Value of the pixels to leave out, in label images and in masks.
    progress
        Is told what is left out.

    Raises
    ------
    ConfigError
        If there is no such field, or what is given is ambiguous.
    PlateError
        If a plate is not there, is not complete, or lacks the channel.
    """
    folders = [place for place in places if isinstance(place, Path) and is_image_folder(place)]
    rest = [place for place in places if place not in folders]
    if masks is not None and not rest:
        raise ConfigError(
            f"The masks in {masks} are for fields of plates, but no plate was given. Name the plate, or put the masks "
            f"of images into {folders[0] / MASKS} alone."
        )
    roots = find_plates(rest) if rest else {}
    stored = {root: read_plate(root) for root in roots}
    plates = [(root, of_root.plate) for root, of_root in stored.items()]
    illumination = {root: stored_flat_fields(root, of_root.ingest_digest) for root, of_root in stored.items()}

    def open_one(root: Location, plate: Plate, key: FieldKey) -> PlateField:
        return open_field(root, plate, key, channel, illumination=illumination[root])

    found = [field for folder in folders for field in _of_folder(folder, pixel_size_um, ignore, progress)]
    if not plates:
        return found
    if masks is not None:
        return found + _of_masks(plates, masks, open_one, ignore, progress)
    return found + _of_labels(plates, labels, open_one, ignore, progress)


def is_image_folder(place: Location) -> bool:
    """Whether a place is a folder with images and masks of them."""
    return isinstance(place, Path) and (place / IMAGES).is_dir() and (place / MASKS).is_dir()


def _of_labels(
    plates: Sequence[tuple[Location, Plate]],
    labels: Sequence[str],
    open_one: _Open,
    ignore: int | None,
    progress: Progress,
) -> list[SegmentedField]:
    """Fields with one of some label images."""
    fields: list[SegmentedField] = []
    known: Counter[str] = Counter()
    n_without = 0
    for root, plate in plates:
        keys = [(well, field) for well in plate.wells for field in well.fields]
        folders = [root / well.path / str(field.index) for well, field in keys]
        with ThreadPoolExecutor(N_THREADS) as pool:
            listed = list(pool.map(list_labels, folders))
        for (well, field), names in zip(keys, listed, strict=True):
            known.update(names)
            name = next((name for name in labels if name in names), None)
            if name is None:
                n_without += 1
                continue
            opened = open_one(root, plate, (well.path, field.index))
            read = partial(_read_label, opened, name, ignore)
            fields.append(_describe(plate, well, field, opened, name, read))
    wanted = " or ".join(labels)
    if not fields:
        exist = ", ".join(f"{name} ({n} fields)" for name, n in known.items()) or "none"
        raise ConfigError(
            f"None of {n_without} fields has a label image {wanted}; found: {exist}. Name one that exists, or write "
            "one with `artmask label` or `artmask correct`."
        )
    if n_without:
        used = ", ".join(f"{n} have {name}" for name, n in Counter(field.source for field in fields).items())
        progress.note(f"{n_without} fields have no label image {wanted} and are left out; {used}.")
    return fields


def _describe(
    plate: Plate,
    well: Well,
    field: Field,
    opened: PlateField,
    source: str,
    read_truth: Callable[[], NDArray[np.uint8]],
) -> SegmentedField:
    return SegmentedField(
        plate=plate.name,
        well=well.name,
        field=field.index,
        file="",
        source=source,
        shape=opened.shape,
        pixel_size_um=opened.pixel_size_um,
        read=opened.read,
        read_mask=read_truth,
    )


def _read_label(opened: PlateField, name: str, ignore: int | None) -> NDArray[np.uint8]:
    labels = read_label_image(opened.folder, name, opened.tz)
    if labels.shape != opened.shape:
        raise ImageError(
            f"the label image {name!r} has {labels.shape[0]} x {labels.shape[1]} pixels, the image {opened.shape[0]} x "
            f"{opened.shape[1]}; expected the same. Write it at full resolution."
        )
    return mask_of_labels(labels, ignore)


def mask_of_labels(labels: NDArray[Any], ignore: int | None) -> NDArray[np.uint8]:
    """Mask of a label image ``(y, x)``: 0 background, 1 artifact, 255 leave out.

    Examples
    --------
    >>> mask_of_labels(np.array([[0, 7, 9]]), 9).tolist()
    [[0, 1, 255]]
    """
    mask = np.where(labels != 0, np.uint8(ARTIFACT), np.uint8(BACKGROUND))
    if ignore is not None:
        mask[labels == ignore] = IGNORE
    return mask


class _Named(NamedTuple):
    """A field that a mask's name may speak of."""

    root: Location
    plate: Plate
    well: Well
    field: Field

    @property
    def key(self) -> tuple[Location, FieldKey]:
        """Where it is."""
        return self.root, (self.well.path, self.field.index)


def _of_masks(
    plates: Sequence[tuple[Location, Plate]],
    masks: Path,
    open_one: _Open,
    ignore: int | None,
    progress: Progress,
) -> list[SegmentedField]:
    """Fields with a mask in a folder."""
    named = _name_fields(plates)
    matched = match_masks(plates, masks, progress)
    if len(matched) < len(named):
        progress.note(f"{len(named) - len(matched)} of {len(named)} fields have no mask in {masks}; they are left out.")
    fields = []
    for one in named:
        path = matched.get(one.key)
        if path is not None:
            opened = open_one(one.root, one.plate, one.key[1])
            read = partial(read_mask, path, opened.shape, ignore=ignore)
            fields.append(_describe(one.plate, one.well, one.field, opened, masks.name, read))
    return fields


def _name_fields(plates: Sequence[tuple[Location, Plate]]) -> list[_Named]:
    return [_Named(root, plate, well, field) for root, plate in plates for well in plate.wells for field in well.fields]


def match_masks(
    plates: Sequence[tuple[Location, Plate]], masks: Path, progress: Progress
) -> dict[tuple[Location, FieldKey], Path]:
    """Files of a folder by the field of the plates that their names speak of.

    Raises
    ------
    ConfigError
        If none belongs to a field, one could belong to several, or several belong to one.
    """
    named = _name_fields(plates)
    matched, strangers = _match(named, list_masks(masks), masks)
    if not matched:
        example = named[0]
        raise ConfigError(
            f"No mask of {masks} belongs to a field of {', '.join(plate.name for _, plate in plates)}; found "
            f"{listed(strangers)}. Expected names such as {_harmony_name(example)} or "
            f"{example.well.name}_{example.field.index}, after the plate's name if there are several plates."
        )
    if strangers:
        progress.note(f"{len(strangers)} masks belong to no field and are left out: {listed(strangers)}.")
    return matched


def _harmony_name(named: _Named) -> str:
    return f"r{named.well.row:02d}c{named.well.column:02d}f{named.field.field_id:02d}"


def _match(
    named: Sequence[_Named], files: Mapping[str, Path], masks: Path
) -> tuple[dict[tuple[Location, FieldKey], Path], list[str]]:
    """Masks by the field that they belong to, and names of those that belong to none."""
    by_name: dict[tuple[str, str, int, bool], list[_Named]] = {}
    for one in named:
        for plate in {"", one.plate.name.casefold(), one.plate.barcode.casefold()}:
            by_name.setdefault((plate, one.well.name, one.field.field_id, True), []).append(one)
            by_name.setdefault((plate, one.well.name, one.field.index, False), []).append(one)
    of_field: dict[tuple[Location, FieldKey], list[Path]] = {}
    strangers = []
    for stem, path in files.items():
        meant = by_name.get(_parse_name(stem), [])
        if len(meant) > 1:
            names = [f"{one.plate.name}_{one.well.name}_{one.field.index}" for one in meant]
            raise ConfigError(
                f"{path.name} could belong to {len(meant)} fields. Name it by plate, well and index of the field: "
                f"{listed(names)}."
            )
        if meant:
            of_field.setdefault(meant[0].key, []).append(path)
        else:
            strangers.append(path.name)
    return {key: _only(paths, masks) for key, paths in of_field.items()}, strangers


def _parse_name(stem: str) -> tuple[str, str, int, bool]:
    """Plate, well, field, and whether the field is a FieldID, as the name of a mask says them."""
    of_harmony = parse_harmony_name(stem)
    if of_harmony:
        plate, well, field_id = of_harmony
        return plate.casefold(), well, field_id, True
    match = _WELL_AND_FIELD.fullmatch(stem)
    if not match:
        return "", "", -1, False
    well = f"{match['row'].upper()}{int(match['column']):02d}"
    return (match["plate"] or "").casefold(), well, int(match["field"]), False


def _only(paths: Sequence[Path], masks: Path) -> Path:
    """Take the mask of a field; of several, as `artmask simulate` writes them, the one that is called so."""
    chosen = [path for path in paths if _PREFERRED.search(path.stem)] if len(paths) > 1 else paths
    if len(chosen) != 1:
        raise ConfigError(
            f"{masks} has {listed([path.name for path in paths])} for one field; expected one mask. Move the others, "
            "or let the name of one end in `artifacts`."
        )
    return chosen[0]


def _of_folder(
    folder: Path, pixel_size_um: float | None, ignore: int | None, progress: Progress
) -> list[SegmentedField]:
    """Images with a mask of the same name."""
    if pixel_size_um is None:
        raise ConfigError(
            f"The TIFFs of {folder} do not say how large a pixel is. Give it with --pixel-size-um, such as 0.3."
        )
    images = {path.stem: path for path in list_tiffs(folder / IMAGES)}
    masks = list_masks(folder / MASKS)
    pairs = [(images[stem], masks[stem]) for stem in images if stem in masks]
    if not pairs:
        raise ConfigError(
            f"No image of {folder / IMAGES} has a mask of its name in {folder / MASKS}; found the images "
            f"{listed(list(images))} and the masks {listed(list(masks))}. Give them equal names."
        )
    for what, names in (("images have no mask", images.keys() - masks), ("masks have no image", masks.keys() - images)):
        if names:
            progress.note(f"{folder}: {len(names)} {what} and are left out: {listed(sorted(names))}.")
    with ThreadPoolExecutor(N_THREADS) as pool:
        shapes = list(pool.map(_shape_or_error, [image for image, _ in pairs]))
    fields = []
    for (image, mask), shape in zip(pairs, shapes, strict=True):
        if isinstance(shape, str):
            progress.note(f"{image.name} is left out: {shape}")
            continue
        fields.append(
            SegmentedField(
                *find_place(image.stem),
                file=image.name,
                source=MASKS,
                shape=shape,
                pixel_size_um=pixel_size_um,
                read=partial(read_tiff_plane, image, shape),
                read_mask=partial(read_mask, mask, shape, ignore=ignore),
            )
        )
    return fields


def _shape_or_error(image: Path) -> tuple[int, int] | str:
    try:
        return read_tiff_shape(image)
    except (ImageError, OSError) as error:
        return str(error)


def listed(names: Sequence[str]) -> str:
    """Names with commas between them, the first few of many."""
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return (", ".join(names[:_MOST_LISTED]) or "none") + more

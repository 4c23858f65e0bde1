"""Find measurements in folders, and the files that belong to each."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact_mask.errors import ExportError, ImageError, did_you_mean
from artifact_mask.io.harmony_index import IndexHead, read_head
from artifact_mask.location import Location, list_folders
from artifact_mask.metadata import seconds_since_1970

INDEX_NAMES = ("Index.idx.xml", "Index.ref.xml", "Index.xml", "ImageIndex.ColumbusIDX.xml")
"""Of the index; the first that is there is taken."""

TIFF_NAME = re.compile(
    r"r(?P<row>\d+)c(?P<column>\d+)f(?P<field>\d+)p(?P<plane>\d+)"
    r"-ch(?P<channel>\d+)sk(?P<timepoint>\d+)fk\d+fl\d+\.tiff?",
    re.IGNORECASE,
)
"""Harmony's name of an image."""

_OUTPUTS = (".zarr", ".artmask")
"""Endings of folders that are never an export."""


@dataclass(frozen=True)
class Found:
    """A measurement that lies somewhere.

    Attributes
    ----------
    folder
        Folder of the measurement: that of the index or of the images, or the one above if that is called ``Images``.
    index
        Its index; None where there are only images with Harmony's names.
    head
        What the index says of the plate; None without an index.
    """

    folder: Location
    index: Location | None
    head: IndexHead | None

    @property
    def images(self) -> Location:
        """Folder of images without an index."""
        return next(
            (self.folder / name for name in list_folder(self.folder)[0] if name.lower() == "images"), self.folder
        )

    @property
    def began(self) -> tuple[float, str]:
        """Order of measurements in time, whatever their time zones; first those that do not tell."""
        return (self.head and seconds_since_1970(self.head.started)) or 0.0, str(self.folder)

    @property
    def plate_name(self) -> str:
        """Barcode or name of the plate; without an index, the name of the folder."""
        return (self.head and (self.head.barcode or self.head.name)) or self.folder.name


def find_measurements(place: Location) -> tuple[list[Found], dict[str, str]]:
    """Find every measurement in a folder and below it, or that of an index file.

    Returns
    -------
    list[Found]
        Measurements, in the order of their paths.
    dict[str, str]
        By index, why it cannot be read.

    Raises
    ------
    ExportError
        If the place does not exist, or holds no measurement at all.
    """
    found: list[Found] = []
    problems: dict[str, str] = {}
    foreign = ""
    for folder, index in _walk(place, set()):
        try:
            head = read_head(index) if index is not None else None
        except ExportError as error:
            problems[str(index)] = str(error)
            continue
        if index is None or head is not None:
            found.append(Found(folder.parent if folder.name.lower() == "images" else folder, index, head))
        else:
            foreign = str(index)
    if foreign and not found and not problems:
        raise ExportError(f"{foreign} is not an index of Harmony: its root is not <EvaluationInputData>.")
    if not found and not problems:
        raise ExportError(
            f"{place} is not a Harmony export: it holds neither an index ({', '.join(INDEX_NAMES)}) nor TIFFs named "
            "like r02c03f01p01-ch1sk1fk1fl1.tiff. Give the folder that holds Images/, or one above it."
            if place.exists()
            else f"{place} does not exist.{did_you_mean(place.name, list_folders(place.parent))} Give the folder that "
            "Harmony exported (it holds Images/Index.idx.xml)."
        )
    return found, problems


def list_folder(folder: Location) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted."""
    if isinstance(folder, Path):
        with os.scandir(folder) as entries:
            known = [(entry.name, entry.is_dir(), entry.is_file()) for entry in entries]
    else:
        listed = folder.fs.ls(folder.path, detail=True)
        known = [
            (e["name"].rstrip("/").rpartition("/")[2], e["type"] == "directory", e["type"] == "file") for e in listed
        ]
    known.sort()
    return [name for name, is_dir, _ in known if is_dir], [
        name for name, is_dir, is_file in known if is_file and not is_dir
    ]


def resolve_image(image_folder: Location, url: str) -> Location:
    """Path of an image that an index names, refused if it lies outside of the export.

    Raises
    ------
    ImageError
        If ``url`` is empty, absolute, has a scheme, or leads out of ``image_folder``, by ``..`` or by a symbolic link.
    """
    if not url:
        raise ImageError("the index names no file for this plane")
    if re.match(r"[/\\]|[A-Za-z][A-Za-z0-9+.-]*:", url) or ".." in re.split(r"[/\\]", url):
        raise ImageError(f"the index points outside of the export ({url!r}); such a file is never opened")
    found = image_folder / url
    if not isinstance(image_folder, Path) or not isinstance(found, Path):
        return found
    try:
        # A name without folders, which is the rule, leads out only if it is a link itself.
        followed = found.is_symlink() if found.parent == image_folder else True
        leads_out = followed and found.exists() and not found.resolve().is_relative_to(image_folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"{url[:80]!r} cannot be the name of a file: {error}") from error
    if leads_out:
        raise ImageError(f"{url} is a link that leads out of the export; such a file is never opened")
    return found


@dataclass(frozen=True)
class ImageFolder:
    """Folder of images, listed once: to ask for each of thousands takes as long as to read them.

    Attributes
    ----------
    folder
        Where URLs of an index are relative to.
    names
        Of the files in it.
    """

    folder: Location
    names: frozenset[str]

    @classmethod
    def list(cls, folder: Location) -> "ImageFolder":
        """List a folder."""
        return cls(folder, frozenset(list_folder(folder)[1]))

    def has(self, url: str) -> bool:
        """Whether an image is there and may be read."""
        if "/" not in url and "\\" not in url:
            return url in self.names
        try:
            return bool(resolve_image(self.folder, url).is_file())
        except (ImageError, OSError):
            return False


def find_image_folder(index: Location, urls: Sequence[str]) -> ImageFolder:
    """Folder of the images of an index: beside it or, as Harmony 7 may have it, one level below."""
    beside = ImageFolder.list(index.parent)
    sample = [url for url in urls if url]
    if any(beside.has(url) for url in sample):
        return beside
    for name in list_folder(index.parent)[0]:
        if name.lower() == "images":
            below = ImageFolder.list(index.parent / name)
            if any(below.has(url) for url in sample):
                return below
    return beside


def _index_in(folder: Location) -> Location | None:
    return next((folder / name for name in INDEX_NAMES if (folder / name).is_file()), None)


def _walk(place: Location, seen: set[str], *, is_given: bool = True) -> Iterator[tuple[Location, Location | None]]:
    """Folders of measurements at or below a place, each with its index, or None; links are followed once."""
    real = os.path.realpath(place) if isinstance(place, Path) else str(place)
    if real in seen:
        return
    seen.add(real)
    if place.is_file():
        yield place.parent, place
        return
    if not place.is_dir():
        return
    if is_given and place.name.lower() == "images" and not _index_in(place) and (above := _index_in(place.parent)):
        yield place.parent, above
        return
    if (index := _index_in(place)) is not None:
        yield place, index
        return
    folders, files = list_folder(place)
    if any(TIFF_NAME.fullmatch(name) for name in files):
        yield place, None
        return
    for name in folders:
        if not name.startswith(".") and not name.endswith(_OUTPUTS):
            yield from _walk(place / name, seen, is_given=False)

"""Tiny exports of Harmony for tests: a plate described in a few words, written with pixels that anyone can compute."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from artifact_mask.io.harmony_index_writer import GENERATIONS, image_name, page_of, stack_name, write_index
from artifact_mask.io.operetta_writer import write_pages, write_plane
from artifact_mask.metadata import Acquisition, Channel, Field, Harmony, PlaneIndex, Plate, Well

BRIGHTFIELD = Channel(1, "Brightfield", "brightfield", 740.0)
CHANNELS = (
    BRIGHTFIELD,
    Channel(2, "HOECHST 33342", "fluorescence", 405.0, 456.0),
    Channel(3, "Alexa 488", "fluorescence", 488.0, 522.0),
    Channel(4, "Alexa 647", "fluorescence", 640.0, 706.0),
)


class Place(NamedTuple):
    """A plane of a plate: where it is, and the name of its file."""

    well: Well
    field: Field
    plane: PlaneIndex
    file: str


def make_plate(
    *,
    wells: Sequence[tuple[int, int]] = ((2, 3),),
    field_ids: Sequence[int] = (1, 2),
    channels: Sequence[Channel] = CHANNELS[:1],
    size: int | tuple[int, int] = 64,
    n_t: int = 1,
    n_z: int = 1,
    name: str = "plate-1",
    without: Collection[tuple[int, int, int]] = (),
) -> Plate:
    """Describe a plate; ``without`` lists ``(row, column, field_id)`` that were never imaged."""
    y, x = (size, size) if isinstance(size, int) else size
    index_of = {field_id: index for index, field_id in enumerate(sorted(field_ids))}
    acquisition = Acquisition(
        measurement_id=f"measurement-of-{name}",
        shape=(n_t, len(channels), n_z, y, x),
        pixel_size_um=0.5,
        z_step_um=2.0 if n_z > 1 else 1.0,
        channels=tuple(channels),
        wells=tuple(
            Well(
                row,
                column,
                tuple(
                    Field(index_of[f], f, y_um=10.0 * index_of[f] - 5.0, x_um=-20.0 * index_of[f])
                    for f in sorted(field_ids)
                    if (row, column, f) not in without
                ),
            )
            for row, column in sorted(wells)
        ),
    )
    return Plate(name, 8, 12, (acquisition,))


def small_screen() -> Plate:
    """Describe a plate with everything that can vary: wells, fields (one was never imaged), channels, depth, time."""
    return make_plate(
        wells=[(2, 3), (3, 11)],
        field_ids=[1, 2, 7],
        without=[(2, 3, 2)],
        channels=CHANNELS[:2],
        size=(300, 260),
        n_t=2,
        n_z=2,
        name="screen",
    )


def places(plate: Plate) -> Iterator[Place]:
    """List all planes of a plate."""
    n_t, n_c, n_z = plate.acquisitions[0].shape[:3]
    for well in plate.wells:
        for field in well.fields:
            for t, c, z in np.ndindex(n_t, n_c, n_z):
                name = image_name(well, field.field_id, plate.acquisitions[0].channels[c].channel_id, t=t, z=z)
                yield Place(well, field, (t, c, z), name)


def plane_pixels(plate: Plate, place: Place) -> NDArray[np.uint16]:
    """Pixels ``(y, x)`` uint16 of a plane: its own noise on its own brightness."""
    seed = (place.well.row, place.well.column, place.field.field_id, *place.plane)
    shape = plate.acquisitions[0].shape[-2:]
    return np.random.default_rng(seed).integers(0, 4000, shape, np.uint16) + np.uint16(1000 * (1 + place.plane[1]))


def write_export(
    folder: Path, plate: Plate, *, skip: Collection[str] = (), index: bool = True, harmony: Harmony = "v5"
) -> Path:
    """Write a measurement, without the files named in ``skip``, and return its folder."""
    (acquisition,) = plate.acquisitions
    stacks: dict[str, dict[int, Place]] = {}
    for place in places(plate):
        if GENERATIONS[harmony].stacked:
            name = stack_name(place.well, place.field.field_id)
            stacks.setdefault(name, {})[page_of(acquisition, place.plane)] = place
        elif place.file not in skip:
            write_plane(folder, place.file, plane_pixels(plate, place), acquisition.pixel_size_um)
    for name, pages in stacks.items():
        if name not in skip:
            planes = [plane_pixels(plate, pages[page]) for page in sorted(pages)]
            write_pages(folder, name, planes, acquisition.pixel_size_um)
    if index:
        write_index(folder, plate, harmony=harmony)
    return folder


def index_bytes(folder: Path, plate: Plate, *, harmony: Harmony = "v5") -> bytes:
    """Write the index of a plate alone, and return its content."""
    return write_index(folder, plate, harmony=harmony).read_bytes()


def parse_index(content: bytes) -> ElementTree.Element:
    """Parse an index to change it."""
    return ElementTree.fromstring(content.decode("utf-8-sig"))


def children(root: ElementTree.Element, *path: str) -> list[ElementTree.Element]:
    """Elements at a path of local names."""
    found = [root]
    for name in path:
        found = [child for element in found for child in element if local_name(child) == name]
    return found


def local_name(element: ElementTree.Element) -> str:
    """Tag without its namespace."""
    return element.tag.rpartition("}")[2]


def set_text(image: ElementTree.Element, tag: str, text: str) -> None:
    """Set the text of an image record's element."""
    (element,) = children(image, tag)
    element.text = text


def as_generation(content: bytes, namespace: str, *, first_timepoint: int = 0) -> bytes:
    """Turn a HarmonyV5 index into one of another namespace and base of TimepointID."""
    root = parse_index(content)
    for image in children(root, "Images", "Image"):
        (timepoint,) = children(image, "TimepointID")
        timepoint.text = str(int(timepoint.text or 0) + first_timepoint)
    for element in root.iter():
        element.tag = f"{{{namespace}}}{local_name(element)}"
    return ElementTree.tostring(root, encoding="utf-8", default_namespace=None)

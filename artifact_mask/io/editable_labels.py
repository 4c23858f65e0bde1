"""Label images that people edit: ordinary chunks instead of shards, and a note of what they were copied from.

A shard has one writer, and a tool that paints a few pixels into it writes all of it anew, or cannot. Here a plane of a
level is one chunk that any Zarr writer replaces.
"""

from collections.abc import Iterable
from typing import Any, Literal

import google_crc32c
import numcodecs
import numpy as np
import zarr
import zarr.codecs
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.chunk import LABEL
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.image_metadata import describe_label
from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.io.ome_zarr import list_label, open_level
from artifact_mask.io.zarr_group import read_group
from artifact_mask.kernels.pyramid import build_pyramid, downsample_nearest, pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, NgffVersion

State = Literal["absent", "untouched", "edited"]
"""Of a label: whether it is there, and whether anything but artmask has changed its pixels."""


def write_editable_label(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
    field: Field,
    pixels: NDArray[np.int32],
    *,
    name: str,
    origin: str,
    ngff: NgffVersion = "0.5",
) -> None:
    """Write a label image that other tools can write into, as ``labels/<name>`` inside the field's group.

    Parameters
    ----------
    files
        To write with.
    folder
        Group of the field.
    acquisition, field
        What it belongs to.
    pixels
        ``(t, z, y, x)``; 0 is background.
    name
        Name of the label image.
    origin
        What the pixels are, for people.
    ngff
        Version of the plate.
    """
    layout, label = LAYOUTS[ngff], folder / "labels" / name
    for level, of_level in enumerate(_build_levels(pixels)):
        for key, content in _encode_level(of_level, layout).items():
            files.write(label / str(level) / key, content, stamped=False)
    documents = describe_label(acquisition, field, name, ngff=ngff)
    ome, _ = layout.parse_attributes(documents[layout.attributes_file])
    own = {"artmask": {"origin": origin, "crc32c": _checksum(pixels)}}
    for key, document in layout.describe_group(ome, own).items():
        files.write(label / key, document.encode(), stamped=False)
    list_label(files, folder, name, ngff=ngff)


def read_label(folder: Location, name: str) -> NDArray[np.int32] | None:
    """Read a label image ``(t, z, y, x)`` of a field at full resolution; None where there is none.

    Raises
    ------
    PlateError
        If it has no array.
    ImageError
        If its pixels are damaged.
    """
    if read_group(folder / "labels" / name) is None:
        return None
    array = open_level(folder / "labels" / name)
    try:
        return np.asarray(array[...]).astype(np.int32, copy=False)
    except (ValueError, RuntimeError) as error:
        raise ImageError(
            f"labels/{name} is damaged ({error}). Mend it with the tool that wrote it, or replace it with --overwrite "
            "or another run."
        ) from error


def read_coarse_label(folder: Location, name: str, shape: tuple[int, int]) -> NDArray[Any] | None:
    """Read the coarsest level of a label image of a field of ``(y, x)`` pixels; None where there is none."""
    try:
        return np.asarray(open_level(folder / "labels" / name, len(pyramid_shapes(shape)) - 1)[...])
    except PlateError:
        return None


def compare_label(folder: Location, name: str) -> State:
    """Tell whether a label image is as :func:`write_editable_label` wrote it; one of other make counts as edited."""
    group = read_group(folder / "labels" / name)
    if group is None:
        return "absent"
    pixels = read_label(folder, name)
    untouched = pixels is not None and group.artmask.get("crc32c") == _checksum(pixels)
    return "untouched" if untouched else "edited"


def refresh_levels(files: StagedFiles, folder: Location, name: str, *, ngff: NgffVersion = "0.5") -> bool:
    """Make the coarser levels of an edited label image from its full resolution, which most tools alone write.

    Returns
    -------
    bool
        Whether any of them was out of date.
    """
    pixels = read_label(folder, name)
    if pixels is None:
        return False
    stale = False
    for level, expected in enumerate(_build_levels(pixels)):
        place = folder / "labels" / name / str(level)
        if level == 0 or np.array_equal(np.asarray(open_level(folder / "labels" / name, level)[...]), expected):
            continue
        stale = True
        for key, content in _encode_level(expected, LAYOUTS[ngff]).items():
            files.write(place / key, content, stamped=False)
    return stale


def _build_levels(pixels: NDArray[np.int32]) -> Iterable[NDArray[np.int32]]:
    """Levels ``(t, z, y, x)``, the full resolution first."""
    n_levels = len(pyramid_shapes((pixels.shape[-2], pixels.shape[-1])))
    planes = [build_pyramid(plane, n_levels, downsample_nearest) for plane in pixels.reshape(-1, *pixels.shape[-2:])]
    for level in range(n_levels):
        of_level = np.stack([levels[level] for levels in planes])
        yield of_level.reshape(*pixels.shape[:2], *of_level.shape[-2:])


def _encode_level(pixels: NDArray[np.int32], layout: Layout) -> dict[str, bytes]:
    """Files of an array ``(t, z, y, x)`` in chunks of a plane, as zarr-python writes them; its metadata come last."""
    documents: dict[str, Any] = {}
    options: dict[str, Any]
    if layout.zarr_format == 3:
        codec = zarr.codecs.BloscCodec(
            cname=LABEL.name, clevel=LABEL.level, shuffle=LABEL.shuffle, typesize=LABEL.itemsize
        )
        options = {"compressors": codec, "dimension_names": tuple("tzyx")}
    else:
        options = {
            "compressors": numcodecs.Blosc(LABEL.name, LABEL.level, LABEL.shuffle_number),
            "zarr_format": 2,
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    array = zarr.create_array(
        MemoryStore(documents),
        shape=pixels.shape,
        dtype=LABEL.dtype,
        chunks=(1, 1, *pixels.shape[-2:]),
        fill_value=0,
        # An empty plane has a file too: an older one must not shine through.
        config={"write_empty_chunks": True},
        **options,
    )
    array[...] = pixels
    return {
        key: documents[key].to_bytes() for key in sorted(documents, key=lambda key: key.endswith(layout.array_file))
    }


def _checksum(pixels: NDArray[np.int32]) -> int:
    return int(google_crc32c.value(np.ascontiguousarray(pixels, "<i4").tobytes()))

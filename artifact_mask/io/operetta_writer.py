"""Write what lies beside the index of a measurement: images, layout, flat fields, the truth about a synthetic one."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.io.files import write_atomically
from artifact_mask.io.harmony_index_writer import BOM, GENERATIONS, XSI, Profile, flat_field_text, tags
from artifact_mask.metadata import Acquisition, Plate

TRUTH_ILLUMINATION_STEP = 8
"""The truth keeps every 8th pixel of the shading, which is smooth, along each axis."""

_WHITE = 4294967295


@dataclass(frozen=True)
class Layer:
    """One layer of the assay layout: a value for some wells.

    Attributes
    ----------
    name
        Such as Compound.
    value_type
        Harmony's word, ``string`` or ``double``.
    values
        By ``(row, column)`` counted from 1; other wells stay empty.
    """

    name: str
    value_type: str
    values: Mapping[tuple[int, int], str]


def write_plane(folder: Path, name: str, plane: NDArray[np.uint16], pixel_size_um: float) -> Path:
    """Write one ``(y, x)`` uint16 plane as Harmony does: one page, one strip, LZW without predictor.

    Returns
    -------
    Path
        The file.
    """
    return write_pages(folder, name, [plane], pixel_size_um)


def write_pages(folder: Path, name: str, planes: Iterable[NDArray[np.uint16]], pixel_size_um: float) -> Path:
    """Write ``(y, x)`` uint16 planes as the pages of one file, as Columbus does.

    Returns
    -------
    Path
        The file.
    """
    path = folder / "Images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    per_cm = 1e4 / pixel_size_um
    with tifffile.TiffWriter(path) as tiff:
        for plane in planes:
            tiff.write(
                plane,
                contiguous=False,
                photometric="minisblack",
                compression="lzw",
                predictor=1,
                rowsperstrip=plane.shape[0],
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                software=False,
                metadata=None,
            )
    return path


def write_assay_layout(folder: Path, plate: Plate, layers: Sequence[Layer]) -> Path:
    """Write ``Assaylayout/<plate>.xml``: which well got what.

    Returns
    -------
    Path
        The layout.
    """
    path = folder / "Assaylayout" / f"{plate.name}.xml"
    text = "\r\n".join(_layout_lines(plate, layers))
    write_atomically(path, (BOM + text).encode("utf-8"))
    return path


def write_ffc_profile(
    folder: Path, plate: Plate, *, number: int = 1, profiles: Mapping[int, Profile] | None = None
) -> Path:
    """Write ``FFC_Profile/FFC_Profile_Measurement <number>.xml``: the flat fields of a plate's only acquisition.

    Parameters
    ----------
    folder
        Of the measurement.
    plate
        What was measured.
    number
        Of the measurement, from 1.
    profiles
        Flat field by channel number; channels without one get the Identity.

    Returns
    -------
    Path
        The profiles.
    """
    (acquisition,) = plate.acquisitions
    path = folder / "FFC_Profile" / f"FFC_Profile_Measurement {number}.xml"
    text = "\r\n".join(_profile_lines(acquisition, profiles or {}))
    write_atomically(path, (BOM + text).encode("utf-8"))
    return path


def write_truth(
    folder: Path,
    stem: str,
    *,
    artifacts: NDArray[np.uint8],
    stain: NDArray[np.bool_],
    illumination: NDArray[np.float32],
    nuclei: NDArray[np.int32] | None = None,
) -> None:
    """Write what is true of a synthetic field into ``Truth``, beside ``Images``.

    Parameters
    ----------
    folder
        Folder of the measurement.
    stem
        Name of the field's brightfield image, without its ending.
    artifacts
        ``(y, x)`` uint8 classes, kept as ``<stem>_artifacts.png``.
    stain
        ``(y, x)`` bool, kept as ``<stem>_stain.png`` with 255 where true.
    illumination
        ``(y, x)`` float32, kept as ``<stem>_illumination.tif``: every 8th pixel along each axis, from the first on.
    nuclei
        ``(y, x)`` int32, kept as ``<stem>_nuclei.png`` of 16 bits; None where they are not imaged.
    """
    truth = folder / "Truth"
    step = TRUTH_ILLUMINATION_STEP
    shading = io.BytesIO()
    tifffile.imwrite(shading, illumination[::step, ::step], compression="zlib", software=False, metadata=None)
    write_atomically(truth / f"{stem}_artifacts.png", bytes(imagecodecs.png_encode(artifacts)))
    write_atomically(truth / f"{stem}_stain.png", bytes(imagecodecs.png_encode(stain.astype(np.uint8) * np.uint8(255))))
    write_atomically(truth / f"{stem}_illumination.tif", shading.getvalue())
    if nuclei is not None:
        write_atomically(truth / f"{stem}_nuclei.png", bytes(imagecodecs.png_encode(nuclei.astype(np.uint16))))


def _head(root: str) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>'
    namespace = GENERATIONS["v5"].namespace  # that of later generations is not known
    yield f'<{root} {XSI} xmlns="{namespace}">'


def _profile_lines(acquisition: Acquisition, profiles: Mapping[int, Profile]) -> Iterator[str]:
    # The foreground counts as not good enough, which is why no profile has a part for it.
    scopes = (("Background", 1, 69), ("Foreground", 0, 536))
    summary: dict[str, object] = {"Version": 2, "ProfilesComplete": 1}
    summary |= {f'AggregatedQuality Scope="{scope}"': quality for scope, quality, _ in scopes}
    ids = [channel.channel_id for channel in acquisition.channels]
    summary |= {f'Quality ChannelID="{i}" Scope="{scope}"': quality for i in ids for scope, quality, _ in scopes}
    summary |= {f'Count ChannelID="{i}" Scope="{scope}"': count for i in ids for scope, _, count in scopes}
    yield from _head("Results")
    yield from tags(2, summary)
    yield "  <Map>"
    for channel in acquisition.channels:
        text = flat_field_text(channel, acquisition.shape[-2:], profiles.get(channel.channel_id), foreground=False)
        yield f'    <Entry ChannelID="{channel.channel_id}">'
        yield from tags(6, {"FlatfieldProfile": text})
        yield "    </Entry>"
    yield "  </Map>"
    yield "</Results>"


def _layout_lines(plate: Plate, layers: Sequence[Layer]) -> Iterator[str]:
    yield from _head("AssayLayout")
    yield from tags(2, {"PlateCols": plate.n_columns, "PlateRows": plate.n_rows})
    for layer in layers:
        yield "  <Layer>"
        yield from tags(4, {"Name": layer.name, "ValueType": layer.value_type})
        for row in range(1, plate.n_rows + 1):
            for column in range(1, plate.n_columns + 1):
                value = layer.values.get((row, column), "")
                yield "    <Well>"
                yield from tags(6, {"Row": row, "Col": column, "Value": value, "Color": _WHITE})
                yield "    </Well>"
        yield "  </Layer>"
    yield "</AssayLayout>"

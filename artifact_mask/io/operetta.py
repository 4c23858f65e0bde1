"""Read what an Operetta or Phenix microscope exports: the index, or the names of the files alone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from artifact_mask.errors import ExportError, ImageError
from artifact_mask.io.assay_layout import read_layout
from artifact_mask.io.harmony_flatfield import parse_profile, read_ffc_profile
from artifact_mask.io.harmony_index import HarmonyIndex, Record, parse_index
from artifact_mask.io.operetta_fields import Sources, assemble_fields
from artifact_mask.io.operetta_folder import TIFF_NAME, Found, ImageFolder, find_image_folder, list_folder
from artifact_mask.io.tiff import read_tiff_shape
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Channel, Plate

_PLATE_FORMATS = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))


@dataclass(frozen=True)
class Measurement:
    """One measurement as found.

    Attributes
    ----------
    found
        Where it lies.
    images
        Folder that holds its images.
    sources
        For each field, where each plane is that the export lists; fewer than the acquisition's where some are missing.
    documents
        Files that describe it, to be kept: index, assay layouts, flat-field profiles.
    problems
        What could not be understood, and was left out.
    """

    found: Found
    images: ImageFolder
    sources: Sources
    documents: tuple[Location, ...]
    problems: tuple[str, ...]

    def require_an_image(self) -> None:
        """Make sure that there is anything to read.

        Raises
        ------
        ExportError
            If none of the images is there.
        """
        urls = {source.url for planes in self.sources.values() for source in planes.values() if source.url}
        if not any(map(self.images.has, urls)):
            raise ExportError(
                f"None of the {len(urls)} images that {self.found.index} lists is in {self.images.folder}. "
                "Copy the images beside the index."
            )


@dataclass(frozen=True)
class Export:
    """What was measured on one plate.

    Attributes
    ----------
    plate
        What it contains.
    measurements
        One for each acquisition of the plate.
    """

    plate: Plate
    measurements: tuple[Measurement, ...]


def read_export(found: Sequence[Found], *, pixel_size_um: float | None = None) -> Export:
    """Read the measurements of one plate.

    Parameters
    ----------
    found
        Where they lie.
    pixel_size_um
        Pixel size in micrometre. Needed for a folder without an index; beside an index it takes the index's place.

    Raises
    ------
    ExportError
        If an index is damaged or does not tell enough.
    """
    read = [_read(one, pixel_size_um) for one in sorted(found, key=lambda one: one.began)]
    first = 0
    acquisitions, measurements = [], []
    for one in read:
        acquisition, measurement = _number_from(first, one.acquisition, one.measurement)
        acquisitions.append(acquisition)
        measurements.append(measurement)
        first = 1 + max(index for _, index in acquisition.field_keys)
    n_rows, n_columns = _plate_size(
        read[0].plate_size,
        max(w.row for a in acquisitions for w in a.wells),
        max(w.column for a in acquisitions for w in a.wells),
    )
    plate = Plate(read[0].name, n_rows, n_columns, tuple(acquisitions), barcode=read[0].barcode)
    return Export(plate, tuple(measurements))


class _Read(NamedTuple):
    name: str
    barcode: str
    plate_size: tuple[int, int]
    acquisition: Acquisition
    measurement: Measurement


def _read(found: Found, pixel_size_um: float | None) -> _Read:
    return (
        _read_names(found, pixel_size_um) if found.index is None else _read_indexed(found, found.index, pixel_size_um)
    )


def _number_from(first: int, acquisition: Acquisition, measurement: Measurement) -> tuple[Acquisition, Measurement]:
    """Count the fields of a later acquisition on from those before."""
    if not first:
        return acquisition, measurement
    wells = tuple(
        replace(well, fields=tuple(replace(f, index=f.index + first) for f in well.fields))
        for well in acquisition.wells
    )
    sources = {(well, index + first): planes for (well, index), planes in measurement.sources.items()}
    return replace(acquisition, wells=wells), replace(measurement, sources=sources)


def _read_indexed(found: Found, index: Location, pixel_size_um: float | None) -> _Read:
    parsed = parse_index(index)
    pixel_size_um = pixel_size_um or parsed.pixel_size_um
    if pixel_size_um is None:
        raise ExportError(f"{index} does not tell the pixel size. Give it with --pixel-size-um.")
    images = find_image_folder(index, [record.url for record in parsed.records])
    image_size = parsed.image_size or _commonest_size(images.folder, parsed.records)
    documents = [index]
    problems = list(parsed.problems)
    layout = _read_layouts(found.folder, documents, problems)
    profiles = _read_profiles(found.folder, parsed, documents, problems)
    acquisition, sources = assemble_fields(
        parsed.records,
        Acquisition(
            measurement_id=parsed.plate.get("MeasurementID") or f"index:{found.folder.name}",
            shape=(1, 1, 1, *image_size),
            pixel_size_um=pixel_size_um,
            z_step_um=1.0,
            channels=(),
            wells=(),
            started=parsed.plate.get("MeasurementStartTime", ""),
            magnification=parsed.magnification,
            numerical_aperture=parsed.numerical_aperture,
            flat_field_profiles=profiles,
        ),
        parsed.channels,
        layout,
    )
    barcode, name = parsed.plate.get("PlateID", ""), parsed.plate.get("Name", "")
    return _Read(
        name=name or barcode or found.folder.name,
        barcode=barcode,
        plate_size=parsed.plate_size,
        acquisition=acquisition,
        measurement=Measurement(found, images, sources, tuple(documents), tuple(problems)),
    )


def _read_names(found: Found, pixel_size_um: float | None) -> _Read:
    images = ImageFolder.list(found.images)
    named = ((TIFF_NAME.fullmatch(name), name) for name in sorted(images.names))
    records = [
        Record(
            row=int(match["row"]),
            column=int(match["column"]),
            field_id=int(match["field"]),
            plane_id=int(match["plane"]),
            timepoint_id=int(match["timepoint"]),
            channel_id=int(match["channel"]),
            url=name,
        )
        for match, name in named
        if match and int(match["row"]) and int(match["column"])
    ]
    if not records:
        raise ExportError(f"{images.folder} has no TIFF that names a well, such as r02c03f01p01-ch1sk1fk1fl1.tiff.")
    if pixel_size_um is None:
        raise ExportError(
            f"{found.folder} has {len(records)} TIFFs with Harmony names but no index, so that the pixel size is "
            "unknown. Give it with --pixel-size-um (for instance 0.3 for 40x with binning 2)."
        )
    documents: list[Location] = []
    problems: list[str] = []
    layout = _read_layouts(found.folder, documents, problems)
    acquisition, sources = assemble_fields(
        records,
        Acquisition(
            # The folder and its parent: `tiffs` alone would be the same for every plate, a whole path for no other
            # machine.
            measurement_id="names:" + "/".join(found.folder.parts[-2:]),
            shape=(1, 1, 1, *_commonest_size(images.folder, records)),
            pixel_size_um=pixel_size_um,
            z_step_um=1.0,
            channels=(),
            wells=(),
        ),
        {c: Channel(c, f"Channel {c}") for c in {record.channel_id for record in records}},
        layout,
    )
    measurement = Measurement(found, images, sources, tuple(documents), tuple(problems))
    return _Read(found.folder.name, "", (0, 0), acquisition, measurement)


def _commonest_size(folder: Location, records: Iterable[Record], *, sample: int = 9) -> tuple[int, int]:
    """Size that most of the first readable files have, so that one odd file does not decide for all."""
    sizes: Counter[tuple[int, int]] = Counter()
    for record in records:
        try:
            sizes[read_tiff_shape(folder / record.url, page=record.page)] += 1
        except ImageError:
            continue
        if sizes.total() == sample:
            break
    if not sizes:
        raise ExportError(f"None of the TIFFs in {folder} can be read. Copy the export again.")
    return sizes.most_common(1)[0][0]


def _read_layouts(
    folder: Location, documents: list[Location], problems: list[str]
) -> dict[tuple[int, int], dict[str, str | float]]:
    """Layers of the assay layout by ``(row, column)``."""
    layout: dict[tuple[int, int], dict[str, str | float]] = {}
    for file in _xml_files(folder, "assaylayout"):
        documents.append(file)
        try:
            for place, layers in read_layout(file).items():
                layout[place] = layers | layout.get(place, {})
        except ExportError as error:
            problems.append(str(error))
    return layout


def _read_profiles(
    folder: Location, parsed: HarmonyIndex, documents: list[Location], problems: list[str]
) -> dict[str, Any]:
    """Flat-field profiles by channel number, as text for JSON: the index's, else those of the stand-alone file."""
    texts: dict[int, str] = {}
    for file in _xml_files(folder, "ffc_profile"):
        documents.append(file)
        try:
            texts |= read_ffc_profile(file)
        except ExportError as error:
            problems.append(str(error))
    profiles: dict[str, Any] = {}
    for channel_id, text in sorted((texts | parsed.flat_fields).items()):
        try:
            profiles[str(channel_id)] = parse_profile(text)
        except ExportError as error:
            problems.append(f"flat-field profile of channel {channel_id}: {error}")
    return profiles


def _xml_files(folder: Location, name: str) -> Iterator[Location]:
    """XML files in a folder of a measurement, whose name is written in any case."""
    for below in list_folder(folder)[0]:
        if below.lower() == name:
            for file in list_folder(folder / below)[1]:
                if file.lower().endswith(".xml"):
                    yield folder / below / file


def _plate_size(given: tuple[int, int], last_row: int, last_column: int) -> tuple[int, int]:
    """Size of the plate: as given, else the smallest standard format that holds all wells."""
    for n_rows, n_columns in (given, *_PLATE_FORMATS):
        if last_row <= n_rows and last_column <= n_columns:
            return n_rows, n_columns
    return last_row, last_column

"""One field for other programs: read, divided by its flat field, masked, and written in one of several forms."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import ExportFormat
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ArtmaskError, ImageError
from artifact_mask.io.exported_files import as_objects, encode_regions, encode_tiff, field_stem, label_name
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.harmony_index_writer import image_name
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.label_images import read_label_image
from artifact_mask.io.ome_tiff import ImageDescription, encode_ome_tiff
from artifact_mask.io.ome_zarr import keep_own_labels, read_missing_planes, write_field, write_labels
from artifact_mask.kernels.masking import fill_artifacts
from artifact_mask.kernels.pyramid import downsample_known, downsample_mean, downsample_nearest
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, Masking, NgffVersion, PlaneIndex, Well
from artifact_mask.workflows.planes import read_corrected_plane
from artifact_mask.workflows.unit import Row

Labels = dict[tuple[int, int], NDArray[np.int32]]
"""Labels ``(y, x)`` by time and depth."""


@dataclass(frozen=True)
class FieldExport:
    """What is exported of the fields of an acquisition.

    Attributes
    ----------
    source
        The plate.
    plate_name
        As entered at the microscope.
    whole
        The acquisition as it is stored, without its wells.
    acquisition
        The same with the channels and wells that were asked for.
    channels
        Indices of these channels in ``whole``.
    flat_fields
        By which they are divided; channels without one are absent.
    format
        Of the files.
    label
        Name of the label image.
    unlabelled
        Why fields of the well have no label image of this name that counts, by index; whatever is there is not read.
    masking
        How the images are masked; None for images as they are.
    folder
        Of the files of all formats but `zarr`, in that of the plate.
    ngff
        Version of the plate.
    """

    source: Location
    plate_name: str
    whole: Acquisition
    acquisition: Acquisition
    channels: tuple[int, ...]
    flat_fields: Mapping[int, StoredFlatField]
    format: ExportFormat
    label: str
    unlabelled: Mapping[int, str]
    masking: Masking | None
    folder: str
    ngff: NgffVersion

    @property
    def tz(self) -> list[tuple[int, int]]:
        """Times and depths."""
        return list(np.ndindex(self.acquisition.shape[0], self.acquisition.shape[2]))

    def names(self, well: Well, field: Field, *, t: int, z: int) -> dict[str | None, str]:
        """Names of a plane's files by the name of the channel, that of the labels by None."""
        of_channels: dict[str | None, str] = {
            channel.name: image_name(well, field.field_id, channel.channel_id, t=t, z=z)
            for channel in self.acquisition.channels
        }
        return of_channels | {None: f"{label_name(well, field, self.label, t=t, z=z)}.tiff"}


def export_field(files: StagedFiles, dest: Location, task: FieldExport, field: Field) -> Row:
    """Write one field into the folder of its plate.

    Raises
    ------
    ImageError, PlateError
        If a plane or the label image is missing or damaged.
    """
    (well,) = task.acquisition.wells
    folder = task.source / well.path / str(field.index)
    labels = _read_labels(task, folder, field)
    if task.format == "geojson":
        _write_regions(files, dest, task, (well, field), labels)
        return {}
    missing = retry(partial(read_missing_planes, folder))
    gaps = [(index, reason) for index, reason in missing.items() if index[1] in task.channels]
    if gaps:
        (_, c, _), reason = gaps[0]
        raise ImageError(
            f"{task.whole.channels[c].name} is missing: {reason}. Leave the channel out to export the others"
        )
    planes = _read_planes(task, folder, labels)
    if task.format == "zarr":
        target = dest / well.path / str(field.index)
        whole_numbers = ((index, plane.astype(np.uint16, copy=False)) for index, plane in planes)
        write_field(files, target, task.acquisition, field, whole_numbers, {}, masking=task.masking, ngff=task.ngff)
        keep_own_labels(files, target, ngff=task.ngff)
        if labels:
            write_labels(files, target, task.acquisition, field, labels.items(), name=task.label, ngff=task.ngff)
    elif task.format == "ome-tiff":
        _write_ome_tiff(files, dest, task, (well, field), planes, labels)
    else:
        pixel_size_um = task.acquisition.pixel_size_um
        for (t, c, z), pixels in planes:
            name = task.names(well, field, t=t, z=z)[task.acquisition.channels[c].name]
            files.write(dest / task.folder / name, encode_tiff(pixels, pixel_size_um))
        for (t, z), of_plane in labels.items():
            name = task.names(well, field, t=t, z=z)[None]
            files.write(dest / task.folder / name, encode_tiff(as_objects(of_plane), pixel_size_um))
    return {"has_labels": bool(labels)}


def _read_labels(task: FieldExport, folder: Location, field: Field) -> Labels:
    """Labels of all planes; none only where images are exported as they are."""
    try:
        if field.index in task.unlabelled:
            raise ImageError(task.unlabelled[field.index])
        return {tz: retry(partial(read_label_image, folder, task.label, tz)).astype(np.int32) for tz in task.tz}
    except ArtmaskError as error:
        if task.masking is None and task.format != "geojson":
            return {}
        raise ImageError(f"there is no mask, and without one nothing is exported: {error}") from error


def _read_planes(
    task: FieldExport, folder: Location, labels: Labels
) -> Iterator[tuple[PlaneIndex, NDArray[np.uint16] | NDArray[np.float32]]]:
    """Planes in the order of time, channel and depth, by their index among those that are exported."""
    t_size, _, z_size = task.acquisition.shape[:3]
    for t, (place, c), z in product(range(t_size), enumerate(task.channels), range(z_size)):
        stored = task.flat_fields.get(c)
        flat_field = load_flat_field(task.source, stored) if stored else None
        pixels = retry(partial(read_corrected_plane, folder, task.whole, (t, c, z), flat_field))
        mask = labels[t, z] > 0 if labels else np.zeros(pixels.shape, bool)
        if task.masking is None:
            yield (t, place, z), pixels
        else:
            yield (t, place, z), fill_artifacts(task.masking.fill, pixels, mask, None)


def _write_ome_tiff(
    files: StagedFiles,
    dest: Location,
    task: FieldExport,
    place: tuple[Well, Field],
    planes: Iterator[tuple[PlaneIndex, NDArray[np.uint16] | NDArray[np.float32]]],
    labels: Labels,
) -> None:
    well, field = place
    t_size, _, z_size, y, x = task.acquisition.shape
    is_real = task.masking is not None and task.masking.fill == "nan"
    pixels = np.empty(task.acquisition.shape, np.float32 if is_real else np.uint16)
    for index, plane in planes:
        pixels[index] = plane
    path, described = dest / task.folder / field_stem(well, field), _describe(task, well, field)
    halved = downsample_known if is_real else downsample_mean
    files.write(path.with_name(f"{path.name}.ome.tiff"), encode_ome_tiff(pixels, described, halved))
    if labels:
        stack = np.zeros((t_size, 1, z_size, y, x), np.uint16)
        for (t, z), of_plane in labels.items():
            stack[t, 0, z] = as_objects(of_plane)
        objects = described._replace(name=f"{described.name} {task.label}", channels=[task.label])
        name = f"{path.name}-{task.label}.ome.tiff"
        files.write(path.with_name(name), encode_ome_tiff(stack, objects, downsample_nearest))


def _describe(task: FieldExport, well: Well, field: Field) -> ImageDescription:
    layout = {name: str(value) for name, value in well.layout.items()}
    how = asdict(task.masking) if task.masking else {"fill": "unmasked"}
    return ImageDescription(
        name=f"{task.plate_name} {well.name} field {field.field_id}",
        channels=[channel.name for channel in task.acquisition.channels],
        pixel_size_um=task.acquisition.pixel_size_um,
        z_step_um=task.acquisition.z_step_um,
        y_um=field.y_um,
        x_um=field.x_um,
        z_um=field.z_um,
        annotations={**layout, "plate": task.plate_name, "well": well.name, "field_id": str(field.field_id), **how},
    )


def _write_regions(
    files: StagedFiles, dest: Location, task: FieldExport, place: tuple[Well, Field], labels: Labels
) -> None:
    for (t, z), of_plane in labels.items():
        name = f"{label_name(*place, task.label, t=t, z=z)}.geojson"
        content = encode_regions(of_plane, name=task.label, pixel_size_um=task.acquisition.pixel_size_um)
        files.write(dest / task.folder / name, content)

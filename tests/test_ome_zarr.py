import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaozarrs
import zarr
from exports import CHANNELS, Place, make_plate, places, plane_pixels, small_screen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import writing
from yaozarrs import DimSpec, v04, v05

from artifact_mask.errors import PlateError
from artifact_mask.io.chunk import INTENSITY, decode_chunk, encode_chunk
from artifact_mask.io.image_metadata import describe_field
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.ome_zarr import (
    open_level,
    read_image_plane,
    read_missing_planes,
    write_field,
    write_labels,
    write_masked,
)
from artifact_mask.io.ome_zarr_plate import create_plate, find_plates, read_identity, read_plate
from artifact_mask.io.tables import read_table, write_tables
from artifact_mask.io.zarr_group import read_group
from artifact_mask.location import Location, to_location
from artifact_mask.metadata import Acquisition, Channel, Field, Masking, NgffVersion, Plate, Well

foreign = pytest.mark.filterwarnings("ignore:::ngio", "ignore:::ome_zarr", "ignore:::zarr", "ignore:::anndata")


def labels_of(plate: Plate) -> NDArray[np.int32]:
    """Labels ``(y, x)``: a few objects of different numbers, one of them a single pixel."""
    labels = np.zeros(plate.acquisitions[0].shape[-2:], np.int32)
    labels[10:30, 20:50] = 1
    labels[100:141, 61:82] = 2
    labels[7, 7] = 70000
    return labels


def write_whole_plate(root: Location, plate: Plate, *, ngff: NgffVersion = "0.5") -> None:
    """Write a plate of one acquisition without a cluster."""
    listed = list(places(plate))
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest", ngff=ngff)
        for well in plate.wells:
            for field in well.fields:
                of_field = [p for p in listed if p.well == well and p.field == field]
                planes = ((p.plane, plane_pixels(plate, p)) for p in of_field)
                folder = root / well.path / str(field.index)
                write_field(files, folder, plate.acquisitions[0], field, planes, {}, ngff=ngff)


def flipped(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def write_empty_plate(root: Path, plate: Plate, *, ngff: NgffVersion = "0.5") -> None:
    """Write the metadata of a plate alone."""
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest", ngff=ngff)


@pytest.fixture(scope="session")
def written(ngff: NgffVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plate with everything that can vary; not to be changed."""
    root = tmp_path_factory.mktemp("written") / "plate.zarr"
    write_whole_plate(root, small_screen(), ngff=ngff)
    return root


@pytest.fixture(scope="session")
def masked(written: Path, ngff: NgffVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the plate with labels and a masked image in every field, and tables."""
    root = tmp_path_factory.mktemp("masked") / "plate.zarr"
    shutil.copytree(written, root)
    plate = small_screen()
    with writing(root) as files:
        for well in plate.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                labels = [((t, z), labels_of(plate)) for t, z in np.ndindex(2, 2)]
                write_labels(files, folder, plate.acquisitions[0], field, labels, name="artifacts", ngff=ngff)
                source = open_level(folder)
                planes = (((t, 0, z), np.asarray(source[t, 0, z])) for t, z in np.ndindex(2, 2))
                write_masked(
                    files, folder, plate.acquisitions[0], field, 0, planes, masking=Masking("median"), ngff=ngff
                )
        write_tables(files, root, tables_of(plate), ngff=ngff)
    return root


def tables_of(plate: Plate) -> dict[str, pd.DataFrame]:
    """Tables as short as can be."""
    keys = [key for acquisition in plate.acquisitions for key in acquisition.field_keys]
    return {
        "fields": pd.DataFrame(keys, columns=["well", "field"]),
        "wells": pd.DataFrame({"well": [well.name for well in plate.wells]}),
    }


def attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group as they are in its file."""
    if (folder / ".zattrs").exists():
        found: dict[str, Any] = json.loads((folder / ".zattrs").read_bytes())
    else:
        found = json.loads((folder / "zarr.json").read_bytes()).get("attributes", {})
    return found


def ome_of(folder: Path) -> dict[str, Any]:
    """Metadata of NGFF as they are in a group's file."""
    ome: dict[str, Any] = attributes(folder).get("ome") or attributes(folder)
    return ome


def field_folders(root: Path) -> Iterator[tuple[Path, Place]]:
    seen = set()
    for place in places(small_screen()):
        folder = root / place.well.path / str(place.field.index)
        if folder not in seen:
            seen.add(folder)
            yield folder, place


# Other people's readers and validators


def test_yaozarrs_accepts_the_plate(written: Path) -> None:
    yaozarrs.validate_zarr_store(written)


def test_yaozarrs_accepts_labels_and_masked_images(masked: Path, ngff: NgffVersion) -> None:
    yaozarrs.validate_zarr_store(masked)
    for folder, _ in field_folders(masked):
        yaozarrs.validate_zarr_store(folder)
        yaozarrs.validate_zarr_store(folder / "masked")
        yaozarrs.validate_zarr_store(folder / "labels" / "artifacts")
        if ngff == "0.5":  # by itself, a list of labels says no version in 0.4
            yaozarrs.validate_zarr_store(folder / "labels")


OME_ZARR_MODELS = """
import sys
from pathlib import Path

import ome_zarr_models.v04, ome_zarr_models.v05, zarr

root, ngff, *fields = sys.argv[1:]
models = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}[ngff]
plate = models.HCS.from_zarr(zarr.open_group(root, mode="r"))
assert (plate.attributes if ngff == "0.4" else plate.ome_attributes).plate.name == "screen"
for field in map(Path, fields):
    models.Well.from_zarr(zarr.open_group(field.parent, mode="r"))
    for image in (field, field / "masked"):
        models.Image.from_zarr(zarr.open_group(image, mode="r"))
    models.Labels.from_zarr(zarr.open_group(field / "labels", mode="r"))
    models.ImageLabel.from_zarr(zarr.open_group(field / "labels" / "artifacts", mode="r"))
"""


def test_ome_zarr_models_accept_the_plate_and_its_images(masked: Path, ngff: NgffVersion) -> None:
    # In a process of its own: after other packages have made models of the same names, its own do not match each other.
    fields = [str(folder) for folder, _ in field_folders(masked)]
    assert len(fields) == 5
    command = [sys.executable, "-c", OME_ZARR_MODELS, str(masked), ngff, *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@foreign
def test_ome_zarr_reads_the_pixels(written: Path, ngff: NgffVersion, caplog: pytest.LogCaptureFixture) -> None:
    from ome_zarr.format import format_from_version
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    plate = small_screen()
    for folder, place in field_folders(written):
        location = parse_url(folder, mode="r", fmt=format_from_version(ngff))
        assert location is not None
        (image,) = list(Reader(location)())
        assert [axis["name"] for axis in image.metadata["axes"]] == list("tczyx")
        np.testing.assert_array_equal(np.asarray(image.data[0][0, 0, 0]), plane_pixels(plate, place))
    location = parse_url(written, mode="r", fmt=format_from_version(ngff))
    assert location is not None
    assert list(Reader(location)())  # the plate as a whole
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@foreign
def test_ngio_reads_pixels_labels_and_tables(masked: Path) -> None:
    import ngio

    plate = small_screen()
    opened = ngio.open_ome_zarr_plate(masked, mode="r")
    assert sorted(opened.wells_paths()) == ["B/3", "C/11"]
    images = opened.get_images(max_workers=1)
    assert sorted(images) == ["B/3/0", "B/3/2", "C/11/0", "C/11/1", "C/11/2"]
    for folder, place in field_folders(masked):
        container = images[folder.relative_to(masked).as_posix()]
        image = container.get_image()
        assert image.pixel_size.x == pytest.approx(plate.acquisitions[0].pixel_size_um)
        assert image.channel_labels == ["Brightfield", "HOECHST 33342"]
        np.testing.assert_array_equal(np.squeeze(image.get_as_numpy(t=0, c=0, z=0)), plane_pixels(plate, place))
        assert container.list_labels() == ["artifacts"]
        label = container.get_label("artifacts")
        np.testing.assert_array_equal(np.squeeze(label.get_as_numpy(t=0, z=0)), labels_of(plate))
    assert sorted(opened.list_tables()) == ["fields", "wells"]
    fields = opened.get_table("fields").dataframe
    assert len(fields) == plate.n_fields


# What the design promises


def test_level_0_is_the_tiff_exactly(written: Path) -> None:
    plate = small_screen()
    for place in places(plate):
        image = open_level(written / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), plane_pixels(plate, place))


def test_a_plane_is_read_as_zarr_python_reads_it(written: Path) -> None:
    plate = small_screen()
    for place in places(plate):
        folder = written / place.well.path / str(place.field.index)
        plane = read_image_plane(folder, plate.acquisitions[0], place.plane)
        np.testing.assert_array_equal(plane, np.asarray(open_level(folder)[place.plane]))
        assert plane.dtype == np.uint16


def test_a_plate_in_an_object_store_is_read_back(ngff: NgffVersion) -> None:
    root = to_location("memory://screens-of-ome-zarr/p.zarr")
    plate = make_plate(field_ids=[1])
    write_whole_plate(root, plate, ngff=ngff)
    stored, (place,) = read_plate(root), places(plate)
    assert (stored.plate, stored.ngff) == (plate, ngff)
    folder = root / "B" / "3" / "0"
    assert read_missing_planes(folder) == {}
    plane = read_image_plane(folder, plate.acquisitions[0], (0, 0, 0))
    np.testing.assert_array_equal(plane, plane_pixels(plate, place))
    np.testing.assert_array_equal(np.asarray(open_level(folder)[0, 0, 0]), plane)
    root.fs.rm("/screens-of-ome-zarr", recursive=True)


def test_an_image_that_others_rewrote_is_read_all_the_same(written: Path, tmp_path: Path) -> None:
    plate = small_screen()
    pixels = np.asarray(open_level(written / "B" / "3" / "0"))
    zarr.create_array(tmp_path / "0", data=pixels, chunks=(1, 1, 1, 100, 100))
    np.testing.assert_array_equal(read_image_plane(tmp_path, plate.acquisitions[0], (1, 0, 1)), pixels[1, 0, 1])


@pytest.mark.parametrize("change", [lambda plane: plane[:-1], lambda plane: plane[:20], lambda plane: b""])
def test_a_damaged_plane_is_named(
    written: Path, tmp_path: Path, ngff: NgffVersion, change: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(written / "B" / "3" / "0", tmp_path / "0")
    plane = tmp_path / "0" / "0" / LAYOUTS[ngff].plane_file((0, 0, 0))
    plane.write_bytes(change(plane.read_bytes()))
    with pytest.raises(PlateError, match=r"0.0.0.0.0 is damaged"):
        read_image_plane(tmp_path / "0", small_screen().acquisitions[0], (0, 0, 0))


def test_a_flipped_bit_in_a_shard_is_named(tmp_path: Path) -> None:
    write_whole_plate(tmp_path / "p.zarr", make_plate(field_ids=[1]))
    shard = tmp_path / "p.zarr" / "B" / "3" / "0" / "0" / "c.0.0.0.0.0"
    shard.write_bytes(flipped(shard.read_bytes()))
    with pytest.raises(PlateError, match=r"c\.0\.0\.0\.0\.0 is damaged"):
        read_image_plane(tmp_path / "p.zarr" / "B" / "3" / "0", make_plate().acquisitions[0], (0, 0, 0))
    with pytest.raises(ValueError, match="checksum"):
        open_level(tmp_path / "p.zarr" / "B" / "3" / "0")[0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_chunk_of_0_4_with_any_byte_changed_is_refused_or_read(data: st.DataObject) -> None:
    pixels = np.random.default_rng(1).integers(0, 900, (60, 50), np.uint16)
    content = bytearray(encode_chunk(pixels, INTENSITY))
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 15))
    content[place] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError, RuntimeError):
        assert decode_chunk(bytes(content), (60, 50), INTENSITY).shape == (60, 50)


@settings(max_examples=30, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    y_um=st.floats(allow_nan=False, allow_infinity=False),
    reason=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_metadata_is_what_the_models_say(name: str, y_um: float, reason: str) -> None:
    acquisition = make_plate(channels=[Channel(1, name)], size=600).acquisitions[0]
    field = Field(7, 9, y_um=y_um, x_um=1, z_um=-3.5, times_s=(0.5,))
    v05_document = describe_field(acquisition, field, {(0, 0, 0): reason}, {})["zarr.json"]
    of_v04 = json.loads(describe_field(acquisition, field, {(0, 0, 0): reason}, {}, ngff="0.4")[".zattrs"])
    of_v05 = json.loads(v05_document)["attributes"]
    missing = [{"tcz": [0, 0, 0], "reason": reason}]
    assert of_v05["artmask"] == of_v04["artmask"] == {"field_id": 9, "times_s": [0.5], "missing_planes": missing}
    dims = [
        DimSpec(name="t", unit="second"),
        DimSpec(name="c"),
        DimSpec(name="z", unit="micrometer", scale_factor=1, translation=-3.5),
        DimSpec(name="y", scale=0.5, unit="micrometer", translation=y_um),
        DimSpec(name="x", scale=0.5, unit="micrometer", translation=1),
    ]
    window = v05.OmeroWindow(start=0, end=65535, min=0, max=65535)
    channel = v05.OmeroChannel(label=name, color="FFFFFF", active=True, window=window)
    image = v05.Image.model_validate(of_v05["ome"])
    assert image.multiscales == [v05.Multiscale.from_dims(dims, name="7", n_levels=3)]
    assert image.omero == v05.Omero(channels=[channel])
    older = v04.Image.model_validate(of_v04)
    assert older.multiscales == [v04.Multiscale.from_dims(dims, name="7", n_levels=3)]
    assert older.omero == v04.Omero(channels=[channel], version="0.4")


def two_measurements() -> Plate:
    """Describe a plate that was measured twice, the second time in another way and not in all wells."""
    first = Acquisition(
        measurement_id="first",
        shape=(2, 1, 1, 300, 260),
        pixel_size_um=0.6,
        z_step_um=1.0,
        channels=(Channel(1, "Brightfield", "brightfield", 740.0, exposure_s=0.02, binning=2),),
        wells=(
            Well(2, 3, (Field(0, 1, -5.0, 2.5, times_s=(0.0, 61.5)),), {"Compound": "DMSO", "Concentration": 0.5}),
            Well(3, 11, (Field(0, 1, -5.0, 2.5), Field(1, 4, 5.0, 2.5))),
        ),
        t_step_s=61.5,
        started="2026-05-04T10:11:12+02:00",
        magnification=10.0,
        numerical_aperture=0.3,
    )
    second = Acquisition(
        measurement_id="second",
        shape=(1, 2, 3, 64, 64),
        pixel_size_um=0.15,
        z_step_um=2.0,
        channels=CHANNELS[1:3],
        wells=(Well(2, 3, (Field(2, 1, 1.0, 2.0, z_um=-4.0), Field(3, 2, 3.0, 4.0)), {"Cells": "IMR-90"}),),
        started="2026-05-05T10:11:12+02:00",
    )
    return Plate("twice", 8, 12, (first, second), barcode="P-007")


def write_two_measurements(root: Path, *, ngff: NgffVersion) -> None:
    """Write a plate of two measurements without a cluster, in black."""
    plate = two_measurements()
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest", ngff=ngff)
        for acquisition in plate.acquisitions:
            plane = np.ones(acquisition.shape[-2:], np.uint16)
            planes = [(index, plane) for index in np.ndindex(*acquisition.shape[:3])]
            for well in acquisition.wells:
                for field in well.fields:
                    write_field(files, root / well.path / str(field.index), acquisition, field, planes, {}, ngff=ngff)


def test_a_plate_is_read_back_as_it_was_written(written: Path, ngff: NgffVersion) -> None:
    stored = read_plate(written)
    assert stored.plate == small_screen()
    assert (stored.ngff, stored.ingest_digest) == (ngff, "digest")
    assert read_identity(written) == ("screen", ["measurement-of-screen"])
    assert find_plates([written]) == find_plates([written.parent]) == {written: 5}


def test_a_plate_of_two_measurements_is_read_back_as_it_was_written(tmp_path: Path, ngff: NgffVersion) -> None:
    root = tmp_path / "p.zarr"
    write_two_measurements(root, ngff=ngff)
    read, plate = read_plate(root).plate, two_measurements()
    # What the layout says of a well is true of the well, whichever measurement it came with.
    layout = {"Compound": "DMSO", "Concentration": 0.5, "Cells": "IMR-90"}
    assert [dict(well.layout) for well in read.wells] == [layout, {}]
    assert read.wells == plate.wells
    assert [without_layout(acquisition) for acquisition in read.acquisitions] == [
        without_layout(acquisition) for acquisition in plate.acquisitions
    ]
    assert (read.name, read.barcode, read.n_rows, read.n_columns) == ("twice", "P-007", 8, 12)
    assert read_identity(root) == ("twice", ["first", "second"])
    assert find_plates([root]) == {root: 5}
    yaozarrs.validate_zarr_store(root)


def without_layout(acquisition: Acquisition) -> Acquisition:
    """Leave the layout of the wells away."""
    return replace(acquisition, wells=tuple(replace(well, layout={}) for well in acquisition.wells))


def test_each_image_says_which_measurement_it_is_of(tmp_path: Path, ngff: NgffVersion) -> None:
    root = tmp_path / "p.zarr"
    write_two_measurements(root, ngff=ngff)
    assert [(i["path"], i["acquisition"]) for i in ome_of(root / "B" / "3")["well"]["images"]] == [
        ("0", 0),
        ("2", 1),
        ("3", 1),
    ]
    described = ome_of(root)["plate"]["acquisitions"]
    assert [(a["id"], a["maximumfieldcount"], a["starttime"]) for a in described] == [
        (0, 2, 1777882272),
        (1, 2, 1777968672),
    ]
    assert ome_of(root)["plate"]["field_count"] == 3
    assert [open_level(root / "B" / "3" / field).shape for field in ("0", "2")] == [
        (2, 1, 1, 300, 260),
        (1, 2, 3, 64, 64),
    ]
    for field, labels in (("0", ["Brightfield"]), ("2", ["HOECHST 33342", "Alexa 488"])):
        assert [c["label"] for c in ome_of(root / "B" / "3" / field)["omero"]["channels"]] == labels


def test_the_layout_of_a_well_is_kept(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(wells=[(2, 3), (3, 4)])
    first, second = plate.acquisitions[0].wells
    layout = {"Compound": 'Ångström "A"', "Concentration": 1e-9}
    of_wells = (replace(first, layout=layout), second)
    plate = replace(plate, acquisitions=(replace(plate.acquisitions[0], wells=of_wells),))
    write_empty_plate(tmp_path / "p.zarr", plate, ngff=ngff)
    assert read_plate(tmp_path / "p.zarr").plate == plate
    assert attributes(tmp_path / "p.zarr" / "B" / "3")["artmask"]["layout"] == layout


def test_rows_beyond_z_are_read_back(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(wells=[(1, 1), (26, 2), (27, 3), (32, 48)])
    write_empty_plate(tmp_path / "p.zarr", plate, ngff=ngff)
    assert read_plate(tmp_path / "p.zarr").plate == plate
    assert [well.path for well in plate.wells] == ["A/1", "Z/2", "AA/3", "AF/48"]


def test_every_image_has_all_five_axes_in_order_and_its_units(masked: Path) -> None:
    for folder, _ in field_folders(masked):
        for image in (folder, folder / "masked"):
            (multiscale,) = ome_of(image)["multiscales"]
            assert [axis["name"] for axis in multiscale["axes"]] == list("tczyx")
            assert [axis.get("unit") for axis in multiscale["axes"]][2:] == ["micrometer"] * 3


def arrays_below(folder: Path) -> list[dict[str, Any]]:
    files = [*folder.rglob("zarr.json"), *folder.rglob(".zarray")]
    return [document for file in files if "shape" in (document := json.loads(file.read_bytes()))]


def test_a_plane_of_a_level_is_one_file_and_inner_chunks_divide_it(masked: Path, ngff: NgffVersion) -> None:
    arrays = arrays_below(masked)
    assert len(arrays) == small_screen().n_fields * 3 * 2
    for array in arrays:
        plane = [1] * (len(array["shape"]) - 2) + array["shape"][-2:]
        if ngff == "0.4":
            assert array["chunks"] == plane
            continue
        assert array["chunk_grid"]["configuration"]["chunk_shape"] == plane
        (sharding,) = array["codecs"]
        assert sharding["name"] == "sharding_indexed"
        inner = sharding["configuration"]["chunk_shape"]
        assert all(outer % part == 0 for outer, part in zip(plane, inner, strict=True))


def test_a_file_holds_one_plane_and_nothing_else_is_there(written: Path, ngff: NgffVersion) -> None:
    plane, array, group = {
        "0.5": ("c.{}.{}.{}.0.0", "zarr.json", ["zarr.json"]),
        "0.4": ("{}/{}/{}/0/0", ".zarray", [".zgroup", ".zattrs"]),
    }[ngff]
    for folder, _ in field_folders(written):
        names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
        planes = [f"{level}/{plane.format(*index)}" for level in (0, 1) for index in np.ndindex(2, 2, 2)]
        assert names == sorted([*planes, f"0/{array}", f"1/{array}", *group])
    assert [f.name for f in (written / "B").iterdir() if f.is_file()] == [group[0]]


@pytest.mark.parametrize(
    ("path", "dtype", "blosc"),
    [
        ("0", "uint16", {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}),
        ("masked/1", "uint16", {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}),
        ("labels/artifacts/0", "int32", {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}),
    ],
)
def test_pixels_and_labels_have_their_codecs(
    masked: Path, ngff: NgffVersion, path: str, dtype: str, blosc: dict[str, Any]
) -> None:
    array = json.loads((masked / "B" / "3" / "0" / path / LAYOUTS[ngff].array_file).read_bytes())
    if ngff == "0.4":
        assert array["compressor"] == {"id": "blosc", **blosc, "shuffle": 2}
        assert array["filters"] is None
        assert (array["dimension_separator"], array["fill_value"]) == ("/", 0)
        assert np.dtype(array["dtype"]) == dtype
    else:
        inner = array["codecs"][0]["configuration"]["codecs"]
        assert [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
        assert inner[1]["configuration"] == {**blosc, "typesize": np.dtype(dtype).itemsize}
        assert array["data_type"] == dtype


def test_a_store_is_of_one_version_of_zarr(masked: Path, ngff: NgffVersion) -> None:
    zarr_format, other = {"0.4": (2, "zarr.json"), "0.5": (3, ".z*")}[ngff]
    assert not list(masked.rglob(other))
    group = zarr.open_group(masked, mode="r", zarr_format=zarr_format)
    assert sorted(group["B/3/0/labels"].group_keys()) == ["artifacts"]
    assert sorted(group.group_keys()) == ["B", "C", "tables"]
    array = zarr.open_array(masked / "B" / "3" / "0" / "0", mode="r", zarr_format=zarr_format)
    np.testing.assert_array_equal(array[:], open_level(masked / "B" / "3" / "0")[:])


def test_in_0_4_each_object_says_its_version(tmp_path: Path) -> None:
    root, plate = tmp_path / "p.zarr", make_plate(field_ids=[1], size=300)
    write_whole_plate(root, plate, ngff="0.4")
    folder, field = root / "B" / "3" / "0", plate.acquisitions[0].wells[0].fields[0]
    with writing(root) as files:
        labels = [((0, 0), labels_of(plate))]
        write_labels(files, folder, plate.acquisitions[0], field, labels, name="artifacts", ngff="0.4")
    label = attributes(folder / "labels" / "artifacts")
    described = [
        attributes(root)["plate"],
        attributes(root / "B" / "3")["well"],
        *attributes(folder)["multiscales"],
        attributes(folder)["omero"],
        *label["multiscales"],
        label["image-label"],
    ]
    assert [entry["version"] for entry in described] == ["0.4"] * 6
    assert attributes(folder / "labels") == {"labels": ["artifacts"]}
    assert json.loads((folder / ".zgroup").read_bytes()) == {"zarr_format": 2}


@pytest.mark.parametrize("size", [64, 1000, 1079, (1024, 1360), 1080, 2160])
def test_every_size_has_handy_chunks_and_a_pyramid(
    tmp_path: Path, size: int | tuple[int, int], ngff: NgffVersion
) -> None:
    plate = make_plate(size=size, field_ids=[1])
    write_whole_plate(tmp_path / "p.zarr", plate, ngff=ngff)
    y, x = plate.acquisitions[0].shape[-2:]
    expected = [(y, x)]
    while max(expected[-1]) > 256:
        expected.append((-(-expected[-1][0] // 2), -(-expected[-1][1] // 2)))
    folder = tmp_path / "p.zarr" / "B" / "3" / "0"
    for level, shape in enumerate(expected):
        array = open_level(folder, level)
        assert array.shape == (1, 1, 1, *shape)
        assert all(n % chunk == 0 for n, chunk in zip(array.shape, array.chunks, strict=True))
        assert max(array.chunks) <= 640 or ngff == "0.4"
    assert not (folder / str(len(expected))).exists()
    if size in (1080, 2160) and ngff == "0.5":
        assert open_level(folder).chunks == (1, 1, 1, 540, 540)
    (place,) = places(plate)
    np.testing.assert_array_equal(np.asarray(open_level(folder)[0, 0, 0]), plane_pixels(plate, place))
    yaozarrs.validate_zarr_store(tmp_path / "p.zarr")


def test_each_level_is_the_mean_of_the_one_before(written: Path) -> None:
    for folder, _ in field_folders(written):
        fine, coarse = (np.asarray(open_level(folder, level)[1, 1, 1]) for level in (0, 1))
        mean = fine.reshape(150, 2, 130, 2).mean(axis=(1, 3))
        assert np.abs(coarse - mean).max() <= 0.5


def test_scales_and_positions_are_in_micrometre(written: Path) -> None:
    plate = small_screen()
    for folder, place in field_folders(written):
        (multiscale,) = ome_of(folder)["multiscales"]
        for level, dataset in enumerate(multiscale["datasets"]):
            scale, translation = dataset["coordinateTransformations"]
            pixel = plate.acquisitions[0].pixel_size_um * 2**level
            assert scale["scale"] == pytest.approx([1, 1, plate.acquisitions[0].z_step_um, pixel, pixel])
            assert translation["translation"][:3] == [0, 0, 0]
            # The centre of the first pixel of a coarser level lies half a pixel further in, if a reader wants it so.
            offset = [
                translation["translation"][3] - place.field.y_um,
                translation["translation"][4] - place.field.x_um,
            ]
            assert all(0 <= o <= pixel / 2 for o in np.round(offset, 9))
            if level == 0:
                assert offset == pytest.approx([0, 0], abs=1e-9)


def test_channels_have_names_colours_and_a_window(written: Path) -> None:
    for folder, _ in field_folders(written):
        channels = ome_of(folder)["omero"]["channels"]
        assert [channel["label"] for channel in channels] == ["Brightfield", "HOECHST 33342"]
        assert [channel["color"] for channel in channels] == ["FFFFFF", "0000FF"]
        for channel in channels:
            window = channel["window"]
            assert 0 <= window["min"] <= window["start"] < window["end"] <= window["max"] <= 65535


def test_colours_follow_the_light(tmp_path: Path) -> None:
    plate = make_plate(channels=CHANNELS, field_ids=[1])
    write_whole_plate(tmp_path / "p.zarr", plate)
    channels = ome_of(tmp_path / "p.zarr" / "B" / "3" / "0")["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FFFFFF", "0000FF", "00FF00", "FF0000"]


def test_a_saturated_plane_has_a_window_within_its_range(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1])
    ((well, field),) = [(w, f) for w in plate.wells for f in w.fields]
    plane = np.full((64, 64), 65535, np.uint16)
    with writing(tmp_path / "p.zarr") as files:
        write_field(files, tmp_path / "p.zarr" / "0", plate.acquisitions[0], field, [((0, 0, 0), plane)], {})
    (channel,) = ome_of(tmp_path / "p.zarr" / "0")["omero"]["channels"]
    assert channel["window"]["start"] < channel["window"]["end"] <= channel["window"]["max"]
    assert well.path == "B/3"


def test_field_ids_are_kept(written: Path) -> None:
    assert [f["field_id"] for f in attributes(written / "B" / "3")["artmask"]["fields"]] == [1, 7]
    assert [i["path"] for i in ome_of(written / "B" / "3")["well"]["images"]] == ["0", "2"]
    assert attributes(written / "C" / "11" / "1")["artmask"]["field_id"] == 2
    assert not (written / "B" / "3" / "1").exists()


def test_a_missing_plane_is_marked_and_has_no_file(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(field_ids=[1], channels=CHANNELS[:2])
    first, second = places(plate)
    folder = tmp_path / "p.zarr" / "B" / "3" / "0"
    planes = [(first.plane, plane_pixels(plate, first))]
    with writing(tmp_path / "p.zarr") as files:
        create_plate(files, tmp_path / "p.zarr", plate, ingest_digest="d", ngff=ngff)
        missing = {second.plane: "it is gone"}
        write_field(files, folder, plate.acquisitions[0], first.field, planes, missing, ngff=ngff)
    assert read_missing_planes(folder) == {(0, 1, 0): "it is gone"}
    (_,) = (f for f in (folder / "0").rglob("*") if f.is_file() and f.name != LAYOUTS[ngff].array_file)
    assert not read_image_plane(folder, plate.acquisitions[0], second.plane).any()
    yaozarrs.validate_zarr_store(tmp_path / "p.zarr")


def test_a_black_plane_reads_as_zeros_and_is_not_missing(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(field_ids=[1])
    (place,) = places(plate)
    folder = tmp_path / "p.zarr" / "0"
    planes = [(place.plane, np.zeros((64, 64), np.uint16))]
    with writing(tmp_path / "p.zarr") as files:
        write_field(files, folder, plate.acquisitions[0], place.field, planes, {}, ngff=ngff)
    assert read_missing_planes(folder) == {}
    assert not np.asarray(open_level(folder)).any()
    assert not read_image_plane(folder, plate.acquisitions[0], (0, 0, 0)).any()


def test_labels_have_the_images_levels_and_no_label_is_invented(masked: Path) -> None:
    labels = labels_of(small_screen())
    for folder, _ in field_folders(masked):
        found = [np.asarray(open_level(folder / "labels" / "artifacts", level)[1, 1]) for level in (0, 1)]
        np.testing.assert_array_equal(found[0], labels)
        np.testing.assert_array_equal(found[1], labels[::2, ::2])
        assert found[0].dtype == np.int32
        assert not (folder / "labels" / "artifacts" / "2").exists()


def test_labels_say_what_they_are(masked: Path) -> None:
    for folder, _ in field_folders(masked):
        ome = ome_of(folder / "labels" / "artifacts")
        assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == list("tzyx")
        assert ome["image-label"]["source"] == {"image": "../../"}
        assert ome["image-label"]["colors"]
        image = ome_of(folder)["multiscales"][0]["datasets"]
        assert len(ome["multiscales"][0]["datasets"]) == len(image)
        for dataset, other in zip(ome["multiscales"][0]["datasets"], image, strict=True):
            for own, theirs in zip(
                dataset["coordinateTransformations"], other["coordinateTransformations"], strict=True
            ):
                kind = own["type"]
                assert own[kind] == theirs[kind][:1] + theirs[kind][2:]


def test_a_second_label_image_is_listed_beside_the_first(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(field_ids=[1], size=(300, 260))
    (place,) = places(plate)
    root = tmp_path / "p.zarr"
    labels = [((0, 0), labels_of(plate))]
    for name in ("weak", "artifacts", "weak"):
        with writing(root) as files:
            write_labels(files, root / "0", plate.acquisitions[0], place.field, labels, name=name, ngff=ngff)
    assert ome_of(root / "0" / "labels")["labels"] == ["artifacts", "weak"]


def test_a_masked_image_has_one_channel_and_the_images_levels(masked: Path) -> None:
    plate = small_screen()
    for folder, place in field_folders(masked):
        array = open_level(folder / "masked")
        assert array.shape == (2, 1, 2, 300, 260)
        np.testing.assert_array_equal(np.asarray(array[0, 0, 0]), plane_pixels(plate, place))
        assert open_level(folder / "masked", 1).shape == (2, 1, 2, 150, 130)
        assert [c["label"] for c in ome_of(folder / "masked")["omero"]["channels"]] == ["Brightfield"]
    assert ome_of(masked / "B" / "3")["well"]["images"] == [
        {"path": "0", "acquisition": 0},
        {"path": "2", "acquisition": 0},
    ]


def test_writing_a_field_again_gives_the_same_bytes(tmp_path: Path, ngff: NgffVersion) -> None:
    plate = make_plate(channels=CHANNELS[:2], size=(300, 260))
    for name in ("first", "second"):
        write_whole_plate(tmp_path / name, plate, ngff=ngff)
    files = sorted(f.relative_to(tmp_path / "first") for f in (tmp_path / "first").rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(tmp_path / "second") for f in (tmp_path / "second").rglob("*") if f.is_file())
    assert all((tmp_path / "first" / f).read_bytes() == (tmp_path / "second" / f).read_bytes() for f in files)


def test_tables_are_read_back(masked: Path) -> None:
    fields, wells = read_table(masked, "fields"), read_table(masked, "wells")
    assert fields["well"].tolist() == ["B/3"] * 2 + ["C/11"] * 3
    assert wells["well"].tolist() == ["B03", "C11"]
    assert (masked / "tables" / "fields" / "table.csv").read_text().startswith("well,field\nB/3,0\n")
    group = read_group(masked / "tables")
    assert group is not None
    assert group.attributes == {"tables": ["fields", "wells"]}


# What is refused


def test_a_store_that_does_not_exist_is_no_plate(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="does not exist"):
        read_plate(tmp_path / "p.zarr")


def test_a_foreign_store_is_no_plate_of_ours(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "p.zarr")
    with pytest.raises(PlateError, match="not a plate that artmask wrote"):
        read_plate(tmp_path / "p.zarr")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def unlink(file: Path) -> None:
    file.unlink()


def strip(file: Path) -> None:
    empty_group = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
    file.write_text(empty_group if file.name == "zarr.json" else "{}")


def no_object(file: Path) -> None:
    file.write_text("[]")


@pytest.mark.parametrize("damage", [cut, empty, unlink, strip, no_object])
@pytest.mark.parametrize("place", ["", "B/3"])
def test_damaged_metadata_is_named(
    tmp_path: Path, damage: Callable[[Path], None], place: str, ngff: NgffVersion
) -> None:
    write_empty_plate(tmp_path / "p.zarr", make_plate(), ngff=ngff)
    damage(tmp_path / "p.zarr" / place / {"0.5": "zarr.json", "0.4": ".zattrs"}[ngff])
    with pytest.raises(PlateError):
        read_plate(tmp_path / "p.zarr")


def test_a_plate_does_not_become_one_of_another_version(tmp_path: Path, ngff: NgffVersion) -> None:
    other: NgffVersion = "0.4" if ngff == "0.5" else "0.5"
    write_empty_plate(tmp_path / "p.zarr", make_plate(), ngff=ngff)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PlateError, match=rf"is there as NGFF {ngff}, and cannot become NGFF {other}\. Ask for {ngff}"):
        write_empty_plate(tmp_path / "p.zarr", make_plate(), ngff=other)
    assert sorted(tmp_path.rglob("*")) == before
    write_empty_plate(tmp_path / "p.zarr", make_plate(), ngff=ngff)


def test_a_field_that_is_not_in_the_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="artmask ingest"):
        read_missing_planes(tmp_path / "0")
    with pytest.raises(PlateError, match="artmask ingest"):
        open_level(tmp_path / "0")

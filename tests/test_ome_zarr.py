import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from exports import CHANNELS, Place, make_plate, places, plane_pixels, small_screen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import writing
from yaozarrs import DimSpec, v05

from artifact_mask.errors import PlateError
from artifact_mask.io.image_metadata import describe_field
from artifact_mask.io.ome_zarr import (
    open_level,
    read_image_plane,
    read_missing_planes,
    write_field,
    write_labels,
    write_masked,
)
from artifact_mask.io.ome_zarr_plate import create_plate, read_plate
from artifact_mask.io.tables import read_table
from artifact_mask.metadata import Channel, Field, Plate

foreign = pytest.mark.filterwarnings("ignore:::ngio", "ignore:::ome_zarr", "ignore:::zarr", "ignore:::anndata")


def labels_of(plate: Plate) -> NDArray[np.int32]:
    """Labels ``(y, x)``: a few objects of different numbers, one of them a single pixel."""
    labels = np.zeros(plate.acquisitions[0].shape[-2:], np.int32)
    labels[10:30, 20:50] = 1
    labels[100:141, 61:82] = 2
    labels[7, 7] = 70000
    return labels


def write_whole_plate(root: Path, plate: Plate) -> None:
    """Write a plate without a cluster."""
    listed = list(places(plate))
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest")
        for well in plate.wells:
            for field in well.fields:
                of_field = [p for p in listed if p.well == well and p.field == field]
                planes = ((p.plane, plane_pixels(plate, p)) for p in of_field)
                write_field(files, root / well.path / str(field.index), plate.acquisitions[0], field, planes, {})


def flipped(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def write_empty_plate(root: Path, plate: Plate) -> None:
    """Write the metadata of a plate alone."""
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest")


@pytest.fixture(scope="session")
def masked(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the ingested plate with labels and a masked image in every field."""
    root = tmp_path_factory.mktemp("masked") / "plate.zarr"
    shutil.copytree(ingested, root)
    plate = small_screen()
    with writing(root) as files:
        for well in plate.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                labels = [((t, z), labels_of(plate)) for t, z in np.ndindex(2, 2)]
                write_labels(files, folder, plate.acquisitions[0], field, labels, name="artifacts")
                source = open_level(folder)
                planes = (((t, 0, z), np.asarray(source[t, 0, z])) for t, z in np.ndindex(2, 2))
                write_masked(files, folder, plate.acquisitions[0], field, 0, planes)
    return root


def attributes(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "zarr.json").read_bytes())
    found: dict[str, Any] = document.get("attributes", {})
    return found


def field_folders(root: Path) -> Iterator[tuple[Path, Place]]:
    seen = set()
    for place in places(small_screen()):
        folder = root / place.well.path / str(place.field.index)
        if folder not in seen:
            seen.add(folder)
            yield folder, place


def arrays_below(folder: Path) -> list[dict[str, Any]]:
    documents = [json.loads(file.read_bytes()) for file in sorted(folder.rglob("zarr.json"))]
    return [document for document in documents if document["node_type"] == "array"]


# Other people's readers and validators


def test_yaozarrs_accepts_the_plate(ingested: Path) -> None:
    yaozarrs.validate_zarr_store(ingested)


def test_yaozarrs_accepts_labels_and_masked_images(masked: Path) -> None:
    yaozarrs.validate_zarr_store(masked)
    for folder, _ in field_folders(masked):
        yaozarrs.validate_zarr_store(folder)
        yaozarrs.validate_zarr_store(folder / "masked")
        yaozarrs.validate_zarr_store(folder / "labels")


@foreign
def test_ome_zarr_models_accept_the_plate_and_its_images(masked: Path) -> None:
    from ome_zarr_models.v05 import HCS, Image, ImageLabel, Labels, Well

    plate = HCS.from_zarr(zarr.open_group(masked, mode="r"))
    assert plate.ome_attributes.plate.name == "screen"
    for folder, _ in field_folders(masked):
        Well.from_zarr(zarr.open_group(folder.parent, mode="r"))
        for image in (folder, folder / "masked"):
            Image.from_zarr(zarr.open_group(image, mode="r"))
        Labels.from_zarr(zarr.open_group(folder / "labels", mode="r"))
        ImageLabel.from_zarr(zarr.open_group(folder / "labels" / "artifacts", mode="r"))


@foreign
def test_ome_zarr_reads_the_pixels(ingested: Path) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    plate = small_screen()
    for folder, place in field_folders(ingested):
        location = parse_url(folder, mode="r")
        assert location is not None
        (image,) = list(Reader(location)())
        assert [axis["name"] for axis in image.metadata["axes"]] == list("tczyx")
        np.testing.assert_array_equal(np.asarray(image.data[0][0, 0, 0]), plane_pixels(plate, place))
    location = parse_url(ingested, mode="r")
    assert location is not None
    assert list(Reader(location)())  # the plate as a whole


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


def test_level_0_is_the_tiff_exactly(ingested: Path) -> None:
    plate = small_screen()
    for place in places(plate):
        image = open_level(ingested / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), plane_pixels(plate, place))


def test_a_plane_is_read_as_zarr_python_reads_it(ingested: Path) -> None:
    plate = small_screen()
    for place in places(plate):
        folder = ingested / place.well.path / str(place.field.index)
        plane = read_image_plane(folder, plate.acquisitions[0], place.plane)
        np.testing.assert_array_equal(plane, np.asarray(open_level(folder)[place.plane]))
        assert plane.dtype == np.uint16


def test_an_image_that_others_rewrote_is_read_all_the_same(ingested: Path, tmp_path: Path) -> None:
    plate = small_screen()
    pixels = np.asarray(open_level(ingested / "B" / "3" / "0"))
    zarr.create_array(tmp_path / "0", data=pixels, chunks=(1, 1, 1, 100, 100))
    np.testing.assert_array_equal(read_image_plane(tmp_path, plate.acquisitions[0], (1, 0, 1)), pixels[1, 0, 1])


@pytest.mark.parametrize("change", [lambda shard: shard[:-1], lambda shard: shard[:20], lambda shard: b"", flipped])
def test_a_damaged_plane_is_named(ingested: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    shutil.copytree(ingested / "B" / "3" / "0", tmp_path / "0")
    shard = tmp_path / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(PlateError, match=r"c/0/0/0/0/0 is damaged"):
        read_image_plane(tmp_path / "0", small_screen().acquisitions[0], (0, 0, 0))


@settings(max_examples=30, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    y_um=st.floats(allow_nan=False, allow_infinity=False),
    reason=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_metadata_is_what_the_models_say(name: str, y_um: float, reason: str) -> None:
    plate = make_plate(channels=[Channel(1, name)], size=600)
    field = Field(7, 9, y_um=y_um, x_um=1)
    document = json.loads(describe_field(plate, field, {(0, 0, 0): reason}, {}))["attributes"]
    assert document["artmask"] == {"field_id": 9, "missing_planes": [{"tcz": [0, 0, 0], "reason": reason}]}
    image = v05.Image.model_validate(document["ome"])
    dims = [
        DimSpec(name="t", unit="second"),
        DimSpec(name="c"),
        DimSpec(name="z", unit="micrometer", scale_factor=1),
        DimSpec(name="y", scale=0.5, unit="micrometer", translation=y_um),
        DimSpec(name="x", scale=0.5, unit="micrometer", translation=1),
    ]
    assert image.multiscales == [v05.Multiscale.from_dims(dims, name="7", n_levels=3)]
    window = v05.OmeroWindow(start=0, end=65535, min=0, max=65535)
    channel = v05.OmeroChannel(label=name, color="FFFFFF", active=True, window=window)
    assert image.omero == v05.Omero(channels=[channel])


def test_a_plate_is_read_back_as_it_was_written(ingested: Path) -> None:
    stored, plate = read_plate(ingested).plate, small_screen()
    assert stored.shape == plate.acquisitions[0].shape
    assert stored.channels == plate.acquisitions[0].channels
    assert (stored.n_rows, stored.n_columns, stored.name) == (plate.n_rows, plate.n_columns, plate.name)
    assert stored.pixel_size_um == pytest.approx(plate.acquisitions[0].pixel_size_um)
    assert stored.z_step_um == pytest.approx(plate.acquisitions[0].z_step_um)
    for found, expected in zip(stored.wells, plate.wells, strict=True):
        assert found.path == expected.path
        assert [(f.index, f.field_id) for f in found.fields] == [(f.index, f.field_id) for f in expected.fields]
        assert [f.y_um for f in found.fields] == pytest.approx([f.y_um for f in expected.fields])
        assert [f.x_um for f in found.fields] == pytest.approx([f.x_um for f in expected.fields])


def test_rows_beyond_z_are_read_back(tmp_path: Path) -> None:
    plate = make_plate(wells=[(1, 1), (26, 2), (27, 3), (32, 48)])
    write_empty_plate(tmp_path / "p.zarr", plate)
    assert read_plate(tmp_path / "p.zarr").plate == plate
    assert [well.path for well in plate.wells] == ["A/1", "Z/2", "AA/3", "AF/48"]


def test_every_image_has_all_five_axes_in_order_and_its_units(masked: Path) -> None:
    for folder, _ in field_folders(masked):
        for image in (folder, folder / "masked"):
            (multiscale,) = attributes(image)["ome"]["multiscales"]
            assert [axis["name"] for axis in multiscale["axes"]] == list("tczyx")
            assert [axis.get("unit") for axis in multiscale["axes"]][2:] == ["micrometer"] * 3


def test_a_plane_of_a_level_is_one_shard_and_inner_chunks_divide_it(masked: Path) -> None:
    arrays = arrays_below(masked)
    assert len(arrays) == small_screen().n_fields * 3 * 2
    for array in arrays:
        shard = array["chunk_grid"]["configuration"]["chunk_shape"]
        assert shard == [1] * (len(array["shape"]) - 2) + array["shape"][-2:]
        (sharding,) = array["codecs"]
        assert sharding["name"] == "sharding_indexed"
        inner = sharding["configuration"]["chunk_shape"]
        assert all(outer % part == 0 for outer, part in zip(shard, inner, strict=True))


def test_a_file_holds_one_plane_and_nothing_else_is_there(ingested: Path) -> None:
    for folder, _ in field_folders(ingested):
        names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
        planes = [f"{s}/c/{t}/{c}/{z}/0/0" for s in (0, 1) for t in (0, 1) for c in (0, 1) for z in (0, 1)]
        assert names == sorted([*planes, "0/zarr.json", "1/zarr.json", "zarr.json"])


@pytest.mark.parametrize(
    ("path", "blosc"),
    [
        ("0", {"typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}),
        ("masked/1", {"typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}),
        ("labels/artifacts/0", {"typesize": 4, "cname": "zstd", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}),
    ],
)
def test_pixels_and_labels_have_their_codecs_and_a_checksum(masked: Path, path: str, blosc: dict[str, Any]) -> None:
    array = json.loads((masked / "B" / "3" / "0" / path / "zarr.json").read_bytes())
    inner = array["codecs"][0]["configuration"]["codecs"]
    assert [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
    assert inner[1]["configuration"] == blosc
    assert array["data_type"] == ("int32" if "labels" in path else "uint16")


def test_a_flipped_bit_in_a_shard_is_noticed(ingested: Path, tmp_path: Path) -> None:
    shutil.copytree(ingested / "B" / "3" / "0", tmp_path / "0")
    shard = tmp_path / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        open_level(tmp_path / "0")[0, 0, 0]


@pytest.mark.parametrize("size", [64, 1000, 1079, (1024, 1360), 1080, 2160])
def test_every_size_has_handy_chunks_and_a_pyramid(tmp_path: Path, size: int | tuple[int, int]) -> None:
    plate = make_plate(size=size, field_ids=[1])
    write_whole_plate(tmp_path / "p.zarr", plate)
    y, x = plate.acquisitions[0].shape[-2:]
    expected = [(y, x)]
    while max(expected[-1]) > 256:
        expected.append((-(-expected[-1][0] // 2), -(-expected[-1][1] // 2)))
    folder = tmp_path / "p.zarr" / "B" / "3" / "0"
    for level, shape in enumerate(expected):
        array = open_level(folder, level)
        assert array.shape == (1, 1, 1, *shape)
        assert all(n % chunk == 0 and chunk <= 640 for n, chunk in zip(array.shape, array.chunks, strict=True))
    assert not (folder / str(len(expected))).exists()
    if size in (1080, 2160):
        assert open_level(folder).chunks == (1, 1, 1, 540, 540)
    (place,) = places(plate)
    np.testing.assert_array_equal(np.asarray(open_level(folder)[0, 0, 0]), plane_pixels(plate, place))
    yaozarrs.validate_zarr_store(tmp_path / "p.zarr")


def test_each_level_is_the_mean_of_the_one_before(ingested: Path) -> None:
    for folder, _ in field_folders(ingested):
        fine, coarse = (np.asarray(open_level(folder, level)[1, 1, 1]) for level in (0, 1))
        mean = fine.reshape(150, 2, 130, 2).mean(axis=(1, 3))
        assert np.abs(coarse - mean).max() <= 0.5


def test_scales_and_positions_are_in_micrometre(ingested: Path) -> None:
    plate = small_screen()
    for folder, place in field_folders(ingested):
        (multiscale,) = attributes(folder)["ome"]["multiscales"]
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


def test_channels_have_names_colours_and_a_window(ingested: Path) -> None:
    for folder, _ in field_folders(ingested):
        channels = attributes(folder)["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in channels] == ["Brightfield", "HOECHST 33342"]
        assert [channel["color"] for channel in channels] == ["FFFFFF", "0000FF"]
        for channel in channels:
            window = channel["window"]
            assert 0 <= window["min"] <= window["start"] < window["end"] <= window["max"] <= 65535


def test_colours_follow_the_light(tmp_path: Path) -> None:
    plate = make_plate(channels=CHANNELS, field_ids=[1])
    write_whole_plate(tmp_path / "p.zarr", plate)
    channels = attributes(tmp_path / "p.zarr" / "B" / "3" / "0")["ome"]["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FFFFFF", "0000FF", "00FF00", "FF0000"]


def test_a_saturated_plane_has_a_window_within_its_range(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1])
    ((well, field),) = [(w, f) for w in plate.wells for f in w.fields]
    plane = np.full((64, 64), 65535, np.uint16)
    with writing(tmp_path / "p.zarr") as files:
        write_field(files, tmp_path / "p.zarr" / "0", plate.acquisitions[0], field, [((0, 0, 0), plane)], {})
    (channel,) = attributes(tmp_path / "p.zarr" / "0")["ome"]["omero"]["channels"]
    assert channel["window"]["start"] < channel["window"]["end"] <= channel["window"]["max"]
    assert well.path == "B/3"


def test_field_ids_are_kept(ingested: Path) -> None:
    assert [f["field_id"] for f in attributes(ingested / "B" / "3")["artmask"]["fields"]] == [1, 7]
    assert [i["path"] for i in attributes(ingested / "B" / "3")["ome"]["well"]["images"]] == ["0", "2"]
    assert attributes(ingested / "C" / "11" / "1")["artmask"]["field_id"] == 2
    assert not (ingested / "B" / "3" / "1").exists()


def test_a_missing_plane_is_marked_and_has_no_file(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1], channels=CHANNELS[:2])
    first, second = places(plate)
    folder = tmp_path / "p.zarr" / "B" / "3" / "0"
    planes = [(first.plane, plane_pixels(plate, first))]
    with writing(tmp_path / "p.zarr") as files:
        create_plate(files, tmp_path / "p.zarr", plate, ingest_digest="d")
        write_field(files, folder, plate.acquisitions[0], first.field, planes, {second.plane: "it is gone"})
    assert read_missing_planes(folder) == {(0, 1, 0): "it is gone"}
    assert [f.relative_to(folder / "0" / "c").as_posix() for f in (folder / "0" / "c").rglob("0") if f.is_file()] == [
        "0/0/0/0/0"
    ]
    yaozarrs.validate_zarr_store(tmp_path / "p.zarr")


def test_a_black_plane_reads_as_zeros_and_is_not_missing(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1])
    (place,) = places(plate)
    folder = tmp_path / "p.zarr" / "0"
    planes = [(place.plane, np.zeros((64, 64), np.uint16))]
    with writing(tmp_path / "p.zarr") as files:
        write_field(files, folder, plate.acquisitions[0], place.field, planes, {})
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
        ome = attributes(folder / "labels" / "artifacts")["ome"]
        assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == list("tzyx")
        assert ome["image-label"]["source"] == {"image": "../../"}
        assert ome["image-label"]["colors"]
        image = attributes(folder)["ome"]["multiscales"][0]["datasets"]
        assert len(ome["multiscales"][0]["datasets"]) == len(image)
        for dataset, other in zip(ome["multiscales"][0]["datasets"], image, strict=True):
            for own, theirs in zip(
                dataset["coordinateTransformations"], other["coordinateTransformations"], strict=True
            ):
                kind = own["type"]
                assert own[kind] == theirs[kind][:1] + theirs[kind][2:]


def test_a_second_label_image_is_listed_beside_the_first(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1], size=(300, 260))
    (place,) = places(plate)
    root = tmp_path / "p.zarr"
    for name in ("weak", "artifacts", "weak"):
        with writing(root) as files:
            write_labels(files, root / "0", plate.acquisitions[0], place.field, [((0, 0), labels_of(plate))], name=name)
    assert attributes(root / "0" / "labels")["ome"]["labels"] == ["artifacts", "weak"]


def test_a_masked_image_has_one_channel_and_the_images_levels(masked: Path) -> None:
    plate = small_screen()
    for folder, place in field_folders(masked):
        array = open_level(folder / "masked")
        assert array.shape == (2, 1, 2, 300, 260)
        np.testing.assert_array_equal(np.asarray(array[0, 0, 0]), plane_pixels(plate, place))
        assert open_level(folder / "masked", 1).shape == (2, 1, 2, 150, 130)
        assert [c["label"] for c in attributes(folder / "masked")["ome"]["omero"]["channels"]] == ["Brightfield"]
    assert attributes(masked / "B" / "3")["ome"]["well"]["images"] == [
        {"path": "0", "acquisition": 0},
        {"path": "2", "acquisition": 0},
    ]


def test_writing_a_field_again_gives_the_same_bytes(tmp_path: Path) -> None:
    plate = make_plate(channels=CHANNELS[:2], size=(300, 260))
    for name in ("first", "second"):
        write_whole_plate(tmp_path / name, plate)
    files = sorted(f.relative_to(tmp_path / "first") for f in (tmp_path / "first").rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(tmp_path / "second") for f in (tmp_path / "second").rglob("*") if f.is_file())
    assert all((tmp_path / "first" / f).read_bytes() == (tmp_path / "second" / f).read_bytes() for f in files)


def test_tables_are_read_back(ingested: Path) -> None:
    fields, wells = read_table(ingested, "fields"), read_table(ingested, "wells")
    assert fields["well"].tolist() == ["B03"] * 2 + ["C11"] * 3
    assert fields["field_id"].tolist() == [1, 7, 1, 2, 7]
    assert wells["n_fields"].tolist() == [2, 3]
    assert (ingested / "tables" / "fields" / "table.csv").read_text().startswith("plate,well,row,column,field,field_id")


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
    file.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


@pytest.mark.parametrize("damage", [cut, empty, unlink, strip])
@pytest.mark.parametrize("place", ["zarr.json", "B/3/zarr.json"])
def test_damaged_metadata_is_named(tmp_path: Path, damage: Callable[[Path], None], place: str) -> None:
    write_empty_plate(tmp_path / "p.zarr", make_plate())
    damage(tmp_path / "p.zarr" / place)
    with pytest.raises(PlateError):
        read_plate(tmp_path / "p.zarr")


def test_a_field_that_is_not_in_the_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="artmask ingest"):
        read_missing_planes(tmp_path / "0")
    with pytest.raises(PlateError, match="artmask ingest"):
        open_level(tmp_path / "0")

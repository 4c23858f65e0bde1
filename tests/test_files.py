"""Files of a store: staged unseen, published together, proved by their stamps."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from artifact_mask.io.files import (
    FileStamp,
    StagedFiles,
    check_stamps,
    publish,
    remove_others,
    sizes_in,
    write_atomically,
)
from artifact_mask.location import Location, to_location

# The checksum of b"123456789" is the check value in the definition of crc32c.
STAMPS = {"a/b/x": FileStamp(9, 0xE3069283), "a/y": FileStamp(0, 0), "c/z": FileStamp(256, 0x9C44184B)}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Store on a disk, with one old file."""
    root = tmp_path / "plate.zarr"
    (root / "a").mkdir(parents=True)
    (root / "a" / "old").write_bytes(b"old")
    return root


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """Folder for staged files."""
    folder = tmp_path / "plate.zarr.artmask" / "staging" / "1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, staging: Path) -> Iterator[Location]:
    """Store with three files, in two folders."""
    is_disk = request.param == "disk"
    root = tmp_path / "plate.zarr" if is_disk else to_location(f"memory://{tmp_path}/plate.zarr")
    with StagedFiles(root, staging) as files:
        files.write(root / "a" / "b" / "x", b"123456789")
        files.write(root / "a" / "y", b"")
        files.write(root / "c" / "z", bytes(range(256)))
        publish([files])
    yield root
    if isinstance(root, UPath):
        root.fs.rm(str(tmp_path), recursive=True)


def contents(root: Location) -> dict[str, bytes]:
    return {str(f)[len(str(root)) + 1 :]: f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


# One file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "x", b"first")
    write_atomically(tmp_path / "deep" / "x", b"second")
    assert (tmp_path / "deep" / "x").read_bytes() == b"second"
    assert os.listdir(tmp_path / "deep") == ["x"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_atomically(tmp_path / "x", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_is_as_readable_as_any_other(disk: Path, staging: Path) -> None:
    write_atomically(disk / "x", b"")
    with StagedFiles(disk, staging) as files:
        files.write(disk / "z", b"")
        publish([files])
    (disk / "y").touch()
    assert (disk / "x").stat().st_mode == (disk / "z").stat().st_mode == (disk / "y").stat().st_mode


# Staged files


def test_nothing_is_seen_before_it_is_published(disk: Path, staging: Path) -> None:
    before = contents(disk)
    with StagedFiles(disk, staging) as files:
        files.write(disk / "a" / "old", b"new")
        files.write(disk / "b" / "c" / "first of its folder", b"x")
        assert contents(disk) == before
        assert not (disk / "b").exists()
        publish([files])
        assert contents(disk) == {"a/old": b"new", "b/c/first of its folder": b"x"}
    assert contents(disk) == {"a/old": b"new", "b/c/first of its folder": b"x"}
    assert list(staging.iterdir()) == []


def test_what_is_not_published_leaves_no_trace(disk: Path, staging: Path) -> None:
    with StagedFiles(disk, staging) as files:
        files.write(disk / "a" / "old", b"new")
    assert contents(disk) == {"a/old": b"old"}
    assert list(staging.iterdir()) == []


def test_an_error_on_the_way_discards_what_was_staged(disk: Path, staging: Path) -> None:
    files = StagedFiles(disk, staging)

    def write_field() -> None:
        with files:
            files.write(disk / "a" / "old", b"new")
            raise ValueError("plane 2 cannot be read")

    with pytest.raises(ValueError, match="cannot be read"):
        write_field()
    publish([files])
    assert contents(disk) == {"a/old": b"old"}
    assert list(staging.iterdir()) == []


def test_many_fields_are_published_together(disk: Path, staging: Path) -> None:
    staged = [StagedFiles(disk, staging) for _ in range(5)]
    for i, files in enumerate(staged):
        for name in ("zarr.json", "0/c/0", "labels/0/c/0"):
            files.write(disk / str(i) / name, f"{i} {name}".encode())
    assert contents(disk) == {"a/old": b"old"}
    staged[3].discard()
    publish(staged)
    found = contents(disk)
    assert len(found) == 1 + 4 * 3
    assert found["4/labels/0/c/0"] == b"4 labels/0/c/0"
    assert not (disk / "3").exists()


def test_a_file_that_is_written_twice_is_the_second(disk: Path, staging: Path) -> None:
    with StagedFiles(disk, staging) as files:
        files.write(disk / "x", b"first")
        files.write(disk / "x", b"second!")
        publish([files])
    assert contents(disk)["x"] == b"second!"
    assert files.stamps["x"].size == 7


def test_publishing_after_another_run_took_over_fails_and_leaves_the_store_untouched(disk: Path, staging: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in disk.rglob("*")}
    with StagedFiles(disk, staging) as files:
        files.write(disk / "a" / "old", b"late")
        files.write(disk / "new", b"late")
        shutil.rmtree(staging)
        with pytest.raises(FileNotFoundError):
            publish([files])
    assert {file: file.stat().st_mtime_ns for file in disk.rglob("*")} == before


@pytest.mark.parametrize("begun", [False, True])
def test_staging_after_another_run_took_over_fails(disk: Path, staging: Path, begun: bool) -> None:
    files = StagedFiles(disk, staging)
    if begun:
        files.write(disk / "a" / "new", b"early")
    shutil.rmtree(staging)
    with pytest.raises(FileNotFoundError):
        files.write(disk / "a" / "old", b"late")
    assert contents(disk) == {"a/old": b"old"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel which file is synced")
def test_files_reach_the_disk_before_their_names_do(disk: Path, staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def note_replace(old: str, new: str) -> None:
        steps.append(f"rename to {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with StagedFiles(disk, staging) as files:
        files.write(disk / "b" / "x", b"1")
        files.write(disk / "c" / "y", b"2")
        publish([files])
    assert sorted(steps[:2]) == ["sync 0", "sync 1"]
    assert steps[2:4] == ["rename to x", "rename to y"]
    assert sorted(steps[4:]) == ["sync b", "sync c"]


def test_a_process_that_is_killed_while_it_stages_leaves_the_store_as_it_was(disk: Path, staging: Path) -> None:
    code = f"""
from pathlib import Path
from artifact_mask.io.files import StagedFiles
files = StagedFiles(Path({str(disk)!r}), Path({str(staging)!r}))
files.write(Path({str(disk)!r}) / "a" / "old", b"half")
print("staged", flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        process.send_signal(signal.SIGKILL)
    assert len(contents(staging)) == 1
    assert contents(disk) == {"a/old": b"old"}


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Sets the size, in bytes, at which the system ends every write with an error, in the middle of a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_broke_off_can_be_tried_again(
    disk: Path, staging: Path, largest_file: Callable[[int], None]
) -> None:
    with StagedFiles(disk, staging) as files:
        files.write(disk / "first", b"x")
        largest_file(100)
        with pytest.raises(OSError, match="File too large"):
            files.write(disk / "second", bytes(1000))
        largest_file(10**9)
        files.write(disk / "second", bytes(1000))
        publish([files])
    assert contents(disk) == {"a/old": b"old", "first": b"x", "second": bytes(1000)}
    assert list(staging.iterdir()) == []


def test_a_write_that_broke_off_leaves_nothing_and_its_error_is_told(
    disk: Path, staging: Path, largest_file: Callable[[int], None]
) -> None:
    def write_field() -> None:
        with StagedFiles(disk, staging) as files:
            files.write(disk / "first", b"x")
            largest_file(100)
            files.write(disk / "second", bytes(1000))

    with pytest.raises(OSError, match="File too large"):
        write_field()
    largest_file(10**9)
    assert contents(disk) == {"a/old": b"old"}
    assert list(staging.iterdir()) == []


def test_stamps_are_of_what_was_written_and_named_relative_to_the_store(store: Location, staging: Path) -> None:
    with StagedFiles(store, staging) as files:
        files.write(store / "a" / "b" / "x", b"123456789")
        files.write(store / "a" / "y", b"")
        files.write(store / "c" / "z", bytes(range(256)))
        files.write(store / "zarr.json", b"shared with later stages", stamped=False)
    assert files.stamps == STAMPS


def test_an_unchanged_file_is_not_written_again(disk: Path, staging: Path) -> None:
    before = (disk / "a" / "old").stat()
    with StagedFiles(disk, staging) as files:
        files.write_if_changed(disk / "a" / "old", b"old")
        files.write_if_changed(disk / "new", b"new")
        files.write_if_changed(disk / "a" / "old" / "below a file", b"cannot be there, and is no error yet")
        assert files.stamps == {}
        files.discard()
        files = StagedFiles(disk, staging)
        files.write_if_changed(disk / "a" / "old", b"old")
        files.write_if_changed(disk / "new", b"new")
        publish([files])
    after = (disk / "a" / "old").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(disk) == {"a/old": b"old", "new": b"new"}


# What is there


def test_all_is_well_with_what_was_written(store: Location) -> None:
    assert check_stamps(store, STAMPS) == {}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "missing"),
        ("a folder", "missing"),
        ("short", "255 bytes instead of 256"),
        ("long", "257 bytes instead of 256"),
        ("empty", "0 bytes instead of 256"),
        ("one bit", "crc32c differs"),
        ("zeros", "crc32c differs"),
    ],
)
def test_a_damaged_file_is_named_and_no_other(store: Location, damage: str, said: str) -> None:
    file = store / "c" / "z"
    content = bytearray(file.read_bytes())
    if damage in ("missing", "a folder"):
        file.unlink()
    if damage == "a folder":
        (file / "inside").parent.mkdir(parents=True)
    elif damage == "short":
        file.write_bytes(content[:-1])
    elif damage == "long":
        file.write_bytes(content + b"\0")
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "one bit":
        content[100] ^= 4
        file.write_bytes(content)
    elif damage == "zeros":
        file.write_bytes(bytes(256))
    ((name, what),) = check_stamps(store, STAMPS).items()
    assert name == "c/z"
    assert said in what


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=300), data=st.data())
def test_no_flipped_bit_is_missed(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    staging = tmp_path / "staging"
    staging.mkdir(exist_ok=True)
    with StagedFiles(tmp_path, staging) as files:
        files.write(tmp_path / "x", content)
        publish([files])
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert check_stamps(tmp_path, files.stamps) == {}
    (tmp_path / "x").write_bytes(damaged)
    assert list(check_stamps(tmp_path, files.stamps)) == ["x"]


def test_sizes_are_told_by_name_and_minus_one_where_nothing_is(store: Location) -> None:
    size_of = sizes_in(store)
    assert [size_of(name) for name in ("a/b/x", "a/y", "c/z")] == [9, 0, 256]
    assert [size_of(name) for name in ("a/b/nothing", "nowhere/x", "a/y/below a file")] == [-1, -1, -1]


def test_an_empty_store_has_no_sizes(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", to_location(f"memory://{tmp_path}/nowhere")):
        assert sizes_in(root)("x") == -1


def test_every_file_but_those_that_are_named_is_removed(store: Location) -> None:
    remove_others([store / "a"], store, {"a/y": FileStamp(0, 0)})
    assert set(contents(store)) == {"a/y", "c/z"}
    assert not (store / "a" / "b").exists()


def test_folders_are_removed_with_their_last_file_and_where_there_is_none_nothing_happens(store: Location) -> None:
    remove_others([store / "a", store / "nowhere"], store, {})
    assert set(contents(store)) == {"c/z"}
    assert not (store / "a").exists()
    remove_others([store / "a"], store, {})
    assert set(contents(store)) == {"c/z"}


def test_a_name_that_begins_like_one_that_is_kept_is_removed(store: Location, staging: Path) -> None:
    with StagedFiles(store, staging) as files:
        files.write(store / "c" / "zz", b"")
        files.write(store / "c" / "z2" / "z", b"")
        publish([files])
    remove_others([store / "c"], store, {"c/z": FileStamp(256, 0)})
    assert set(contents(store)) == {"a/b/x", "a/y", "c/z"}

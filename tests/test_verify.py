"""`artmask verify` finds whatever happened to a file, and the next command mends exactly that."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import run_here
from exports import make_plate, write_export
from listener import Listener

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, VerifyConfig
from artifact_mask.engine.journal import FieldKey, FieldRecord, beside, hold_plate, open_journal
from artifact_mask.engine.stream import Outcome
from artifact_mask.errors import LeaseError
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Summary
from artifact_mask.workflows.run import run
from artifact_mask.workflows.verify import _Check, verify

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
# Two wells, B03 and C04, of three fields each; the damage is done to FieldID 2 of B03.
FIELD, SHARD = "B/3/1", "0/c.0.0.0.0.0"
IMAGE = f"{FIELD}/{SHARD}"
MASKED = f"{FIELD}/masked/{SHARD}"


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (flip_a_bit, "crc32c differs"),
    "shorter": (shorten, "bytes instead of"),
    "missing": (Path.unlink, "missing"),
}


class Screen(NamedTuple):
    """A plate that ingest and run have finished, and its export."""

    plate: Path
    export: Path


@pytest.fixture(scope="module")
def original(shared_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("verify")
    plate = make_plate(wells=[(2, 3), (3, 4)], field_ids=[1, 2, 3], size=128)
    screen = Screen(folder / "plate.zarr", write_export(folder / "export", plate))
    ingest_again(screen)
    run_again(screen)
    return screen


@pytest.fixture
def screen(original: Screen, tmp_path: Path) -> Screen:
    """Copy to be damaged."""
    for folder in (original.plate, beside(original.plate)):
        shutil.copytree(folder, tmp_path / folder.name)
    return Screen(tmp_path / original.plate.name, original.export)


def ingest_again(screen: Screen) -> Summary:
    return ingest(IngestConfig(exports=screen.export, dest=screen.plate, cluster=CLUSTER))


def run_again(screen: Screen) -> Summary:
    return run(RunConfig(plates=(screen.plate,), cluster=CLUSTER))


def check(*plates: Path) -> Summary:
    return verify(VerifyConfig(plates=plates, cluster=CLUSTER))


def contents(plate: Path) -> dict[str, bytes]:
    return {file.relative_to(plate).as_posix(): file.read_bytes() for file in plate.rglob("*") if file.is_file()}


def states(plate: Path) -> dict[str, tuple[int, int]]:
    files = {file.relative_to(plate).as_posix(): file.stat() for file in plate.rglob("*") if file.is_file()}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in files.items()}


def records(plate: Path, stage: str) -> dict[FieldKey, FieldRecord]:
    journal = open_journal(plate, stage)
    assert journal is not None
    return journal.read()


# Nothing is wrong


def test_an_undamaged_plate_passes_and_nothing_of_it_changes(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = states(screen.plate), records(screen.plate, "ingest"), records(screen.plate, "run")
    assert run_here(monkeypatch, "verify", screen.plate) == 0
    said = capsys.readouterr()
    assert "failed" not in said.out
    assert "Error" not in said.err
    assert (states(screen.plate), records(screen.plate, "ingest"), records(screen.plate, "run")) == before


def test_every_file_on_record_is_read_once(screen: Screen) -> None:
    listener = Listener()
    summary = verify(VerifyConfig(plates=(screen.plate,), cluster=CLUSTER), listener)
    assert (summary.n_fields, summary.failures) == (12, ())
    assert listener.begun == [("verify", 12)]
    on_record = [
        stamp.size
        for stage in ("ingest", "run")
        for record in records(screen.plate, stage).values()
        for stamp in record.files.values()
    ]
    assert [sum(column) for column in zip(*listener.advanced, strict=True)] == [12, 0, sum(on_record)]
    # What is not on record are documents that later stages add to, and tables, which are built from the records.
    others = set(contents(screen.plate)) - {
        name for stage in ("ingest", "run") for record in records(screen.plate, stage).values() for name in record.files
    }
    assert all(name.startswith("tables/") or name.endswith("zarr.json") for name in others)
    assert not any("/c/" in name for name in others)


def test_a_plate_that_was_never_begun_has_nothing_to_verify_and_needs_no_cluster(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(beside(screen.plate))
    monkeypatch.setattr("artifact_mask.workflows.campaign.start_cluster", None)
    assert check(screen.plate).n_fields == 0


# Something is wrong


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(("stage", "name"), [("ingest", IMAGE), ("run", MASKED)])
def test_a_damaged_file_is_named_and_its_field_alone_is_done_again(
    screen: Screen,
    original: Screen,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    stage: str,
    name: str,
) -> None:
    damage, reason = DAMAGE[kind]
    damage(screen.plate / name)
    before = states(screen.plate)

    assert run_here(monkeypatch, "verify", screen.plate) == 3
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if name in line]
    assert "B03 field 2" in line
    assert reason in line
    assert f"artmask {stage}" in line
    assert "1 field failed" in said
    # It only looks.
    assert states(screen.plate) == before
    assert [key for key, record in records(screen.plate, stage).items() if record.failed] == [("B/3", 1)]
    # Nor does it forget.
    assert run_here(monkeypatch, "verify", screen.plate) == 3
    assert "B03 field 2" in capsys.readouterr().out
    other = "run" if stage == "ingest" else "ingest"
    assert not any(record.failed for record in records(screen.plate, other).values())

    if stage == "ingest":
        summary = ingest_again(screen)
        assert (summary.n_fields, summary.n_resumed, summary.failures) == (6, 5, ())
    summary = run_again(screen)
    assert (summary.n_fields, summary.n_resumed, summary.failures) == (6, 5, ())
    assert contents(screen.plate) == contents(original.plate)
    after = states(screen.plate)
    assert {name for name in before if before[name] != after[name] and "/c/" in name} <= {
        name for name in before if name.startswith(FIELD + "/")
    }
    assert check(screen.plate).failures == ()


def test_everything_that_is_wrong_is_found_at_once(screen: Screen, original: Screen) -> None:
    flip_a_bit(screen.plate / "B" / "3" / "0" / SHARD)
    shorten(screen.plate / "B" / "3" / "0" / "masked" / SHARD)
    flip_a_bit(screen.plate / "C" / "4" / "2" / "zarr.json")
    shutil.rmtree(screen.plate / "C" / "4" / "0")
    (screen.plate / "B" / "3" / "1" / "masked" / SHARD).unlink()
    (screen.plate / "B" / "3" / "1" / "masked" / SHARD).mkdir()
    summary = check(screen.plate)
    found = sorted((failure.well, failure.field_id, "`artmask run`" in failure.error) for failure in summary.failures)
    assert found == [
        ("B03", 1, False),
        ("B03", 1, True),
        ("B03", 2, True),
        ("C04", 1, False),
        ("C04", 1, True),
        ("C04", 3, False),
    ]
    (screen.plate / "B" / "3" / "1" / "masked" / SHARD).rmdir()
    assert ingest_again(screen).n_resumed == 3
    assert run_again(screen).n_resumed == 2
    assert contents(screen.plate) == contents(original.plate)


def test_what_verify_found_is_in_the_tables_of_the_next_run(screen: Screen) -> None:
    flip_a_bit(screen.plate / IMAGE)
    check(screen.plate)
    # Without the ingest that it asks for.
    (failure,) = run_again(screen).failures
    assert (failure.well, failure.field_id) == ("B03", 2)
    assert IMAGE in failure.error


def test_of_a_campaign_each_damaged_plate_is_named(screen: Screen, original: Screen, tmp_path: Path) -> None:
    folder = tmp_path / "screen"
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        shutil.copytree(original.plate, folder / name)
        shutil.copytree(beside(original.plate), folder / f"{name}.artmask")
    flip_a_bit(folder / "b.zarr" / IMAGE)
    summary = check(folder, screen.plate)
    assert summary.n_fields == 4 * 12
    ((plate, well, field_id, _),) = [tuple(vars(failure).values()) for failure in summary.failures]
    assert (Path(plate), well, field_id) == (folder / "b.zarr", "B03", 2)
    assert not any(record.failed for record in records(folder / "a.zarr", "ingest").values())


def test_a_plate_that_is_being_written_is_not_verified(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_plate(screen.plate, "run"):
        with pytest.raises(LeaseError, match="in use by another run: run, process"):
            check(screen.plate)
        assert run_here(monkeypatch, "verify", screen.plate) == 1
        assert "Wait for it, or stop it" in capsys.readouterr().err
    assert check(screen.plate).failures == ()


def test_a_field_whose_check_failed_is_not_taken_for_good(screen: Screen) -> None:
    journal = open_journal(screen.plate, "run")
    assert journal is not None
    with hold_plate(screen.plate, "verify") as lease:
        check_of_run = _Check(replace(journal, epoch=lease.epoch), journal.read())
        (work,) = [work for work in check_of_run.works() if work.unit.well == "C/4"]
        damage = check_of_run.settle(Outcome(work, None, OSError(5, "Input/output error")))
        (first, *_) = check_of_run.describe(work.unit, damage)
    assert set(damage) == {0, 1, 2}
    assert (first.well, first.field_id) == ("C04", 1)
    assert "could not be checked" in first.error
    assert "Input/output error" in first.error
    failed = sorted(key for key, record in records(screen.plate, "run").items() if record.failed)
    assert failed == [("C/4", 0), ("C/4", 1), ("C/4", 2)]

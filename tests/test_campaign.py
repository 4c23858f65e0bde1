"""Many plates as one stream, and tasks that were thought dead."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client
from exports import make_plate
from listener import Listener

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.journal import FieldKey, FieldRecord, Journal, Unit, beside, digest_of, hold_plate, plan_units
from artifact_mask.engine.stream import Outcome
from artifact_mask.errors import LeaseError, PlateError, StorageError
from artifact_mask.io.files import StagedFiles, publish
from artifact_mask.location import Location
from artifact_mask.metadata import Plate
from artifact_mask.workflows import campaign as campaign_module
from artifact_mask.workflows import unit as unit_module
from artifact_mask.workflows.campaign import Campaign, PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.unit import Receipt, Row, process_unit, retry_writing

FIELDS = [("B/2", 0), ("B/2", 1), ("B/3", 0), ("B/3", 1)]


@dataclass(frozen=True)
class Letters(Stage):
    """Writes two files into each field: what it is told to."""

    name = "letters"
    plate: Location
    ngff = "0.5"
    letter: str = "a"
    broken: tuple[FieldKey, ...] = ()

    def describe(self) -> Plate:
        return make_plate(wells=[(2, 2), (2, 3)])

    @property
    def settings(self) -> dict[str, object]:
        return {"letter": self.letter, "software": "1"}

    def units(self) -> list[Unit]:
        return plan_units(FIELDS, fields_per_unit=2)

    def bind(self, journal: Journal, unit: Unit) -> Callable[[], Receipt]:
        return partial(write_letters, journal, unit, self.letter, self.broken)

    def owned(self, key: FieldKey) -> list[Location]:
        return owned(self.plate, key)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        rows = [
            {"plate": self.plate.name, "well": well, "field_id": index + 1, "error": "", **record.row}
            for (well, index), record in sorted(records.items())
        ]
        return {"fields": pd.DataFrame(rows)}


def owned(plate: Location, key: FieldKey) -> list[Location]:
    return [plate / key[0] / str(key[1])]


def write_letters(
    journal: Journal,
    unit: Unit,
    letter: str,
    broken: tuple[FieldKey, ...] = (),
    pause: Callable[[], Any] = lambda: None,
) -> Receipt:
    def process(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
        for index, files in staged.items():
            (folder,) = owned(journal.plate, (unit.well, index))
            files.write(folder / "x", letter.encode() * 10)
            files.write(folder / "deep" / letter, b"only for this letter")
            pause()
            if (unit.well, index) in broken:
                yield index, ValueError("cannot be read")
            else:
                yield index, {"letter": letter}

    return process_unit(journal, unit, process, partial(owned, journal.plate), field_bytes=100)


def do(*stages: Stage | Exception, progress: Silent | None = None) -> Any:
    """Work through plates as `process_campaign` does, without a cluster."""

    def open_stage(stage: Stage | Exception) -> Stage:
        if isinstance(stage, Exception):
            raise stage
        return stage

    planned = [
        PlannedStage(
            stage.plate if isinstance(stage, Stage) else Path(f"broken{i}.zarr"),
            len(FIELDS),
            partial(open_stage, stage),
        )
        for i, stage in enumerate(stages)
    ]
    with Campaign(planned, {}, progress or Silent()) as campaign:
        for work in campaign.works():
            campaign.settle(Outcome(work, work.bind(work.unit)()))
    return campaign.summary


def read_tree(folder: Location) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()}


# Plates


def test_every_field_of_every_plate_is_done_and_has_its_row(tmp_path: Path) -> None:
    plates = [tmp_path / f"p{i}.zarr" for i in range(3)]
    progress = Listener()
    summary = do(*map(Letters, plates), progress=progress)
    assert (summary.n_fields, summary.n_resumed, summary.failures, summary.refused) == (12, 0, (), {})
    assert progress.advanced == [(2, 0, 200)] * 6
    for plate in plates:
        assert (plate / "B" / "3" / "1" / "x").read_bytes() == b"a" * 10
        assert len(pd.read_csv(plate / "tables" / "fields" / "table.csv")) == 4


def test_a_plate_that_cannot_be_opened_does_not_stop_the_others(tmp_path: Path) -> None:
    progress = Listener()
    summary = do(
        Letters(tmp_path / "a.zarr"), PlateError("it is none"), Letters(tmp_path / "b.zarr"), progress=progress
    )
    assert summary.refused == {"broken1.zarr": "it is none"}
    assert (tmp_path / "b.zarr" / "B" / "3" / "1" / "x").exists()
    assert (4, 4, 0) in progress.advanced
    assert progress.notes == ["Left out: it is none"]


def test_a_single_plate_that_cannot_be_opened_is_an_error() -> None:
    with pytest.raises(PlateError, match="it is none"):
        do(PlateError("it is none"))


def test_a_plate_that_another_run_holds_is_left_out(tmp_path: Path) -> None:
    with hold_plate(tmp_path / "a.zarr", "letters"):
        summary = do(Letters(tmp_path / "a.zarr"), Letters(tmp_path / "b.zarr"))
        with pytest.raises(LeaseError, match="in use"):
            do(Letters(tmp_path / "a.zarr"))
    assert list(summary.refused) == [str(tmp_path / "a.zarr")]
    assert not (tmp_path / "a.zarr").exists()


def test_a_plate_is_free_again_after_its_work_and_after_an_error(tmp_path: Path) -> None:
    do(Letters(tmp_path / "a.zarr"))
    with hold_plate(tmp_path / "a.zarr", "letters"):
        pass
    planned = [PlannedStage(tmp_path / "a.zarr", 4, lambda: Letters(tmp_path / "a.zarr", "b"))]
    with Campaign(planned, {}, Silent()) as campaign:
        next(campaign.works())  # and no more: interrupted
    with hold_plate(tmp_path / "a.zarr", "letters"):
        pass


def test_what_has_changed_is_told_and_everything_is_done_again(tmp_path: Path) -> None:
    do(Letters(tmp_path / "a.zarr"))
    progress = Listener()
    summary = do(Letters(tmp_path / "a.zarr", "b"), progress=progress)
    assert summary.n_resumed == 0
    assert progress.notes[-1] == "  letter: a -> b"
    files = read_tree(tmp_path / "a.zarr" / "B")
    assert set(files) == {f"{well}/{index}/{name}" for well in "23" for index in "01" for name in ("x", "deep/b")}


def test_going_back_to_a_former_setting_does_everything_again(tmp_path: Path) -> None:
    for letter in "aba":
        assert do(Letters(tmp_path / "p.zarr", letter)).n_resumed == 0
    assert do(Letters(tmp_path / "p.zarr", "a")).n_resumed == 4
    assert (tmp_path / "p.zarr" / "B" / "2" / "0" / "x").read_bytes() == b"a" * 10


def test_results_of_a_former_setting_are_removed_where_the_new_one_fails(tmp_path: Path) -> None:
    do(Letters(tmp_path / "a.zarr"))
    summary = do(Letters(tmp_path / "a.zarr", "b", broken=(("B/2", 1),)))
    assert [(f.plate, f.well, f.field_id, f.error) for f in summary.failures] == [
        ("a.zarr", "B/2", 2, "ValueError: cannot be read")
    ]
    assert not (tmp_path / "a.zarr" / "B" / "2" / "1").exists()
    assert (tmp_path / "a.zarr" / "B" / "2" / "0" / "x").read_bytes() == b"b" * 10


def test_failed_fields_alone_are_tried_again(tmp_path: Path) -> None:
    do(Letters(tmp_path / "a.zarr", broken=(("B/2", 1),)))
    progress = Listener()
    summary = do(Letters(tmp_path / "a.zarr"), progress=progress)
    assert summary.n_resumed == 3
    assert progress.advanced == [(1, 0, 100)]
    assert summary.failures == ()


def test_a_campaign_runs_on_a_cluster_with_no_barrier_between_plates(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    finished: list[int] = []
    progress = Listener()

    def planned(number: int) -> PlannedStage:
        def open_stage() -> Stage:
            opened.append(number)
            if number == 1:
                # While the first plate is still at work.
                finished.append(len(progress.advanced))
            return Letters(tmp_path / f"p{number}.zarr")

        return PlannedStage(tmp_path / f"p{number}.zarr", len(FIELDS), open_stage)

    cluster = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
    summary = process_campaign(Workload("letters", [planned(i) for i in range(4)], {}, cluster), progress)
    assert opened == [0, 1, 2, 3]
    assert finished == [0]
    assert summary.n_fields == sum(n for n, _, _ in progress.advanced) == 16
    assert all((tmp_path / f"p{i}.zarr" / "tables" / "fields" / "table.csv").exists() for i in range(4))


def test_no_cluster_is_started_where_nothing_is_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(Letters(tmp_path / "a.zarr"))
    monkeypatch.setattr(campaign_module, "start_cluster", None)
    planned = [PlannedStage(tmp_path / "a.zarr", 4, lambda: Letters(tmp_path / "a.zarr"))]
    summary = process_campaign(Workload("letters", planned, {}, ClusterConfig()), Silent())
    assert summary.n_resumed == 4


def test_a_full_disk_is_an_error_of_all_plates(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="full"):
        do(Letters(tmp_path / "a.zarr"), StorageError("the disk is full"), Letters(tmp_path / "b.zarr"))


def test_an_attempt_to_write_that_failed_leaves_nothing_in_the_next_one(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    (tmp_path / "staging").mkdir()
    files = StagedFiles(plate, tmp_path / "staging")
    attempts: list[int] = []

    def write() -> Row:
        attempts.append(1)
        files.write(plate / f"attempt{len(attempts)}", b"x")
        if len(attempts) == 1:
            raise TimeoutError("the file server is away")
        return {}

    retry_writing(files, write)
    assert list(files.stamps) == ["attempt2"]
    publish([files])
    assert list(read_tree(plate)) == ["attempt2"]
    assert list((tmp_path / "staging").iterdir()) == []


# Tasks that were thought dead


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Journal of a plate that is held."""
    stage = Letters(tmp_path / "p.zarr")
    with hold_plate(stage.plate, stage.name) as lease:
        journal = Journal(stage.plate, stage.name, digest_of(stage.name, stage.settings), lease.epoch)
        journal.begin(stage.settings, {})
        yield journal


UNIT = Unit("B/2", (0, 1))


def test_a_task_that_ends_a_second_time_changes_nothing(journal: Journal) -> None:
    write_letters(journal, UNIT, "a")
    before = read_tree(journal.plate)
    write_letters(journal, UNIT, "a")
    assert read_tree(journal.plate) == before
    assert journal.pending([UNIT], journal.read()) == []


def test_a_task_that_fails_late_neither_removes_nor_denies_what_its_successor_did(journal: Journal) -> None:
    write_letters(journal, UNIT, "a")
    before = read_tree(journal.plate)
    write_letters(journal, UNIT, "a", broken=(("B/2", 0), ("B/2", 1)))
    assert read_tree(journal.plate) == before
    assert journal.pending([UNIT], journal.read()) == []


def test_two_tasks_that_do_the_same_at_once_do_it_once(journal: Journal) -> None:
    both = threading.Barrier(2)
    threads = [
        threading.Thread(target=write_letters, args=(journal, UNIT, "a"), kwargs={"pause": lambda: both.wait(10)})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.pending([UNIT], journal.read()) == []
    assert sorted(read_tree(journal.plate)) == ["B/2/0/deep/a", "B/2/0/x", "B/2/1/deep/a", "B/2/1/x"]


@pytest.mark.parametrize("late", ["starts", "writes", "publishes"])
def test_a_task_of_a_run_that_was_taken_over_writes_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr("artifact_mask.engine.lease.is_alive", lambda *_, **__: False)
    stage = Letters(journal.plate, "b")
    other = replace(journal, digest=digest_of(stage.name, stage.settings), epoch=journal.epoch + 1)

    def take_over() -> None:
        if not other.lease.is_held:
            with hold_plate(journal.plate, "letters"):
                other.begin(stage.settings, {})
                write_letters(other, UNIT, "b")

    if late == "starts":
        take_over()
    elif late == "publishes":
        publish = unit_module.publish

        def take_over_first(files: Any) -> None:
            if not other.lease.is_held:
                take_over()
            publish(files)

        monkeypatch.setattr(unit_module, "publish", take_over_first)
    with pytest.raises(LeaseError, match="taken over"):
        write_letters(journal, UNIT, "a", pause=take_over if late == "writes" else lambda: None)
    assert sorted(read_tree(journal.plate)) == ["B/2/0/deep/b", "B/2/0/x", "B/2/1/deep/b", "B/2/1/x"]
    assert set(read_tree(journal.plate).values()) == {b"b" * 10, b"only for this letter"}
    assert journal.read() == {}
    assert other.pending([UNIT], other.read()) == []
    assert not (beside(journal.plate) / "staging").exists()


def test_a_failure_that_was_recorded_by_a_former_run_is_outdone_by_a_later_one(journal: Journal) -> None:
    write_letters(journal, UNIT, "a")
    failed = {0: FieldRecord({"error": "damaged"}, {})}
    replace(journal, epoch=journal.epoch).commit(Unit("B/2", (0,)), failed)
    assert not journal.read()["B/2", 0].failed  # of the same run: of a task that was thought dead

"""Each worker process tells what it did, beside the plate."""

import json
import os
import socket
from collections import Counter
from pathlib import Path

from artifact_mask.engine.journal import Journal, Unit, beside, hold_plate
from artifact_mask.engine.worker_log import log_unit
from artifact_mask.location import to_location


def lines(plate: Path) -> dict[str, list[dict[str, object]]]:
    logs = (beside(plate) / "logs").glob("*")
    return {log.name: [json.loads(line) for line in log.read_text().splitlines()] for log in logs}


def test_each_unit_is_a_line_in_the_log_of_its_process_and_run(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    for epoch in (1, 2):
        with hold_plate(plate, "ingest") as lease:
            journal = Journal(plate, "ingest", "digest", lease.epoch)
            log_unit(journal, Unit("B/3", (0, 1)), started=0.0, errors={})
            log_unit(journal, Unit("B/3", (2,)), started=86400.0, errors={2: 'it "broke"\nin two lines'})
        assert lease.epoch == epoch
    process = f"{socket.gethostname()}-{os.getpid()}"
    found = lines(plate)
    assert set(found) == {f"ingest-1-{process}.jsonl", f"ingest-2-{process}.jsonl"}
    first, second = found[f"ingest-2-{process}.jsonl"]
    assert (first["time"], first["unit"], first["fields"], first["errors"]) == (
        "1970-01-01T00:00:00Z",
        "B3-0_1",
        2,
        {},
    )
    assert second["time"] == "1970-01-02T00:00:00Z"
    assert second["errors"] == {"2": 'it "broke"\nin two lines'}
    assert isinstance(first["seconds"], float)
    assert first["seconds"] > 1e9


def test_the_logs_of_an_ingest_tell_of_every_field_once(ingested: Path) -> None:
    logs = lines(ingested)
    units = Counter(str(line["unit"]) for log in logs.values() for line in log)
    assert units == {"B3-0": 1, "B3-2": 1, "C11-0": 1, "C11-1": 1, "C11-2": 1}
    assert all(line["stage"] == "ingest" and line["errors"] == {} for log in logs.values() for line in log)
    # One file a process, and none of ours: workers did the work.
    assert not any(name.endswith(f"-{os.getpid()}.jsonl") for name in logs)


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    with hold_plate(plate, "ingest") as lease:
        (beside(plate) / "logs").write_text("a file where the folder belongs")
        log_unit(Journal(plate, "ingest", "digest", lease.epoch), Unit("B/3", (0,)), started=0.0, errors={})
    assert (beside(plate) / "logs").read_text() == "a file where the folder belongs"


def test_an_object_store_has_no_logs() -> None:
    plate = to_location("memory://test_worker_log/p.zarr")
    log_unit(Journal(plate, "ingest", "digest", 1), Unit("B/3", (0,)), started=0.0, errors={})
    assert not beside(plate).exists()

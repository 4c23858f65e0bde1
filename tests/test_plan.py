"""What `--dry-run` concludes from: records of the plates themselves, of plates beside them, or known figures."""

import shutil
from pathlib import Path

import pytest

from artifact_mask.config import ClusterConfig, ExportConfig, IngestConfig, RunConfig, StainConfig
from artifact_mask.engine.journal import beside, open_journal
from artifact_mask.errors import PlateError
from artifact_mask.workflows.plan import plan
from artifact_mask.workflows.run import run

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)


@pytest.fixture(scope="module")
def masked(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plate that `run` was run on; not to be changed."""
    copy = tmp_path_factory.mktemp("masked") / "plate.zarr"
    shutil.copytree(ingested, copy)
    shutil.copytree(beside(ingested), beside(copy))
    run(RunConfig(plates=copy, fields_per_unit=1, cluster=CLUSTER))
    return copy


def written(plate: Path, stage: str) -> int:
    journal = open_journal(plate, stage)
    assert journal is not None
    return sum(stamp.size for record in journal.read().values() for stamp in record.files.values())


def test_a_repetition_is_expected_to_write_as_much_as_before(masked: Path) -> None:
    planned = plan(RunConfig(plates=masked, threshold=0.77))
    assert planned.size_from == "as was written for plate.zarr"
    # A field that failed wrote nothing, and is expected to.
    journal = open_journal(masked, "run")
    assert journal is not None
    n_failed = sum(record.failed for record in journal.read().values())
    n_fields = planned.plates[0].n_fields
    assert planned.bytes_to_write == pytest.approx(written(masked, "run") * n_fields / (n_fields - n_failed))
    assert planned.rate_from.startswith("as fast as the latest run on plate.zarr")


def test_a_new_plate_is_expected_to_be_like_the_one_beside_it(masked: Path, ingested: Path, tmp_path: Path) -> None:
    export = ingested.with_name("export")
    beside_it = plan(IngestConfig(exports=export, dest=masked.with_name("other.zarr")))
    assert beside_it.size_from == "as was written for plate.zarr"
    alone = plan(IngestConfig(exports=export, dest=tmp_path / "other.zarr"))
    assert alone.size_from.startswith("rough")
    assert alone.rate_from.startswith("rough")
    assert alone.bytes_to_write > 0
    assert not (tmp_path / "other.zarr").exists()


def test_fields_whose_files_are_gone_are_told_from_new_ones(masked: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plate.zarr"
    shutil.copytree(masked, copy)
    shutil.copytree(beside(masked), beside(copy))
    (before,) = plan(RunConfig(plates=copy)).plates
    done = next(key for key, record in open_journal(copy, "run").read().items() if not record.failed)  # type: ignore[union-attr]
    shutil.rmtree(copy / done[0] / str(done[1]) / "masked")
    (after,) = plan(RunConfig(plates=copy)).plates
    assert (before.n_damaged, after.n_damaged) == (0, 1)
    assert after.n_left == before.n_left + 1
    assert after.n_failed == before.n_failed


def test_what_would_be_looked_at_is_said(masked: Path, tmp_path: Path) -> None:
    planned = plan(RunConfig(plates=masked))
    assert planned.plates[0].about == {"channel": "Brightfield", "flat field": "none", "resampled by": "1.67"}
    assert planned.model == "supervised (of artmask)"
    assert plan(RunConfig(plates=masked, model="weak")).model == "weak"
    assert plan(StainConfig(plates=masked)).plates[0].about == {"channel": "Brightfield", "thresholds": "0.08"}
    exported = plan(ExportConfig(plates=masked, dest=tmp_path / "out", format="geojson")).plates[0]
    assert exported.about["format"] == "geojson"
    assert exported.plate == tmp_path / "out" / "plate"
    assert not (tmp_path / "out").exists()


def test_formats_cost_what_they_cost_and_not_what_others_did(masked: Path, tmp_path: Path) -> None:
    sizes = {
        form: plan(ExportConfig(plates=masked, dest=tmp_path, format=form)).bytes_to_write
        for form in ("cellprofiler", "geojson")
    }
    assert sizes["geojson"] < sizes["cellprofiler"] / 10


def test_tables_weigh_what_they_weigh(masked: Path, tmp_path: Path) -> None:
    planned = plan(ExportConfig(plates=masked, dest=tmp_path / "out", format="tables"))
    files = [file for file in (masked / "tables").rglob("table.*") if file.suffix in (".csv", ".parquet")]
    assert planned.bytes_to_write == sum(file.stat().st_size for file in files)
    assert not (tmp_path / "out").exists()


def test_a_plate_of_another_version_of_ngff_is_refused_as_by_ingest(masked: Path, ingested: Path) -> None:
    with pytest.raises(PlateError, match="cannot become NGFF"):
        plan(IngestConfig(exports=ingested.with_name("export"), dest=masked, ngff="0.4"))


def test_one_plate_of_several_that_cannot_be_done_is_left_out(masked: Path, ingested: Path) -> None:
    planned = plan(StainConfig(plates=[masked, ingested]))
    assert [plate.plate for plate in planned.plates] == [masked]
    assert "Run `artmask run" in planned.refused[str(ingested)]


def test_more_workers_take_less_time(ingested: Path, tmp_path: Path) -> None:
    export, dest = ingested.with_name("export"), tmp_path / "plate.zarr"

    def seconds(workers: int) -> float:
        cluster = ClusterConfig(kind="slurm", workers=workers)
        found = plan(IngestConfig(exports=export, dest=dest, cluster=cluster)).seconds
        assert found is not None
        return found

    assert seconds(10) == pytest.approx(seconds(1) / 10)

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# Before anything imports torch: small networks are faster on one thread, and several tests run at a time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asserts a time; on a busy machine any example may be slow.
hypothesis.settings.register_profile("artmask", deadline=None)
hypothesis.settings.load_profile("artmask")

# The importlib mode leaves the tests' folder off the path; `exports` is shared by several modules.
sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from artifact_mask.metadata import NgffVersion


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real exports, where they are at hand; no test needs them."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real exports are not here")
    return folder


@pytest.fixture(scope="session")
def client() -> "Iterator[Client]":
    """Client of a real cluster of two processes."""
    from artifact_mask.config import ClusterConfig
    from artifact_mask.engine.cluster import start_cluster

    with start_cluster(ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)) as client:
        yield client


@pytest.fixture(scope="module")
def shared_cluster(client: "Client") -> "Iterator[None]":
    """Let all workflows of a module in this process use the session's cluster, instead of starting one each."""
    from artifact_mask.workflows import campaign

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "start_cluster", lambda config, **_: nullcontext(client))
        yield


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plate that `ingest` wrote from `exports.small_screen()`; not to be changed."""
    from exports import small_screen, write_export

    from artifact_mask.config import ClusterConfig, IngestConfig
    from artifact_mask.workflows.ingest import ingest

    folder = tmp_path_factory.mktemp("ingested")
    export = write_export(folder / "export", small_screen())
    cluster = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", fields_per_unit=1, cluster=cluster))
    return folder / "plate.zarr"


@pytest.fixture(scope="session", params=["0.5", "0.4"])
def ngff(request: pytest.FixtureRequest) -> "NgffVersion":
    """Each version of NGFF in turn."""
    version: NgffVersion = request.param
    return version

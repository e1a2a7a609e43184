"""What a run tells Prefect beside its states."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import Artifact
from prefect.runtime import flow_run

from flows.progress import told_to_prefect
from tasks.core.base.progress import Progress, report
from tests.flows.conftest import Run
from tests.small_dataset import write_random_dataset

ROOT = Path(__file__).resolve().parents[2]


def artifacts_of(runs: FlowRunFilter) -> dict[str, Artifact]:
    with get_client(sync_client=True) as client:
        return {str(artifact.key): artifact for artifact in client.read_artifacts(flow_run_filter=runs)}


def test_a_run_leaves_a_summary_with_pictures_and_a_full_bar_in_the_ui(run: Run, tmp_path: Path) -> None:
    dataset = write_random_dataset(tmp_path / "<b>_cells_ &lt;")
    ran = run(dataset=dataset, samples=60, pca_dim=5, clusters=2, partition_cells=20)
    assert ran.code == 0, ran.err
    name, whose = "60 cells of <b>_cells_ &lt;, 5 components, 2 clusters", "b-cells-lt"
    artifacts = artifacts_of(FlowRunFilter(name=FlowRunFilterName(any_=[name])))
    assert artifacts.keys() == {f"summary-{whose}", f"progress-{whose}"}
    assert (artifacts[f"progress-{whose}"].data, artifacts[f"progress-{whose}"].description) == (100.0, "done")
    summary = str(artifacts[f"summary-{whose}"].data)
    assert r"\<b\>\_cells\_ \&lt\;" in summary
    assert "<b>" not in summary
    for component in ran.record["svd"]["components"]:
        assert f"| {component['pc']} | {component['singular_value']:.5g} |" in summary
    assert len(summary) < 150_000
    for name in ("scree.png", "embedding.png"):
        written = (ran.output / name).read_bytes()
        assert f"(data:image/png;base64,{base64.b64encode(written).decode()})" in summary
        Image.open(io.BytesIO(written)).verify()
    assert {"scree.png", "embedding.png"} <= {output["name"] for output in ran.record["outputs"]}


def test_the_log_tells_the_run_as_a_story(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = write_random_dataset(tmp_path / "dataset", group_rows=2)
    run(dataset=dataset, samples=60, pca_dim=5, clusters=2, partition_cells=2)
    told = [record for record in caplog.records if record.name.startswith("prefect.") and record.levelname == "INFO"]
    lines = [record.getMessage() for record in told]
    assert any(line.startswith("60 cells of") and "in 30 partitions" in line for line in lines)
    assert [line for line in lines if line.startswith("normalization: ")] == [
        f"normalization: partition {done} of 30" for done in range(3, 31, 3)
    ]
    assert any(line.startswith("svd: pass 1, worst residual") for line in lines)
    assert lines.index("svd: done") < lines.index("embedding: partition 3 of 30")
    assert any("Results are in" in line for line in lines)
    of_partitions = [record for record in told if "from row" in str(getattr(record, "task_run_name", ""))]
    assert len(of_partitions) <= 4 * 30
    names = {str(getattr(record, "task_run_name", "")) for record in of_partitions}
    for step in ("stream", "build counts of", "normalize", "embed"):
        assert f"{step} data/train-00001-of-00002.parquet from row 6" in names


def test_a_run_goes_on_where_its_progress_cannot_be_shown(
    prefect_server: None, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def forgotten() -> str:
        with told_to_prefect({"svd": 1.0}):
            this = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
            client = get_client(sync_client=True)
            bars = ArtifactFilter(key=ArtifactFilterKey(any_=["progress"]))
            (bar,) = client.read_artifacts(artifact_filter=bars, flow_run_filter=this)
            client.delete_artifact(bar.id)
            for number in range(1, 4):
                report(Progress("svd", "pass", number))
        return "whole"

    assert forgotten() == "whole"
    assert caplog.text.count("the UI will not show the progress") == 1


def test_what_draws_is_not_imported_before_there_is_something_to_draw() -> None:
    script = "import sys, flows.cluster_cells; sys.exit(bool({'matplotlib', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0

"""The commands that are timed, each as a whole process tree, from nothing but the dataset."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tests.bench.alone import CLUSTERS, COMPONENTS
from tests.bench.measure import ROOT, run

Figures = dict[str, Any]


@dataclass(frozen=True)
class Commands:
    """Commands on one dataset.

    Attributes:
        dataset: a folder.
        cells: how many of it.
        scratch: a folder for what they leave.
    """

    dataset: Path
    cells: int
    scratch: Path

    def script(self) -> Figures:
        """The plain script."""
        sizes = [str(number) for number in (self.cells, COMPONENTS, CLUSTERS)]
        output = self.scratch / "script"
        words = ["-m", "tests.bench.plain_script", str(self.dataset), *sizes, str(output)]
        return self._run(words) | {"ratios": _ratios(output)}

    def flow(self, server: str | None = None, **settings: object) -> Figures:
        """The flow, with an empty store; with a temporary server of its own unless one is named."""
        self._empty_store()
        output = self.scratch / "flow"
        flags = {"pca_dim": COMPONENTS, "clusters": CLUSTERS, "dataset": self.dataset, "samples": self.cells}
        places = {"store": self.scratch / "store", "output": output}
        words = [word for name, value in (flags | places | settings).items() for word in (f"--{name}", str(value))]
        figures = self._run(["flows/run.py", *words], {} if server is None else {"PREFECT_API_URL": server})
        record = json.loads((output / "run.json").read_text())
        return figures | {
            "ratios": _ratios(output),
            "stages": {stage["stage"]: stage["seconds"] for stage in record["stages"]},
            "nonzeros": record["read"]["nonzeros"],
            "bytes_on_disk": {stage.name: _size(stage) for stage in (self.scratch / "store").iterdir()},
        }

    def without_prefect(self) -> Figures:
        """The flow's stages as plain calls, with an empty store."""
        self._empty_store()
        return self.alone("without_prefect")

    def alone(self, what: str) -> Figures:
        """One thing of `tests.bench.alone`, with the store as it is; the costs are those of the thing alone."""
        answer = self.scratch / "answer"
        words = ["-m", "tests.bench.alone", what, str(self.dataset), str(self.cells)]
        whole = self._run([*words, str(self.scratch / "store"), str(answer)])
        figures: Figures = json.loads(answer.read_text())
        return whole | figures

    def svd_ours(self) -> Figures:
        """Our SVD, made anew from the blocks in the store."""
        shutil.rmtree(self.scratch / "store" / "svd", ignore_errors=True)
        return self.alone("svd_ours")

    def _run(self, words: list[str], environment: Mapping[str, str] | None = None) -> Figures:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        ours = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(self.scratch / "prefect")}
        return asdict(run([sys.executable, *words], inherited | ours | dict(environment or {}), self.scratch))

    def _empty_store(self) -> None:
        shutil.rmtree(self.scratch / "store", ignore_errors=True)


def _ratios(output: Path) -> list[float]:
    return pl.read_csv(output / "pca_variance.csv")["explained_variance_ratio"].to_list()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

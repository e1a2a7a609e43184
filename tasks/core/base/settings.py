"""The settings of a run: the one place where each is named, described, bounded and given its default.

The command line, environment variables, settings files and the flows' parameters are all made from `Settings`, of a
run that fits a model, and `ApplySettings`, of one that applies it.
"""

import os
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SYNTHETIC = "synthetic"
ALL: Literal["all"] = "all"


def available_cores() -> int:
    """Cores this process may run on, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _without_credentials(url: str) -> str:
    if _has_credentials(url):
        raise ValueError("credentials do not belong in a URL: give them in the environment")
    return url


def _has_credentials(url: object) -> bool:
    return "@" in urlsplit(str(url)).netloc


Url = Annotated[str, Field(min_length=1), AfterValidator(_without_credentials)]


class CellSettings(BaseModel):
    """Which cells to read."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    dataset: Url = Field("tahoebio/Tahoe-100M")
    """Hugging Face id, a local folder of the same layout, or 'synthetic' for simulated cells."""
    samples: Annotated[int, Field(gt=0)] | Literal["all"] = Field(20_000)
    """Cells to stream, from the first on; 'all' for every cell."""


class FitSettings(CellSettings):
    """What to fit to the cells."""

    pca_dim: int = Field(50, ge=1, le=1000)
    """Components of the truncated SVD."""
    clusters: int = Field(10, ge=1, le=65_535)
    """K-means clusters."""
    svd_tolerance: float = Field(5e-4, gt=0, lt=1)
    """Largest relative residual of a component at which the SVD stops."""
    svd_max_passes: int = Field(50, ge=2, le=200)
    """Passes over the data after which the SVD stops in any case."""
    series: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Name of a series of recurring runs: each begins from the one before, keeps its cluster names and tells drift."""
    drift_agreement: float = Field(0.8, ge=0, le=1)
    """Adjusted Rand index with the run before, on the cells of both, below which a run of a series has drifted."""
    drift_overlap: float = Field(0.9, ge=0, le=1)
    """Share of the variance along the last run's components that the new ones must span not to have drifted."""


class ModelSettings(CellSettings):
    """What to apply to the cells."""

    model: Url = Field()
    """The model to apply: the output folder of an earlier run, a path or s3://bucket/prefix."""


class RunSettings(CellSettings):
    """How to read cells, and where to leave what is computed, whatever it is."""

    revision: str | None = Field(None, min_length=1)
    """Revision on the Hub: a branch, tag or commit; resolved to a commit and recorded."""
    store: Url = Field(".store")
    """Where intermediates live: a path or s3://bucket/prefix."""
    keep_intermediates: Literal["none", "counts", "all"] = Field("all")
    """What stays in the store after a run that ended well: nothing, the cells and their counts, or all."""
    output: Url = Field(".")
    """Where results go: a path or s3://bucket/prefix."""
    seed: int = Field(42, ge=0, lt=2**32)
    """One seed for the whole run."""
    on_bad_data: Literal["fail", "skip"] = Field("fail")
    """What to do with cells and shards that break the dataset's layout: fail, or skip them and say so."""
    most_skipped: float = Field(0.01, ge=0, le=1)
    """Share of the cells that may be skipped; more fails the run."""
    retries: int = Field(5, ge=0, le=10)
    """Times to try again where a host does not answer: after 2, 4, 8 ... s, or as it asks, ten minutes at most."""
    credentials: str | None = Field(None, pattern=r"^[a-z0-9_-]+/[^/\s]+$", max_length=200)
    """Prefect block with S3 credentials: secret/NAME, its value JSON of AWS_... names, or aws-credentials/NAME."""
    stage_timeout: float | None = Field(None, gt=0)
    """Seconds that a stage may take; more fails the run, and what is finished is kept. By default there is no limit."""
    partition_cells: int = Field(10_000, ge=1, le=1_000_000)
    """Cells in a partition, the unit of work, retry and reuse."""
    block_cells: int = Field(2_000, ge=1, le=20_000)
    """Cells in a block, the most that a worker holds in memory at once."""
    workers: int | None = Field(None, ge=1, le=1024)
    """Threads that work at the same time; by default as many as there are cores."""

    @property
    def threads(self) -> int:
        """Workers asked for, or as many as there are cores where the run is."""
        return self.workers or available_cores()

    @property
    def patience(self) -> float:
        """Seconds that all retries take together."""
        return 2.0 ** (self.retries + 1) - 2.0

    @property
    def is_synthetic(self) -> bool:
        """Whether the cells are to be simulated."""
        return self.dataset == SYNTHETIC


# A model's fields stand in the order of its bases, the last first: what to compute comes before how.
class Settings(RunSettings, FitSettings):
    """Of a run that fits a model: what to read, what to compute and where to leave it."""


class ApplySettings(RunSettings, ModelSettings):
    """Of a run that applies a model: what to read, the model and where to leave what it gives."""


def explain(error: ValidationError) -> str:
    """Say in one line which settings were refused, with the values seen and the bounds."""
    return "; ".join(_explain_one(str(problem["loc"][0]), problem) for problem in _one_per_setting(error))


def _one_per_setting(error: ValidationError) -> list[dict[str, Any]]:
    # A setting of two types (samples) is refused once for each: the first says the bound.
    first: dict[Any, dict[str, Any]] = {}
    for problem in error.errors(include_url=False):
        first.setdefault((problem["loc"] or ("settings",))[0], dict(problem))
    return [problem | {"loc": (name,)} for name, problem in first.items()]


def _explain_one(name: str, problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; --help lists them"
    fields = Settings.model_fields | ApplySettings.model_fields
    meaning = fields[name].description if name in fields else None
    hint = f" ({meaning.rstrip('.')})" if meaning else ""
    if problem["type"] == "missing":
        return f"--{name} is missing{hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = "(not shown)" if name == "credentials" or _has_credentials(problem["input"]) else problem["input"]
    return f"--{name} {value}: {message[0].lower()}{message[1:]}{hint}"

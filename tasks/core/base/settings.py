"""The settings of a run: the one place where each is named, described, bounded and given its default.

The command line, environment variables, settings files and the flows' parameters are all made from `Settings`, of a
run that fits a model, and `ApplySettings`, of one that applies it.
"""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from tasks.core.base.errors import SettingsError
from tasks.core.base.recipes import (
    NONE,
    PLAIN,
    RECIPES,
    Correction,
    Decomposition,
    GeneChoice,
    Layout,
    Recipe,
    Sampling,
)

SYNTHETIC = "synthetic"
ALL: Literal["all"] = "all"


def available_cores() -> int:
    """Cores this process may use: in a container, whose quota is a share of time, fewer than the machine has."""
    from joblib import cpu_count  # noqa: PLC0415  (a command that only complains should not wait for it)

    try:
        cores: int = cpu_count()
    except ValueError:
        shown = ascii(os.environ.get("LOKY_MAX_CPU_COUNT"))
        raise SettingsError(f"LOKY_MAX_CPU_COUNT={shown} is no whole number: give one, or unset it") from None
    return cores


def _without_credentials(url: str) -> str:
    if has_credentials(url):
        raise ValueError("credentials do not belong in a URL: give them in the environment")
    return url


def has_credentials(url: object) -> bool:
    """Whether a URL names a user, and so maybe a password."""
    return "@" in str(url).partition("://")[2].partition("/")[0]


def is_on_s3(place: str) -> bool:
    """Whether a place is on S3, not a path on this machine, which may have any characters.

    Raises:
        SettingsError: it is neither, or not as it is to be written.
    """
    if "\0" in place:
        raise SettingsError("no place has a NUL in its name")
    if re.match(r"s3a?://[^/?]+(/|$)", place):
        if "?versionId=" in place:
            raise SettingsError("'?versionId=' cannot be in the name of a place on S3")
        return True
    if re.match(r"s3a?:", place, re.IGNORECASE):
        raise SettingsError("a place on S3 is written as s3://bucket/prefix, in small letters and with two slashes")
    if re.match(r"[a-z][a-z0-9+.-]*:/", place, re.IGNORECASE):
        raise SettingsError("it is neither a path nor a place as s3://bucket/prefix; a path may begin with ./")
    return False


def _as_place(place: str) -> str:
    is_on_s3(place)
    return place


def _as_output(place: str) -> str:
    if re.search(r"^s3a?://[^/]*{date}|{date}.*/\.\.(/|$)", place):
        raise ValueError("{date} may be in the name of a folder, not of a bucket, nor have '..' behind it")
    return place


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "pattern": pattern}


# For whoever knows the schema alone, as Prefect's server does: what it refuses, it does not keep either.
_NO_CREDENTIALS = "^(?!.*?://[^/]*@)"
_PLACE = _NO_CREDENTIALS + "(s3a?://[^/?]+(/|$)|(?![sS]3[aA]?:|[a-zA-Z][a-zA-Z0-9+.-]*:/))"

Url = Annotated[str, Field(min_length=1), AfterValidator(_without_credentials), WithJsonSchema(_text(_NO_CREDENTIALS))]
Place = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_without_credentials),
    AfterValidator(_as_place),
    WithJsonSchema(_text(_PLACE)),
]


_CONFIG = ConfigDict(
    frozen=True,
    extra="forbid",
    hide_input_in_errors=True,
    use_attribute_docstrings=True,
    field_title_generator=lambda name, _: name,
)


def _without_null(schema: dict[str, Any]) -> None:
    # Forms ask for what may be missing as for anything else, not first whether there is to be one. An emptied field is
    # an empty text to them.
    for field in schema["properties"].values():
        kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
        if len(kinds) == 1:
            del field["anyOf"], field["default"]
            field.update(kinds[0])
            field.pop("minLength", None)


class Group(BaseModel):
    """Settings that belong together: in the form, a part of it by the name of the class."""

    model_config = _CONFIG | ConfigDict(json_schema_extra=_without_null)


class CellSettings(BaseModel):
    """Which cells to read."""

    model_config = _CONFIG

    dataset: Url = Field("tahoebio/Tahoe-100M")
    """Hugging Face id or address, a folder of the same layout, also on S3, or 'synthetic' for simulated cells."""
    samples: Annotated[int, Field(gt=0)] | Literal["all"] = Field(20_000)
    """Cells to stream; 'all' for every cell."""
    where: Annotated[str | None, WithJsonSchema({"type": "string", "maxLength": 1000})] = Field(
        None, min_length=1, max_length=1000
    )
    """Which cells by their metadata, in SQL: plate in ('plate1', 'plate2') and drug = 'DMSO_TF'."""

    @property
    def recipe_in_full(self) -> Recipe:
        """What is done to the cells, and how."""
        return PLAIN


class Method(CellSettings):
    """What to fit to the cells, in short."""

    recipe: Literal["plain", "atlas"] = Field("plain")
    """Defaults of the settings that name plain and atlas: all genes as they are, or what serves real cells best."""
    pca_dim: int = Field(50, ge=1, le=1000)
    """Components of the truncated SVD, or of the PCA."""
    clusters: (
        Annotated[int, Field(ge=1, le=65_535)] | Annotated[str, Field(pattern=r"^[1-9]\d{0,4}(,[1-9]\d{0,4})+$")]
    ) = Field(10)
    """K-means clusters; several numbers (10,20,50) are scored against each other, and the first names the clusters."""


class ModelSettings(CellSettings):
    """What to apply to the cells."""

    model: Place = Field()
    """The model to apply: the output folder of an earlier run, or of several by date; a path or s3://bucket/prefix."""


class Places(BaseModel):
    """Where things lie."""

    model_config = _CONFIG

    store: Place = Field(".store")
    """Where intermediates live: a path or s3://bucket/prefix."""
    output: Annotated[Place, AfterValidator(_as_output)] = Field(".")
    """Where results go: a path or s3://bucket/prefix; {date} in it is the day of the run."""


class Quality(Group):
    """Which cells and genes are good enough."""

    min_genes: int | None = Field(None, ge=0)
    """Cells with fewer genes are left out. Plain: 0, atlas: 200."""
    min_counts: int | None = Field(None, ge=0)
    """Cells with fewer counts are left out. Plain: 0, atlas: 500."""
    max_mito: float | None = Field(None, ge=0, le=100)
    """Cells with a larger share of mitochondrial counts, in percent, are left out. Plain: 100, atlas: 30."""
    min_cells: int | None = Field(None, ge=0)
    """Genes that fewer cells express are left out of the components. Plain: 0, atlas: 5."""


class Reduction(Group):
    """How genes become components."""

    genes: GeneChoice | None = Field(None)
    """All genes, or the most variable ones, by batch, as this flavour of scanpy has it. Plain: all, atlas: seurat."""
    n_top_genes: int = Field(2_000, ge=1)
    """How many of the most variable genes."""
    method: Decomposition | None = Field(None)
    """Truncated SVD, or PCA, which centres each gene. Plain: svd, atlas: pca."""
    scale_max: float | None = Field(None, ge=0)
    """Genes are scaled to unit variance, and clipped at so many deviations; 0: they are not. Plain: 0, atlas: 10."""
    svd_tolerance: float = Field(5e-4, gt=0, lt=1)
    """Largest relative residual of a component at which the SVD stops."""
    svd_max_passes: int = Field(50, ge=2, le=200)
    """Passes over the data after which the SVD stops in any case."""


class Batches(Group):
    """What differs between experiments."""

    batch: str | None = Field(None, min_length=1)
    """Metadata column of the batches, or none. Plain: none, atlas: plate."""
    correction: Correction | None = Field(None)
    """What removes the difference between batches from the embedding. Plain: none, atlas: harmony."""


class Insight(Group):
    """What to find out of the clusters."""

    leiden: float | None = Field(None, ge=0)
    """Resolution of Leiden clusters beside those of K-means; 0: there are none. Plain: 0, atlas: 1."""
    markers: int | None = Field(None, ge=0, le=1_000)
    """Marker genes of each cluster; 0: none are looked for. Plain: 0, atlas: 10."""
    compare: str | None = Field(None, min_length=1)
    """Columns (a,b,c) that clusters are compared with, or none. Plain: none, atlas: cell_line_id,plate,drug."""
    layout: Layout | None = Field(None)
    """A map of a sample of the cells in two dimensions. Plain: none, atlas: umap."""


class Exports(Group):
    """What to write beside the tables."""

    export: Literal["none", "h5ad"] = Field("none")
    """The results as one AnnData file as well, for scanpy and cellxgene."""
    export_counts: bool = Field(False)
    """Whether the AnnData file has the counts."""


class Recurring(Group):
    """How runs are told from those before them."""

    series: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Name of a series of recurring runs: each begins from the one before, keeps its cluster names and tells drift."""
    drift_agreement: float = Field(0.8, ge=0, le=1)
    """Adjusted Rand index with the run before, on the cells of both, below which a run of a series has drifted."""
    drift_overlap: float = Field(0.9, ge=0, le=1)
    """Share of the variance along the last run's components that the new ones must span not to have drifted."""


class Choice(Group):
    """Which of the cells, beyond their number and a condition."""

    sampling: Sampling | None = Field(None)
    """The first cells, or some spread evenly over shards and so over plates. Plain: first, atlas: spread."""
    per: str | None = Field(None, min_length=1)
    """Metadata column of groups of which at most so many cells are taken as at_most says."""
    at_most: int | None = Field(None, ge=1)
    """Cells of each group of per at most."""
    join: bool = Field(False)
    """Join the dataset's own tables of samples, drugs and cell lines to the cells' metadata: dose, targets, organ."""
    revision: str | None = Field(None, min_length=1)
    """Revision on the Hub: a branch, tag or commit; resolved to a commit and recorded."""


class Keeping(Group):
    """What is kept, and how."""

    keep_intermediates: Literal["none", "counts", "all"] = Field("all")
    """What stays in the store after a run that ended well: nothing, the cells and their counts, or all."""
    csv_rows: int = Field(10_000_000, ge=0)
    """Cells up to which embeddings.csv is one file; more are in embeddings-csv/, in parts of about a million."""


class Trouble(Group):
    """What to do where data are bad or hosts do not answer."""

    on_bad_data: Literal["fail", "skip"] = Field("fail")
    """What to do with cells and shards that break the dataset's layout: fail, or skip them and say so."""
    most_skipped: float = Field(0.01, ge=0, le=1)
    """Share of the cells that may be skipped; more fails the run."""
    retries: int = Field(5, ge=0, le=10)
    """Times to try again where a host does not answer: after 2, 4, 8 ... s, or as it asks, ten minutes at most."""


class Work(Group):
    """Who works, and on how much at a time."""

    seed: int = Field(42, ge=0, lt=2**32)
    """One seed for the whole run."""
    partition_cells: int = Field(10_000, ge=1, le=1_000_000)
    """Cells in a partition, the unit of work, retry and reuse; of a larger row group, up to five times as many."""
    block_cells: int = Field(2_000, ge=1, le=20_000)
    """Cells in a block, the most that a worker holds in memory at once."""
    workers: int | None = Field(None, ge=1, le=1024)
    """Threads or Dask workers that work at the same time; by default as many as there are cores."""
    engine: Literal["threads", "dask"] = Field("threads")
    """Who works: threads of the run's process, or a Dask cluster; the results are the same."""
    dask_address: str | None = Field(None, pattern=r"^(tcp|tls)://[^/@\s]+$")
    """Scheduler of a Dask cluster that is to work, as tcp://host:8786; by default one is started on this machine."""
    credentials: str | None = Field(None, pattern=r"^[a-z0-9_-]+/[^/\s]+$", max_length=200)
    """Prefect block with S3 credentials: secret/NAME, its value JSON of AWS_... names, or aws-credentials/NAME."""


# A model's fields stand in the order of its bases, the last first: what to compute comes before how.
class FitSettings(Recurring, Exports, Insight, Batches, Reduction, Quality, Method):
    """What to fit to the cells."""

    @property
    def recipe_in_full(self) -> Recipe:
        """The recipe, with the settings that were given in its place."""
        given = {name: value for name in Recipe.model_fields if (value := getattr(self, name, None)) is not None}
        return RECIPES[self.recipe].model_copy(update=given)

    @property
    def cluster_numbers(self) -> tuple[int, ...]:
        """Numbers of K-means clusters asked for, the one that names the clusters first."""
        return tuple(dict.fromkeys(int(number) for number in str(self.clusters).split(",")))

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        recipe = self.recipe_in_full
        if max(self.cluster_numbers) > 65_535:
            raise ValueError(f"--clusters {self.clusters}: at most 65535 clusters can be told apart")
        if recipe.scale_max and recipe.method != "pca":
            raise ValueError(
                f"--scale_max {recipe.scale_max:g} shifts each gene, which only --method pca does not see: "
                "choose that, or --scale_max 0"
            )
        if recipe.correction != "none" and recipe.batch == NONE:
            raise ValueError(f"--correction {recipe.correction} needs --batch, the column of the batches")
        if self.series and recipe.model_copy(update={"sampling": "first"}) != PLAIN:
            raise ValueError("--series continues runs of the plain recipe only: leave it out, or the other settings")
        return self


class RunSettings(Work, Trouble, Keeping, Choice, Places, CellSettings):
    """How to read cells, and where to leave what is computed, whatever it is."""

    @property
    def spreads(self) -> bool:
        """Whether the cells are to come from all over the dataset."""
        return (self.sampling or self.recipe_in_full.sampling) == "spread"

    @property
    def threads(self) -> int:
        """Workers asked for, or as many as there are cores where the run is."""
        return self.workers or available_cores()

    @property
    def patience(self) -> float:
        """Seconds that all retries take together."""
        return 2.0 ** (self.retries + 1) - 2.0

    @model_validator(mode="after")
    def _groups_have_a_bound(self) -> Self:
        if (self.per is None) != (self.at_most is None):
            raise ValueError("--per and --at_most go together: a column, and how many cells of each of its values")
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if self.dask_address and self.engine != "dask":
            raise ValueError(f"--dask_address {self.dask_address} is for --engine dask, this is {self.engine}: add it")
        if self.dask_address and self.credentials:
            raise ValueError(
                "--credentials and --dask_address do not go together: workers elsewhere may not reach the block; give "
                "them the credentials in their environment, and the run in its own"
            )
        return self

    @property
    def is_synthetic(self) -> bool:
        """Whether the cells are to be simulated."""
        return self.dataset == SYNTHETIC


class Settings(RunSettings, FitSettings):  # type: ignore[misc]  # pydantic's plugin: a model_construct a base
    """Of a run that fits a model: what to read, what to compute and where to leave it."""


class ApplySettings(RunSettings, ModelSettings):
    """Of a run that applies a model: what to read, the model and where to leave what it gives."""

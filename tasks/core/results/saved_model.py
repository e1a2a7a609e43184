"""A model that an earlier run left in its output: found, checked and loaded. Nothing in it is taken on trust."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.base.errors import ModelError, SettingsError
from tasks.core.base.settings import ApplySettings, FitSettings
from tasks.core.dataset.plan import ENSEMBL
from tasks.core.numerics.block import decode_table, encode_matrix
from tasks.core.numerics.normalize import NORMALIZATION
from tasks.core.references.cells import Normalization, Vocabulary
from tasks.core.references.model import Clusters, Components, Output, SavedModel
from tasks.core.results.dated import newest_in
from tasks.core.results.drafts import DRAFTS
from tasks.core.results.findings import CLUSTER
from tasks.core.results.model_files import REMEDY, ModelTable, read_whole, size_of
from tasks.core.results.record import RECORD
from tasks.core.results.results import CLUSTERS_PARQUET, COMPONENTS_PARQUET
from tasks.core.storage.files import Files
from tasks.core.storage.store import Outcome, StageKey, Store, output_of

VERSION = 1
_MOST_GENES, _MOST_CLUSTERS = 2**24, 65_535
_NAMED_IN_MESSAGES = 3

_Text = Annotated[str, Field(max_length=1_000)]


class _Dataset(BaseModel):
    name: _Text
    revision: _Text


class _Fitted(FitSettings):
    model_config = ConfigDict(extra="ignore")


class _Record(BaseModel):
    """What of a run's record makes its output a model."""

    settings: _Fitted
    dataset: _Dataset
    normalization: Normalization
    outputs: tuple[Output, ...]


def find_model(settings: ApplySettings) -> SavedModel:
    """Read what the record of an earlier run says of its model.

    Raises:
        ModelError: there is no model, not all of its files, or its normalization is not this code's.
        SettingsError: the results would take the model's place.
        StoreError: it cannot be read.
    """
    files = _files(settings.model, settings)
    if files.size(RECORD) is None:
        files = _files(newest_in(settings.model, files), settings)
    if _place(files) == _place(output_of(settings).files):
        raise SettingsError(f"--output {settings.output} is where the model is: choose another for the results")
    if files.size(RECORD) is None and any(files.walk(DRAFTS)):
        raise ModelError(
            f"{files.locate(RECORD)} is not there yet: a run puts its results there, or was killed as it did; wait for "
            "its end, or run it again"
        )
    data = read_whole(files, RECORD, size_of(files, RECORD))
    try:
        record = _Record.model_validate_json(data)
    except ValidationError as error:
        raise ModelError(f"{files.locate(RECORD)} describes no model: {_first_problem(error)}; {REMEDY}") from error
    if record.normalization != NORMALIZATION:
        raise ModelError(
            f"the model at {settings.model} was fitted to cells normalized with {record.normalization}, and this "
            f"code's normalization has {NORMALIZATION}: fit a model with this code, or apply it with the code it is of"
        )
    if not record.settings.recipe_in_full.is_projection:
        raise ModelError(
            f"the model at {settings.model} is of chosen, centred or scaled genes, or corrected for batches, and only "
            "a truncated SVD of all genes can be applied: fit one with --recipe plain"
        )
    return SavedModel(
        url=files.locate("").rstrip("/"),
        record_sha256=hashlib.sha256(data).hexdigest(),
        dataset=record.dataset.name,
        revision=record.dataset.revision,
        pca_dim=record.settings.pca_dim,
        components=_listed(files, record, COMPONENTS_PARQUET),
        clusters=_listed(files, record, CLUSTERS_PARQUET),
    )


def load_components(
    store: Store, model: SavedModel, vocabulary: Vocabulary, settings: ApplySettings
) -> Outcome[Components]:
    """Load a model's components, (genes, k), in the order of a dataset's vocabulary.

    Raises:
        ModelError: the model's genes are not the vocabulary's, or its file is not what its record says.
    """
    inputs = {"file": model.components.sha256, "pca_dim": model.pca_dim, "genes": vocabulary.key}
    key = StageKey(stage="components", version=VERSION, inputs=inputs)

    def make() -> Components:
        file = _table(model, model.components, _MOST_GENES, settings)
        genes = decode_table(store.get(vocabulary.table)).column(ENSEMBL)
        rows = _rows_of_genes(file.column(ENSEMBL, pa.string()), genes.cast(pa.string()), settings)
        v_gk = file.matrix(model.pca_dim, pa.float32())[rows]
        ref = store.put(f"{key.folder}/components.arrow", encode_matrix(v_gk), len(v_gk))
        return Components(key=key.digest, components=ref)

    return store.answer(key, Components, make)


def load_clusters(store: Store, model: SavedModel, settings: ApplySettings) -> Outcome[Clusters]:
    """Load the centres, (clusters, k), and names of a model's clusters.

    Raises:
        ModelError: the model's file is not what its record says.
    """
    inputs = {"file": model.clusters.sha256, "pca_dim": model.pca_dim}
    key = StageKey(stage="clusters", version=VERSION, inputs=inputs)

    def make() -> Clusters:
        file = _table(model, model.clusters, _MOST_CLUSTERS, settings)
        centres = file.matrix(model.pca_dim, pa.float64())
        names = tuple(file.column(CLUSTER, pa.int32()).to_pylist())
        if not names or len(set(names)) != len(names):
            raise ModelError(f"{file.where} names {len(names):,} clusters, {len(set(names)):,} of them different")
        ref = store.put(f"{key.folder}/centres.arrow", encode_matrix(centres), len(centres))
        return Clusters(key=key.digest, centres=ref, names=names)

    return store.answer(key, Clusters, make)


def _table(model: SavedModel, listed: Output, most_rows: int, settings: ApplySettings) -> ModelTable:
    files = _files(model.url, settings)
    try:
        return ModelTable(files, listed, most_rows)
    except ModelError as error:
        if hashlib.sha256(files.read(RECORD) or b"").hexdigest() == model.record_sha256:
            raise
        raise ModelError(f"the model at {model.url} was replaced while it was read: try again") from error


def _rows_of_genes(
    of_model: pa.ChunkedArray, of_dataset: pa.ChunkedArray, settings: ApplySettings
) -> npt.NDArray[np.int32]:
    """Row of the model of each gene of the dataset."""
    rows = pc.index_in(of_dataset, value_set=of_model)
    missing = of_dataset.filter(pc.is_null(rows))
    unknown = of_model.filter(pc.is_null(pc.index_in(of_model, value_set=of_dataset)))
    if len(missing) or len(unknown) or len(of_model) != len(of_dataset):
        raise ModelError(
            f"the model at {settings.model} does not fit the genes of '{settings.dataset}': of the model's "
            f"{len(of_model):,} genes the dataset lacks {_some(unknown)}, of the dataset's {len(of_dataset):,} the "
            f"model lacks {_some(missing)}; apply it to a dataset with its genes, or fit a model to this one"
        )
    found: npt.NDArray[np.int32] = rows.to_numpy()
    return found


def _some(genes: pa.ChunkedArray) -> str:
    named = ", ".join(_quoted(gene) for gene in genes[:_NAMED_IN_MESSAGES].to_pylist())
    more = ", ..." if len(genes) > _NAMED_IN_MESSAGES else ""
    return f"{len(genes):,} ({named}{more})" if named else "none"


def _quoted(text: str) -> str:
    return ascii(text[:40])


def _files(place: str, settings: ApplySettings) -> Files:
    # A model may be put together of links, as in the Hub's cache; nothing is written there.
    return Files(place, settings.patience, settings.credentials, follows_links=True)


def _place(files: Files) -> str:
    return str(Path(files.root).resolve()) if files.is_local else files.root.rstrip("/")


def _listed(files: Files, record: _Record, name: str) -> Output:
    listed = next((output for output in record.outputs if output.name == name), None)
    if listed is None:
        raise ModelError(f"{files.locate(RECORD)} lists no {name}: {REMEDY}")
    size = size_of(files, name)
    if size != listed.size:
        raise ModelError(f"{files.locate(name)} is damaged: it has {size:,} bytes, and {RECORD} lists {listed.size:,}")
    return listed


def _first_problem(error: ValidationError) -> str:
    problem: Any = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    told = str(problem["msg"]).splitlines()[0].lower()
    return f"{_quoted(where)}: {told}" if where else told

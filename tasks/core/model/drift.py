"""What changed between a run of a series and the one before it."""

from collections.abc import Iterator

import numpy as np
import scipy.linalg as la

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.settings import Settings
from tasks.core.numerics.block import Float64Array, NumberArray, decode_matrix
from tasks.core.numerics.contingency import Contingency
from tasks.core.numerics.matching import change_basis, relative_shifts
from tasks.core.references.model import Clustering, Fitted
from tasks.core.storage.store import ObjectRef, Reference, Store


class Drift(Reference):
    """Changes since the run before.

    Attributes:
        cells: of this run and of the one before.
        shared_cells: cells in both, in partitions that neither the dataset nor the settings changed.
        shards_added: shards of this run that the one before did not have, new or changed.
        shards_gone: shards of the one before that this run does not have, or that changed.
        explained_variance: summed ratios of the components, now and before.
        angles: degrees between the two spaces of components, ascending (principal angles).
        overlap: share of the variance of the components of before that those of now span: of each, the squared cosine
            of its angle to their space, weighted by its variance; 1 where it had none.
        agreement: adjusted Rand index of the clusters of the cells in both; None without such cells.
        sizes: cells of each cluster by its name, now and before.
        shifts: how far each centre moved, by name, as a share of the way to the nearest other one.
        new: names of clusters that are new.
        vanished: names of those that are no more.
        exceeded: what is beyond a threshold of the settings, a sentence each.
    """

    cells: tuple[int, int]
    shared_cells: int
    shards_added: int
    shards_gone: int
    explained_variance: tuple[float, float]
    angles: tuple[float, ...]
    overlap: float
    agreement: float | None
    sizes: dict[int, tuple[int, int]]
    shifts: dict[int, float]
    new: tuple[int, ...]
    vanished: tuple[int, ...]
    exceeded: tuple[str, ...] = ()


def compare(store: Store, before: Fitted, now: Fitted, settings: Settings) -> Drift:
    """Measure what changed; reads both models, and the labels of the partitions that both have."""
    v_gk, w_gl = (decode_matrix(store.get(run.model.components)) for run in (before, now))
    centres, found = _by_name(store, before.clustering), _by_name(store, now.clustering)
    moved = {name: change_basis(centre[None], v_gk, w_gl)[0] for name, centre in centres.items()}
    table = _crosstab(store, before, now)
    drift = Drift(
        cells=(sum(now.clustering.sizes), sum(before.clustering.sizes)),
        shared_cells=int(table.cells.sum()),
        shards_added=len(now.shards.items() - before.shards.items()),
        shards_gone=len(before.shards.items() - now.shards.items()),
        explained_variance=(sum(now.model.explained_variance_ratio), sum(before.model.explained_variance_ratio)),
        angles=tuple(float(angle) for angle in principal_angles(v_gk, w_gl)),
        overlap=overlap(v_gk, w_gl, np.array(before.model.variances)),
        agreement=table.adjusted_rand_index if table.cells.any() else None,
        sizes=_sizes(now.clustering, before.clustering),
        shifts=_shifts(moved, found),
        new=tuple(sorted(found.keys() - moved.keys())),
        vanished=tuple(sorted(moved.keys() - found.keys())),
    )
    return drift.model_copy(update={"exceeded": tuple(_exceeded(drift, settings))})


def principal_angles(v_gk: NumberArray, w_gl: NumberArray) -> Float64Array:
    """Degrees between two spaces, ascending; columns are orthonormal, or zeros, which span nothing."""
    if not (v_gk.any() and w_gl.any()):
        return np.zeros(0)
    return np.asarray(np.degrees(la.subspace_angles(v_gk.astype(np.float64), w_gl.astype(np.float64)))[::-1])


def overlap(v_gk: NumberArray, w_gl: NumberArray, variances_k: Float64Array) -> float:
    """Share of the variance of components that others span; both are orthonormal, or zeros."""
    spanned_k = ((v_gk.T.astype(np.float64) @ w_gl.astype(np.float64)) ** 2).sum(axis=1)
    total = float(variances_k.sum())
    return float(variances_k @ np.minimum(spanned_k, 1.0)) / total if total > 0 else 1.0


def _shifts(before: dict[int, Float64Array], now: dict[int, Float64Array]) -> dict[int, float]:
    ended = np.stack([now.get(name, centre) for name, centre in before.items()])
    shifts = relative_shifts(np.stack(list(before.values())), ended)
    return {name: float(shift) for name, shift in zip(before, shifts, strict=True) if name in now}


def _by_name(store: Store, clustering: Clustering) -> dict[int, Float64Array]:
    centres = decode_matrix(store.get(clustering.centres))
    return dict(zip(clustering.names, centres, strict=True))


def _sizes(now: Clustering, before: Clustering) -> dict[int, tuple[int, int]]:
    after, earlier = (dict(zip(run.names, run.sizes, strict=True)) for run in (now, before))
    return {name: (after.get(name, 0), earlier.get(name, 0)) for name in sorted(after.keys() | earlier.keys())}


def _crosstab(store: Store, before: Fitted, now: Fitted) -> Contingency:
    """Count the cells of the partitions that both runs have, by cluster before and now."""
    clusters = len(before.clustering.names), len(now.clustering.names)
    table = Contingency(np.zeros(clusters, np.int64))
    for old, new in _shared(before, now):
        try:
            was, now_is = (decode_matrix(store.get(ref))[:, 0] for ref in (old, new))
        except CorruptObjectError:
            # The labels of before are a luxury: nothing is made again for them.
            continue
        table += Contingency.of(was, now_is, *clusters)
    return table


def _shared(before: Fitted, now: Fitted) -> Iterator[tuple[ObjectRef, ObjectRef]]:
    labels = dict(zip(before.cells, before.clustering.labels, strict=True))
    for key, label in zip(now.cells, now.clustering.labels, strict=True):
        if key in labels:
            yield labels[key], label


def _exceeded(drift: Drift, settings: Settings) -> Iterator[str]:
    if drift.agreement is not None and drift.agreement < settings.drift_agreement:
        yield (
            f"clusters agree with those of the run before by {drift.agreement:.3f} (adjusted Rand index), "
            f"below --drift_agreement {settings.drift_agreement:g}"
        )
    if drift.overlap < settings.drift_overlap:
        yield (
            f"components span {drift.overlap:.3f} of the variance that those of the run before did, "
            f"below --drift_overlap {settings.drift_overlap:g}"
        )

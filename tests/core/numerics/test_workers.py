from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from tasks.core.numerics.block_kmeans import BlockKMeans
from tasks.core.numerics.krylov_pca import KrylovPCA
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.workers import threads_of

ESTIMATORS = [KrylovSVD(2, random_state=0), KrylovPCA(2, random_state=0), BlockKMeans(2, random_state=0)]


@pytest.mark.parametrize("n_jobs", [None, 1, 3, -1, -2, -1_000])
def test_threads_are_counted_as_joblib_counts_them(n_jobs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.numerics.workers.available_cores", joblib.cpu_count)
    assert threads_of(n_jobs) == joblib.effective_n_jobs(n_jobs)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_take_what_scikit_learn_takes_for_n_jobs(estimator: Any) -> None:
    points = np.random.default_rng(0).normal(size=(50, 5))
    fits = [clone(estimator).set_params(n_jobs=n_jobs).fit(points) for n_jobs in (None, 1, 2, -1, -2)]
    learnt = [vars(fit).get("components_", vars(fit).get("cluster_centers_")) for fit in fits]
    assert all(np.array_equal(learnt[0], other) for other in learnt)
    with pytest.raises(ValueError, match="n_jobs=0 has no meaning"):
        clone(estimator).set_params(n_jobs=0).fit(points)

import json
import subprocess
import sys
from importlib.metadata import version

from tasks.core.base.environment import environment

CODE = "from tasks.core.base.environment import environment; print(environment())"


def test_it_names_what_decides_the_numbers() -> None:
    told = json.loads(environment())
    for package in ("numpy", "scipy", "scikit-learn", "numba", "igraph", "umap-learn", "scikit-misc", "s3fs"):
        assert told[package] == version(package)
    assert told["blas"]
    assert len(environment()) < 1_000


def test_it_is_the_same_in_every_process_whatever_that_has_loaded_so_far() -> None:
    for before in ("", "import sklearn.cluster; "):
        told = subprocess.run([sys.executable, "-c", before + CODE], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == environment()

"""What the tests of faults share."""

from pathlib import Path

import pytest

from tasks.core.synthetic import write_dataset


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three thousand simulated cells, or a few more."""
    return write_dataset(tmp_path_factory.mktemp("simulated"), 3_000, seed=3)

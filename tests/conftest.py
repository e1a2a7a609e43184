"""What tests share: real cells where they are at hand, a Prefect server for those that need one."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from tests.s3_server import BUCKET, S3Server
from tests.small_dataset import write_random_dataset

# How long an example takes says more of the machine than of the code; and a test is the same each time.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

REAL_CELLS = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=int, default=1, help="how many faults of each kind are tried")
    parser.addoption("--screenshots", help="folder to leave screenshots of the UI in")
    parser.addoption("--screenshot_cells", type=int, default=2_000, help="simulated cells of the run that they show")


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> int:
    """How many faults of each kind to try: one, unless asked for more; of some kinds, no more than some."""
    most = request.node.get_closest_marker("most_faults")
    asked = int(request.config.getoption("--faults"))
    return min(asked, most.args[0]) if most else asked


@pytest.fixture(params=["mixology", "mixology-thin"])
def real_dataset(request: pytest.FixtureRequest) -> Path:
    """Real cells of five lines in Tahoe's layout."""
    return real_cells(request.param)


def real_cells(name: str) -> Path:
    folder = REAL_CELLS / name
    if not folder.is_dir():
        pytest.skip(f"real cells are not at hand: no folder {folder.relative_to(REAL_CELLS.parents[1])}")
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Sixty random cells of forty genes, in two shards of three row groups each."""
    return write_random_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server for the tests of the flow, with a database of its own."""
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415  (slow, and most tests need none)

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, which AWS's variables point at while it runs."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where objects may live: a local folder, then a prefix on S3."""
    if request.param == "local":
        return str(tmp_path / "place")
    request.getfixturevalue("s3_server")
    return f"s3://{BUCKET}/{uuid4().hex}"

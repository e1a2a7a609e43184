"""What the next run of a series begins from."""

from pathlib import Path

from tasks.core.model.series import SERIES, SeriesRun, spared
from tasks.core.storage.store import MANIFEST, Store


def test_who_asks_what_is_needed_changes_nothing_even_where_it_is_damaged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ref = store.keep("fitted", "fitted.json", b"{}")
    entry = SeriesRun(
        series="weekly",
        number=1,
        run="a",
        ended=0.0,
        asked="",
        revision="",
        cells=1,
        explained_variance=1.0,
        passes=1,
        fitted=ref,
        start=None,
        drift=None,
    )
    store.files.write(f"{SERIES}/weekly/runs/a.json", entry.model_dump_json().encode())
    Path(store.locate(ref.path)).write_bytes(b"[]")
    assert spared(store) == {ref.folder}
    assert store.files.size(f"{ref.folder}/{MANIFEST}")

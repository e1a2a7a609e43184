import json
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.base.environment import UNKNOWN, collected_environments, environment
from tasks.core.base.errors import CorruptObjectError, SettingsError, StoreError
from tasks.core.numerics import fold
from tasks.core.numerics.fold import Blocks
from tasks.core.storage.files import Files
from tasks.core.storage.store import MANIFEST, MARKER, ObjectRef, Outcome, Reference, StageKey, Store, objects_of


class Result(Reference):
    number: int
    data: ObjectRef


class Many(Reference):
    parts: tuple[ObjectRef, ...]


KEY = StageKey(stage="test", version=1, inputs={"a": 1, "b": "x"})
OTHER = StageKey(stage="other", version=1, inputs={})


@pytest.fixture
def store(place: str) -> Store:
    return Store(f"{place}/store")


def make(store: Store, number: int = 1) -> Result:
    return Result(number=number, data=store.put(f"{KEY.folder}/0.arrow", b"some data", rows=3))


def test_what_is_put_is_got(store: Store) -> None:
    ref = store.put(f"{KEY.folder}/object", b"abc", rows=1)
    assert store.get(ref) == b"abc"
    assert (ref.size, ref.rows) == (3, 1)


def paths(store: Store) -> list[str]:
    return [entry.path for entry in store.files.walk()]


def test_no_temporary_file_stays(store: Store) -> None:
    store.put(f"{KEY.folder}/object", b"abc")
    assert paths(store) == [f"{KEY.folder}/object"]


def test_digest_depends_on_everything_but_order() -> None:
    same = StageKey(stage="test", version=1, inputs={"b": "x", "a": 1})
    others = [
        StageKey(stage="other", version=1, inputs=KEY.inputs),
        StageKey(stage="test", version=2, inputs=KEY.inputs),
        StageKey(stage="test", version=1, inputs={"a": 2, "b": "x"}),
    ]
    assert same.digest == KEY.digest
    assert len({KEY.digest, *(other.digest for other in others)}) == 4


def test_a_result_is_made_once_and_then_found(store: Store) -> None:
    first = store.answer(KEY, Result, lambda: make(store))
    second = store.answer(KEY, Result, lambda: pytest.fail("made again"))
    assert (first.cached, second.cached) == (False, True)
    assert first.result == second.result


def test_a_result_tells_what_has_made_it(store: Store) -> None:
    made = store.answer(KEY, Result, lambda: make(store), ['{"python": "3.9"}'])
    assert made.environments == {environment(), '{"python": "3.9"}'}
    assert store.answer(KEY, Result, lambda: make(store)).environments == made.environments
    path = f"{KEY.folder}/{MANIFEST}"
    whole = json.loads(store.files.read(path) or b"")
    hostile: list[Any] = [None, [], {}, [{"python": 3}], [{"python": "3" * 10_000}], 7]
    for told in hostile:
        store.files.write(path, json.dumps(whole | {"environments": told}).encode())
        assert store.answer(KEY, Result, lambda: make(store)).environments == {UNKNOWN}


def test_a_result_tells_where_its_folds_were_computed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = '{"python": "3.9"}'
    blocks: Blocks[Any] = Blocks.cut(np.ones((6, 2)), 2, workers=1)

    def make_by_workers() -> Result:
        return make(store, int(blocks.sum(np.sum)))

    with monkeypatch.context() as workers:
        workers.setattr(fold, "environment", lambda: elsewhere)
        made = store.answer(KEY, Result, make_by_workers)
    assert made.result.number == 12
    assert made.environments == {environment(), elsewhere}
    assert store.answer(KEY, Result, make_by_workers).environments == made.environments
    # What others compute later is no matter of it, nor is what nobody asks for collected.
    assert collected_environments() == set()


@pytest.mark.parametrize("damage", ["truncate", "delete", "garbage manifest", "foreign manifest"])
def test_a_result_that_is_not_whole_is_not_found(store: Store, damage: str) -> None:
    store.answer(KEY, Result, lambda: make(store))
    if damage == "truncate":
        store.files.write(f"{KEY.folder}/0.arrow", b"some")
    elif damage == "delete":
        store.files.remove(f"{KEY.folder}/0.arrow")
    elif damage == "garbage manifest":
        store.files.write(f"{KEY.folder}/{MANIFEST}", b"{")
    else:
        store.files.write(f"{KEY.folder}/{MANIFEST}", b'{"result": {"number": 1}}')
    again = store.answer(KEY, Result, lambda: make(store))
    assert not again.cached
    assert store.get(again.result.data) == b"some data"


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_result_of_many_objects_is_found_only_with_all_of_them(store: Store, damage: str) -> None:
    def make_many() -> Many:
        elsewhere = store.put(f"{OTHER.folder}/0.arrow", b"some data")
        return Many(parts=(elsewhere, *(store.put(f"{KEY.folder}/{at}.arrow", b"some data") for at in range(3))))

    store.answer(KEY, Many, make_many)
    assert store.find(KEY, Many) is not None
    if damage == "truncate":
        store.files.write(f"{KEY.folder}/1.arrow", b"some")
    else:
        store.files.remove(f"{KEY.folder}/1.arrow")
    assert store.find(KEY, Many) is None


def test_a_flipped_byte_is_refused_and_the_result_made_again(store: Store) -> None:
    made = store.answer(KEY, Result, lambda: make(store)).result
    store.files.write(made.data.path, b"some dat4")
    with pytest.raises(CorruptObjectError, match=r"0\.arrow is damaged"):
        store.get(made.data)
    assert paths(store) == [made.data.path]
    assert not store.answer(KEY, Result, lambda: make(store)).cached
    assert store.get(made.data) == b"some data"


def test_a_lost_object_is_named(store: Store) -> None:
    made = make(store)
    store.files.remove(made.data.path)
    with pytest.raises(CorruptObjectError, match=r"0\.arrow is gone"):
        store.get(made.data)


def test_a_relative_place_is_where_the_process_works_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Store.at("store").files.write("file", name.encode())
        assert Store.at("store") is Store.at("store")
    sent = pickle.dumps(Store.at("store"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(sent).files.read("file") == b"b"  # noqa: S301  (as workers are sent it)
    assert (tmp_path / "a" / "store" / "file").read_bytes() == b"a"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(SettingsError, match="neither a path nor a place as s3://bucket/prefix"):
        Store("nowhere://bucket")


def test_objects_are_found_however_deep(store: Store) -> None:
    class Outer(Reference):
        results: tuple[Result, ...]

    made = make(store)
    assert list(objects_of(Outer(results=(made, made)))) == [made.data, made.data]


def test_a_removed_result_leaves_nothing(store: Store) -> None:
    store.answer(KEY, Result, lambda: make(store))
    store.finish(OTHER, Many(parts=()))
    for _ in range(2):
        store.remove(KEY.folder, OTHER.folder)
    assert paths(store) == []
    assert not store.files.is_local or not Path(store.locate(KEY.folder)).exists()


def test_a_removal_that_is_cut_short_leaves_nothing_that_counts_as_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_many() -> Many:
        return Many(parts=tuple(store.put(f"{KEY.folder}/{at}.arrow", b"some data") for at in range(3)))

    remove, removals = Files.remove, 0
    for after in range(5):
        store.answer(KEY, Many, make_many)

        def cut_short(files: Files, path: str, left: Iterator[int] = iter(range(after))) -> None:  # noqa: B008
            if next(left, None) is None:
                raise KeyboardInterrupt
            remove(files, path)

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(Files, "remove", cut_short)
            store.remove(KEY.folder)
            removals = after
        assert (store.find(KEY, Many) is None) == (after > 0)
        store.remove(KEY.folder)
        assert paths(store) == []
    assert removals == 4


FOREIGN = (
    "a.jpg",
    "2019/a.jpg",
    ".DS_Store",
    "test/.DS_Store",
    "results/run.json",
    "series/nightly/runs/a.json",
    f"{KEY.folder}/.DS_Store",
    f"{KEY.folder}/1.arrow",
    f"{KEY.folder}/deeper/0.arrow",
)


def test_only_what_a_manifest_names_in_its_folder_is_removed(store: Store) -> None:
    def make_with_others() -> Many:
        return Many(parts=(store.put(f"{OTHER.folder}/0.arrow", b"another's"), make(store).data))

    for path in FOREIGN:
        store.files.write(path, b"not ours")
    store.answer(KEY, Many, make_with_others)
    store.remove(KEY.folder)
    assert paths(store) == sorted([*FOREIGN, f"{OTHER.folder}/0.arrow"])


@pytest.mark.parametrize("folder", ["", "series", "test", "2019", "../x", "test/../2019", f"{KEY.folder}/..", "/etc"])
def test_no_other_folder_is_removed(tmp_path: Path, folder: str) -> None:
    store = Store(str(tmp_path / "store"))
    text = json.dumps({"made_by": KEY.model_dump(), "result": make(store).model_dump()}).encode()
    if folder != "/etc":
        Files(str(tmp_path), 5).write(f"store/{folder}/{MANIFEST}", text)
    before = sorted(tmp_path.rglob("*"))
    store.remove(folder)
    assert sorted(tmp_path.rglob("*")) == before


LEADING_OUT = (
    "../home/thesis.tex",
    "/etc/passwd",
    f"{KEY.folder}/../../../home/thesis.tex",
    f"{KEY.folder}/..",
    f"{KEY.folder}/a/b",
    f"{KEY.folder}/a\\b",
    f"{KEY.folder}/a\0b",
    f"{KEY.folder}/a\n",
    f"{KEY.folder}/",
    f"{KEY.folder}/.hidden",
    f"./{KEY.folder}/0.arrow",
    f"s3://bucket/{KEY.folder}/0.arrow",
    f"../{'0' * 32}/0.arrow",
    f"test/{'0' * 31}/0.arrow",
    f"test/{'A' * 32}/0.arrow",
    "0.arrow",
    "",
)


@pytest.mark.parametrize("path", LEADING_OUT)
def test_a_reference_that_leads_out_of_its_stage_s_folder_is_none(tmp_path: Path, path: str) -> None:
    store = Store(str(tmp_path / "store"))
    made = store.answer(KEY, Result, lambda: make(store)).result
    (tmp_path / "home").mkdir()
    thesis = tmp_path / "home" / "thesis.tex"
    thesis.write_text("years of work")
    manifest = json.loads(store.files.read(f"{KEY.folder}/{MANIFEST}") or b"")
    manifest["result"]["data"]["path"] = path
    store.files.write(f"{KEY.folder}/{MANIFEST}", json.dumps(manifest).encode())
    assert store.find(KEY, Result) is None
    assert all("0.arrow" not in told for told in store.damaged(KEY.folder))
    store.remove(KEY.folder)
    assert thesis.read_text() == "years of work"
    assert store.get(made.data) == b"some data"


def hostile() -> Iterator[bytes]:
    """Texts that are no manifest of the result."""
    made_by, ref = KEY.model_dump(), {"path": f"{KEY.folder}/0.arrow", "size": 9, "checksum": "0" * 32, "rows": 3}
    yield from (b"", b"{", b"null", b"3", b"[]", b"\xff\xfe", b"\0", b'{"made_by": 1, "result": 2}', b"9" * 10_000)
    yield from (b"[" * 200_000, b'{"result":' * 200_000, b'{"made_by": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    others: list[tuple[Any, Any]] = [
        (made_by, None),
        (made_by, [ref]),
        (made_by, {"number": 1}),
        (made_by, {"number": 1, "data": ref | {"size": -1}}),
        (made_by, {"number": 1, "data": ref | {"size": 10**400}}),
        (made_by, {"number": 1, "data": ref | {"size": [9]}}),
        (made_by, {"number": 1, "data": ref | {"path": 5}}),
        (made_by, {"number": 1, "data": ref | {"checksum": None}}),
        (OTHER.model_dump(), {"number": 1, "data": ref}),
        (made_by | {"version": 2}, {"number": 1, "data": ref}),
        (made_by | {"stage": "../test"}, {"number": 1, "data": ref}),
    ]
    yield from (json.dumps({"made_by": by, "result": result}).encode() for by, result in others)


@pytest.mark.parametrize("text", list(hostile()), ids=lambda text: f"{len(text)} bytes")
def test_a_manifest_that_is_none_is_as_good_as_not_there(tmp_path: Path, text: bytes) -> None:
    store = Store(str(tmp_path))
    store.files.write(f"{KEY.folder}/{MANIFEST}", text)
    assert store.find(KEY, Result) is None
    assert all(" is " in told for told in store.damaged(KEY.folder))
    store.remove(KEY.folder)
    assert not store.answer(KEY, Result, lambda: make(store)).cached
    assert store.answer(KEY, Result, lambda: pytest.fail("made again")).cached


def test_numbers_that_json_has_no_word_for_are_found_again(store: Store) -> None:
    class Number(Reference):
        value: float

    key = StageKey(stage="test", version=1, inputs={"bounds": [0.1, float("inf")], "name": "ä"})
    store.answer(key, Number, lambda: Number(value=float("nan")))
    assert store.answer(key, Number, lambda: pytest.fail("made again")).cached


@pytest.mark.parametrize("linked", ["object", "folder", "stage", "manifest"])
def test_a_link_is_damage_and_nothing_is_done_where_it_leads(tmp_path: Path, linked: str) -> None:
    store = Store(str(tmp_path / "store"))
    made = store.answer(KEY, Result, lambda: make(store)).result
    path = {"object": made.data.path, "folder": KEY.folder, "stage": "test", "manifest": f"{KEY.folder}/{MANIFEST}"}
    here, elsewhere = Path(store.locate(path[linked])), tmp_path / "elsewhere"
    here.rename(elsewhere)
    here.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()}
    assert store.find(KEY, Result) is None
    if linked != "manifest":
        with pytest.raises(CorruptObjectError, match="is a link, or lies behind one"):
            store.get(made.data)
    if linked in ("folder", "stage"):
        store.remove(KEY.folder)
        with pytest.raises(StoreError, match="lies behind a link"):
            store.answer(KEY, Result, lambda: make(store))
        assert {path: path.read_bytes() for path in before} == before
    else:
        # It is made anew in the link's place.
        store.answer(KEY, Result, lambda: make(store))
        found = store.find(KEY, Result)
        assert found is not None
        assert found.result == made
        assert not here.is_symlink()
    assert elsewhere.exists()


def test_an_object_is_kept_once_by_its_bytes(store: Store) -> None:
    kept = store.keep("test", "some.arrow", b"some data", 3)
    assert store.keep("test", "some.arrow", b"some data", 3) == kept
    assert store.keep("test", "some.arrow", b"other data", 3) != kept
    assert store.get(kept) == b"some data"
    store.remove(kept.folder)
    assert len(paths(store)) == 2


def test_a_new_place_becomes_a_store_and_stays_one(store: Store) -> None:
    with pytest.raises(StoreError, match=r"is no store: it has no tahoe-store\.json"):
        store.check()
    store.claim()
    make(store)
    store.claim()
    store.check()
    assert paths(store) == [MARKER, f"{KEY.folder}/0.arrow"]
    assert json.loads(store.files.read(MARKER) or b"") == {"format": 1}


@pytest.mark.parametrize("path", ["a.jpg", ".hidden", "2019/a.jpg", f"{KEY.folder}/{MANIFEST}"])
def test_a_place_that_holds_anything_else_becomes_none(store: Store, path: str) -> None:
    store.files.write(path, b"not ours")
    with pytest.raises(StoreError, match=rf"is no store.*'{path[:3]}.*name a new or an empty folder") as refused:
        store.claim()
    assert "\n" not in str(refused.value)
    assert paths(store) == [path]


@pytest.mark.parametrize("text", ['{"format": 2}', '{"format": "1"}', '{"format": true}', "{}", "[", "", "[" * 10**5])
def test_a_store_of_another_format_is_none(store: Store, text: str) -> None:
    store.files.write(MARKER, text.encode())
    for ask in (store.claim, store.check):
        with pytest.raises(StoreError, match=r"format.*name another") as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_runs_that_begin_at_once_make_one_store_of_a_new_place(place: str) -> None:
    stores = [Store(f"{place}/store") for _ in range(8)]

    def begin(store: Store) -> None:
        store.claim()
        store.put(f"{KEY.folder}/{id(store)}", b"some data")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, stores))
    assert len(paths(stores[0])) == 9


def test_two_who_make_the_same_at_once_are_both_right(store: Store) -> None:
    together = threading.Barrier(2)

    def ask(_: int) -> Outcome[Result]:
        def make_together() -> Result:
            together.wait(30)
            return make(store)

        return store.answer(KEY, Result, make_together)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first == second
    found = store.find(KEY, Result)
    assert found is not None
    assert found.result == first.result
    assert store.damaged(KEY.folder) == []

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.base.environment import UNKNOWN, environment
from tasks.core.base.errors import CorruptObjectError, StoreError
from tasks.core.storage.store import MANIFEST, ObjectRef, Reference, StageKey, Store, objects_of


class Result(Reference):
    number: int
    data: ObjectRef


KEY = StageKey(stage="test", version=1, inputs={"a": 1, "b": "x"})


@pytest.fixture
def store(place: str) -> Store:
    return Store(f"{place}/store")


def make(store: Store, number: int = 1) -> Result:
    return Result(number=number, data=store.put(f"{KEY.folder}/0.arrow", b"some data", rows=3))


def test_a_place_can_be_checked_and_is_left_as_it_was(store: Store) -> None:
    store.check_writable()
    assert paths(store) == []


def test_what_is_put_is_got(store: Store) -> None:
    ref = store.put("folder/object", b"abc", rows=1)
    assert store.get(ref) == b"abc"
    assert (ref.size, ref.rows) == (3, 1)


def paths(store: Store) -> list[str]:
    return [entry.path for entry in store.files.walk()]


def test_no_temporary_file_stays(store: Store) -> None:
    store.put("folder/object", b"abc")
    assert paths(store) == ["folder/object"]


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
    class Many(Reference):
        parts: tuple[ObjectRef, ...]

    def make_many() -> Many:
        elsewhere = store.put("other/folder/0.arrow", b"some data")
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
    (aside,) = paths(store)
    assert aside.startswith(f"quarantine/{KEY.folder}/")
    assert store.files.read(aside) == b"some dat4"
    assert not store.answer(KEY, Result, lambda: make(store)).cached
    assert store.get(made.data) == b"some data"


def test_a_lost_object_is_named(store: Store) -> None:
    made = make(store)
    store.files.remove(made.data.path)
    with pytest.raises(CorruptObjectError, match=r"0\.arrow is gone"):
        store.get(made.data)


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Store(str(tmp_path / "file")).check_writable()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StoreError, match="neither a path nor a URL"):
        Store("nowhere://bucket")


def test_objects_are_found_however_deep(store: Store) -> None:
    class Outer(Reference):
        results: tuple[Result, ...]

    made = make(store)
    assert list(objects_of(Outer(results=(made, made)))) == [made.data, made.data]


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_removed_result_leaves_nothing(store: Store, *, cut_short: bool) -> None:
    store.answer(KEY, Result, lambda: make(store))
    if cut_short:
        store.files.remove(f"{KEY.folder}/{MANIFEST}")
    store.remove(KEY.folder)
    store.remove(KEY.folder)
    assert paths(store) == []

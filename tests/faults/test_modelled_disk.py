"""The modelled disk is the kernel's as long as nobody stops: the same calls, the same answers, the same files."""

from contextlib import ExitStack
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from modelled_disk import Disk, ModelledOs, Outcome

import audit.store
import audit.stored_files
from audit.store import DirectoryStore, NotFound, StoreError

CALLS = ("write", "write", "read", "delete", "list", "exists", "half", "settle")
NAMES = ("a", "a/b", "a/c", "d/e/f", "d/e/g", "d/h", "i")


def play(store: DirectoryStore, rng: Random) -> list[object]:
    """A hundred calls, and what each came to."""
    answers: list[object] = []
    for _ in range(100):
        name, what = (
            rng.choice(NAMES),
            rng.choice(CALLS),
        )
        data = rng.randbytes(rng.randrange(40))
        try:
            if what == "write":
                answers.append(store.write(name, data))  # type: ignore[func-returns-value]
            elif what == "read":
                answers.append(store.read(name))
            elif what == "delete":
                answers.append(store.delete(name))  # type: ignore[func-returns-value]
            elif what == "list":
                answers.append(store.list(name[:1]))
            elif what == "exists":
                answers.append(store.exists(name))
            elif what == "half":
                store.create(name, 50).write_at(10, data)  # The process forgets it.
            else:
                store.settle()
        except NotFound:
            answers.append("not found")
        except StoreError as error:
            answers.append(str(error).partition(":")[2])
    return answers


def modelled() -> tuple[Disk, ExitStack]:
    disk, patched = Disk(), ExitStack()
    system = ModelledOs({"disk": disk})
    for module in (audit.store, audit.stored_files):
        patched.enter_context(mock.patch.object(module, "os", system))
    return disk, patched


@pytest.mark.parametrize("seed", range(8))
def test_it_answers_as_the_kernel_does(seed: int, tmp_path: Path) -> None:
    real = DirectoryStore(tmp_path / "store")
    expected, files = play(real, Random(seed)), real.list("")
    contents = [real.read(name) for name in files]
    disk, patched = modelled()
    with patched:
        store = DirectoryStore("/disk/store")
        assert play(store, Random(seed)) == expected
        assert store.list("") == files
        store.settle()
        # What every call has promised is there whatever happens next.
        for outcome in Outcome:
            disk.cut(outcome, seed)
            left = DirectoryStore("/disk/store")
            assert [(name, left.read(name)) for name in left.list("")] == list(zip(files, contents, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_a_store_keeps_what_it_promised_and_no_name_is_ever_half(seed: int) -> None:
    """Cut anywhere, without settling: the old bytes or the new ones, and never others."""
    rng = Random(seed)
    disk, patched = modelled()
    with patched:
        store = DirectoryStore("/disk/store")
        store.write("a/b", b"old" * 20)
        for outcome in Outcome:
            sink = DirectoryStore("/disk/store").create("a/b", 60)
            sink.write_at(0, b"new" * rng.randrange(20))
            disk.cut(outcome, seed)
            assert DirectoryStore("/disk/store").read("a/b") == b"old" * 20

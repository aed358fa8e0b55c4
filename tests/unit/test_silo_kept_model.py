"""The newest announced model on a silo's disk: whole or not there, and never another than its content says."""

import pytest
import torch
from memory_federation import content_of, initial_sections, layout_of, signing_key
from stopping_store import Stopped, StoppingStore

from audit.store import MemoryStore, StoreError
from protocol.layout import Section
from silo_client.kept_model import KeptModels
from silo_client.model import ModelError, Sections
from silo_client.state import SiloState, StateError

LAYOUT = layout_of(300_000)
AGREEMENT = signing_key("agreement").public.raw


def model(value: float) -> tuple[bytes, Sections]:
    """A model and its content digest."""
    sections = dict(initial_sections(LAYOUT))
    sections[Section.PARAMETERS] = torch.full((300_000,), value)
    return content_of(LAYOUT, sections), sections


ONE, OTHER = model(1.0), model(2.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def kept(store: MemoryStore | StoppingStore, *, keeps: bool = True, initial: bool = False) -> KeptModels:
    state = SiloState.open(store, agreement=AGREEMENT, silo="silo-0")  # type: ignore[arg-type]
    agreed = content_of(LAYOUT, initial_sections(LAYOUT))
    reader = (lambda: initial_sections(LAYOUT)) if initial else None
    return KeptModels(state=state, layout=LAYOUT, agreed=agreed, initial=reader, keeps=keeps)


def files(store: MemoryStore) -> list[str]:
    return [name for name in store.list("") if "/models/" in name]


def test_the_newest_takes_the_place_of_the_one_before(store: MemoryStore) -> None:
    kept(store).keep(*ONE)
    kept(store).keep(*OTHER)
    assert kept(store).held() == (OTHER[0],)
    found = kept(store).find(OTHER[0])
    assert found is not None
    assert torch.equal(found[Section.PARAMETERS], OTHER[1][Section.PARAMETERS])
    assert kept(store).find(ONE[0]) is None
    assert len(files(store)) == 1


def test_the_same_model_again_is_not_written_again(store: MemoryStore) -> None:
    """Each attempt at a round announces the same one."""
    kept(store).keep(*ONE)
    counting = StoppingStore(store, None, after=False)
    kept(counting).keep(*ONE)
    assert counting.changes == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_stop_at_any_write_leaves_one_that_is_whole(store: MemoryStore, stop_at: int, after: bool) -> None:
    kept(store).keep(*ONE)
    with pytest.raises(Stopped):
        kept(StoppingStore(store, stop_at, after)).keep(*OTHER)
    held = kept(store).held()
    assert set(held) & {ONE[0], OTHER[0]}
    kept(store).keep(*OTHER)
    assert kept(store).held() == (OTHER[0],)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\x01" + data[1:]])
def test_a_damaged_one_is_not_promised_and_not_handed_out(store: MemoryStore, damage: object) -> None:
    kept(store).keep(*ONE)
    (name,) = files(store)
    store.write(name, damage(store.read(name)))  # type: ignore[operator]
    assert kept(store).held() == ()
    assert kept(store).find(ONE[0]) is None


def test_files_of_other_names_are_none_of_ours(store: MemoryStore) -> None:
    folder = AGREEMENT.hex()[:32]
    for name in ("notes.txt", "zz.raw", "00.raw"):
        store.write(f"{folder}/models/{name}", b"")
    kept(store).keep(*ONE)
    assert kept(store).held() == (ONE[0],)
    assert len(files(store)) == 4


def test_keep_model_false_keeps_none(store: MemoryStore) -> None:
    kept(store, keeps=False).keep(*ONE)
    assert files(store) == []


def test_the_initial_model_is_at_hand_where_the_silo_has_its_file(store: MemoryStore) -> None:
    with_file, without = kept(store, initial=True), kept(store)
    agreed = content_of(LAYOUT, initial_sections(LAYOUT))
    assert (with_file.held(), without.held()) == ((agreed,), ())
    assert without.find(agreed) is None
    found = with_file.find(agreed)
    assert found is not None
    assert content_of(LAYOUT, found) == agreed


def test_an_initial_model_whose_file_is_gone_is_not_promised(store: MemoryStore) -> None:
    def read() -> Sections:
        raise ModelError("initial.safetensors: expected a safetensors file, found an error")

    state = SiloState.open(store, agreement=AGREEMENT, silo="silo-0")
    assert KeptModels(state=state, layout=LAYOUT, agreed=ONE[0], initial=read, keeps=True).held() == ()


def test_a_full_disk_is_said_with_what_to_do(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, size: int) -> None:
        raise StoreError(f"store: {name}: No space left on device")

    monkeypatch.setattr(store, "create", full)
    with pytest.raises(StateError, match="No space left on device.*set keep_model = false in silo.toml"):
        kept(store).keep(*ONE)

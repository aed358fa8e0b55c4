"""A silo's memory: what it keeps, what it refuses to forget or to mix up."""

from pathlib import Path

import pytest
from silo_appliance import SILO, FakeAppliance, example

from audit.store import DirectoryStore, MemoryStore
from protocol.keys import SigningKey
from silo_client.state import SealedUpdate, SiloState, StateError, StoredFile


@pytest.fixture
def appliance() -> FakeAppliance:
    return FakeAppliance(*example())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def opened(appliance: FakeAppliance, store: MemoryStore) -> SiloState:
    return SiloState.open(store, agreement=appliance.agreement.digest, silo=SILO)


def pinned(appliance: FakeAppliance, store: MemoryStore) -> SiloState:
    state = opened(appliance, store)
    state.pin(appliance.log_key.public)
    return state


def sealed(state: SiloState, number: int, control: bytes | None = b"\0\0\x80?") -> SealedUpdate:
    """An update with its files."""
    upload_id = bytes([number]) * 16
    blob = state.write_file(state.update_name(upload_id), memoryview(b"sealed" * number))
    stored = None if control is None else state.write_file(state.control_name(upload_id), memoryview(control))
    return SealedUpdate(
        round=number,
        attempt=1,
        boot_id=bytes(32),
        upload_id=upload_id,
        digest=bytes(32),
        blob=blob.name,
        control=stored,
    )


def test_it_begins_empty(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = opened(appliance, store)
    assert (state.log_key, state.head, state.pending, state.parent, state.last_sealed) == (None,) * 5
    assert not state.has_control()
    out = bytearray(b"xxxx")
    state.read_control(memoryview(out))
    assert out == bytes(4)


def test_everything_survives(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = pinned(appliance, store)
    first = sealed(state, 1)
    state.hold(first)
    state.settle(head=appliance.checkpoint(), used=True, control_epoch=3)
    # The epoch is newer: what was committed is forgotten with it.
    assert not state.has_control()
    second = sealed(state, 2)
    state.hold(second)
    state.settle(head=appliance.checkpoint(), used=True, control_epoch=3)
    third = sealed(state, 3)
    state.hold(third)
    state.advance(appliance.checkpoint(), cosigned_at=99)
    again = opened(appliance, store)
    assert again.log_key == appliance.log_key.public
    assert again.head == appliance.checkpoint()
    assert again.cosigned_at == 99
    assert again.control_epoch == 3
    assert again.parent == second.upload_id
    assert again.pending == third
    assert again.last_sealed == (3, 1)
    out = bytearray(4)
    again.read_control(memoryview(out))
    assert out == b"\0\0\x80?"


def test_a_log_is_pinned_once(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = pinned(appliance, store)
    with pytest.raises(ValueError, match="pinned already"):
        state.pin(SigningKey(bytes(32)).public)
    with pytest.raises(ValueError, match="pinned already"):
        opened(appliance, store).pin(SigningKey(bytes(32)).public)


def test_one_update_is_pending_at_a_time(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = pinned(appliance, store)
    state.hold(sealed(state, 1))
    with pytest.raises(ValueError, match="another update is pending"):
        state.hold(sealed(state, 2))


def test_files_that_nothing_names_are_removed(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = pinned(appliance, store)
    kept = sealed(state, 1)
    state.hold(kept)
    debris = sealed(state, 2)
    again = opened(appliance, store)
    assert again.pending == kept
    assert not store.exists(state.path(debris.blob))
    assert store.exists(state.path(kept.blob))


def test_looking_removes_nothing(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = pinned(appliance, store)
    unfinished = sealed(state, 1)
    SiloState.read_only(store, agreement=appliance.agreement.digest, silo=SILO)
    assert store.exists(state.path(unfinished.blob))


def test_each_agreement_has_a_memory_of_its_own(appliance: FakeAppliance, store: MemoryStore) -> None:
    pinned(appliance, store)
    successor, _ = example(**{"rounds = 40": "rounds = 41"})
    assert SiloState.open(store, agreement=successor.digest, silo=SILO).log_key is None
    assert opened(appliance, store).log_key is not None


def test_anothers_state_is_refused(appliance: FakeAppliance, store: MemoryStore) -> None:
    pinned(appliance, store)
    with pytest.raises(StateError, match="expected the state of silo-1, found that of silo-0"):
        SiloState.open(store, agreement=appliance.agreement.digest, silo="silo-1")


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"kind":"silo-state","version":1}'])
def test_a_damaged_state_is_refused(appliance: FakeAppliance, store: MemoryStore, damage: bytes) -> None:
    state = pinned(appliance, store)
    store.write(state.path("state.json"), damage)
    with pytest.raises(StateError, match="expected a silo's state, found something else"):
        opened(appliance, store)


def test_every_flipped_byte_of_the_head_is_noticed_or_changes_nothing_that_counts(
    appliance: FakeAppliance, store: MemoryStore
) -> None:
    """The state is the silo's own, and not authenticated; but nothing but a state is ever read from it."""
    state = pinned(appliance, store)
    good = store.read(state.path("state.json"))
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1
        store.write(state.path("state.json"), bytes(changed))
        try:
            opened(appliance, store)
        except StateError:
            continue


def test_only_the_owner_reads_it(appliance: FakeAppliance, tmp_path: Path) -> None:
    state = SiloState.open(DirectoryStore(tmp_path / "state"), agreement=appliance.agreement.digest, silo=SILO)
    state.pin(appliance.log_key.public)
    for path in (tmp_path / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_stored_file_is_named_by_its_digest(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = opened(appliance, store)
    large = bytes(range(256)) * 10_000
    stored = state.write_file("controls/x.f32", memoryview(large))
    assert stored == StoredFile(name="controls/x.f32", digest=stored.digest)
    assert store.read(state.path("controls/x.f32")) == large


def test_receipts_come_back_in_order(appliance: FakeAppliance, store: MemoryStore) -> None:
    state = opened(appliance, store)
    for name in ("00000010-round.published", "00000002-silo.admitted"):
        state.keep_receipt(name, entry=b"entry", receipt=b"receipt")
    assert state.receipts() == ["00000002-silo.admitted", "00000010-round.published"]
    assert state.read_receipt("00000002-silo.admitted") == (b"entry", b"receipt")

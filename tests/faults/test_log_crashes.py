"""The log is stopped before and after every write; what is left opens, verifies, and goes on. No size has two roots."""

import pytest

from audit.log import LogDamagedError, LogReader, LogStoppedError, LogWriter
from audit.merkle import verify_consistency
from audit.note import Checkpoint, VerifierKey
from audit.resources import CHECKPOINT, CHECKPOINTS, TILES, checkpoint_name
from audit.store import DirectoryStore, MemoryStore, NotFound, StoreError
from audit.tiles import entry_bundles, hash_tiles
from protocol.keys import SigningKey

KEY = SigningKey(b"\x01" * 32)
SILOS = [SigningKey(bytes([10 + number]) * 32) for number in range(2)]
ORIGIN = "simulated.example/log"
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)


class PowerCut(Exception):
    """The process is gone; nothing may catch this."""


class CutStore:
    """Hands everything through, until write or deletion number `at`, before or after which the power goes."""

    def __init__(self, inner, at, persisted, error=PowerCut):
        self.inner = inner
        self.remaining = at
        self.persisted = persisted
        self.error = error
        self.history = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, name, data):
        self._change(name, lambda: self.inner.write(name, data))

    def delete(self, name):
        self._change(name, lambda: self.inner.delete(name))

    def _change(self, name, change):
        self.remaining -= 1
        self.history.append(name)
        if self.remaining == 0:
            if self.persisted:
                change()
            raise self.error(name)
        change()


def batches(label):
    """One by one, over a tile's border, over several tiles at once; `label` tells the process's lives apart."""
    return [
        [b"%s %d %d" % (label, number, n) for n in range(count)] for number, count in enumerate((1, 2, 250, 9, 600))
    ]


def reopen(store):
    try:
        return LogWriter.open(store, ORIGIN, KEY)
    except NotFound:
        return LogWriter.create(store, ORIGIN, KEY)


def live(store, label, seen):
    """A life of the enclave: open or create, append, cosign. Records in `seen` what was returned to somebody."""
    writer = reopen(store)
    for batch in batches(label):
        digest = writer.put_object(batch[0])
        checkpoint = writer.append(batch)
        seen.append((checkpoint, batch, digest))
        lines = [checkpoint.cosign(f"silo{n}", silo, time=1).encode() for n, silo in enumerate(SILOS)]
        writer.add_cosignatures(checkpoint.size, lines[:1])
        cosigned = writer.add_cosignatures(checkpoint.size, lines[1:])
        seen.append((cosigned, batch, digest))
    return writer


def signed_roots(store, roots):
    """Every checkpoint in the store; fails if a size that was seen before has another root now."""
    for name in store.list(CHECKPOINTS):
        checkpoint = Checkpoint.parse(store.read(name))
        checkpoint.verify(LOG_KEY)
        assert roots.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root


def check_whole(store):
    """The store is exactly one log: every tile right, none too many, every checkpoint in one line."""
    reader = LogReader(store)
    newest = reader.newest()
    newest.verify(LOG_KEY)
    entries = list(reader.entries())
    assert len(entries) == newest.size
    assert reader.root() == newest.root
    sizes = reader.checkpoint_sizes()
    assert sizes[-1] == newest.size
    for size in sizes:
        verify_consistency(old=reader.checkpoint_at(size).head, new=newest.head, proof=reader.consistency(size))
    allowed = {f"log/{tile.path}" for size in sizes for tile in [*entry_bundles(size), *hash_tiles(size)]}
    needed = {f"log/{tile.path}" for tile in [*entry_bundles(newest.size), *hash_tiles(newest.size)]}
    names = set(store.list(TILES))
    assert needed <= names <= allowed
    full = {name for name in names if ".p/" not in name}
    assert not [name for name in names if name.split(".p/")[0] in full and ".p/" in name]
    return entries


def check_readable(store):
    """Before any recovery, a reader finds a whole log under `checkpoint`, if there is one."""
    if store.exists(CHECKPOINT):
        reader = LogReader(store)
        assert reader.root() == reader.newest().root
        assert len(list(reader.entries())) == reader.size
        assert reader.size in reader.checkpoint_sizes()


def writes_of_a_life():
    store = CutStore(MemoryStore(), -1, False)
    live(store, b"one", [])
    return len(store.history)


WRITES = writes_of_a_life()


def test_a_life_has_all_kinds_of_writes():
    store = CutStore(MemoryStore(), -1, False)
    live(store, b"one", [])
    kinds = [name.split("/")[1:3] for name in store.history]
    assert ["objects", "sha256"] in kinds
    assert ["tile", "entries"] in kinds
    assert ["tile", "1"] in kinds
    assert sum(".p/" in name for name in store.history) > 8
    assert WRITES == len(store.history) > 50


@pytest.mark.parametrize("persisted", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_stopped_at_any_write_it_recovers(at, persisted):
    inner, seen, roots = MemoryStore(), [], {}
    with pytest.raises(PowerCut):
        live(CutStore(inner, at, persisted), b"one", seen)
    signed_roots(inner, roots)
    check_readable(inner)

    if roots:
        opened = LogWriter.open(inner, ORIGIN, KEY)
        signed_roots(inner, roots)
        entries = check_whole(inner)
        # What was returned is there, cosignatures and objects included; a batch is there whole or not at all.
        for checkpoint, batch, digest in seen:
            assert entries[checkpoint.size - len(batch) : checkpoint.size] == batch
            kept = {signature.signer for signature in opened.checkpoint_at(checkpoint.size).note.signatures}
            assert {signature.signer for signature in checkpoint.note.signatures} <= kept
            assert opened.get_object(digest) == batch[0]
        assert len(entries) in (0, 1, 3, 253, 262, 862)
    else:
        assert seen == []

    # It goes on, with other entries than those that the crash swallowed, and is one log still.
    live(inner, b"two", seen)
    signed_roots(inner, roots)
    check_whole(inner)
    LogWriter.open(inner, ORIGIN, KEY)
    assert all(roots[checkpoint.size] == checkpoint.root for checkpoint, _, _ in seen)


@pytest.mark.parametrize("persisted", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1, 2))
def test_stopped_again_at_any_write_of_the_recovery_it_recovers(at, persisted):
    for second in range(1, 40):
        inner, seen, roots = MemoryStore(), [], {}
        with pytest.raises(PowerCut):
            live(CutStore(inner, at, persisted), b"one", seen)
        signed_roots(inner, roots)
        cut = CutStore(inner, second, persisted)
        try:
            reopen(cut)
        except PowerCut:
            signed_roots(inner, roots)
            if reopen(inner).size:
                check_whole(inner)
            continue
        assert second == len(cut.history) + 1
        return
    raise AssertionError("a recovery of forty writes")


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed but persisted"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_full_disk_stops_the_writer_until_it_is_opened_again(at, persisted):
    inner, roots = MemoryStore(), {}
    writer = LogWriter.create(inner, ORIGIN, KEY)
    writer.append([b"first"])
    signed_roots(inner, roots)
    store = writer._store = CutStore(inner, at, persisted, StoreError)
    with pytest.raises(StoreError):
        writer.append([b"second"])
    # Another batch under the size whose checkpoint may be out there is exactly what must not be signed.
    for call in (lambda: writer.append([b"other"]), lambda: writer.add_cosignatures(1, ["— a AAAAAAA=\n"])):
        with pytest.raises(LogStoppedError):
            call()
    assert len(store.history) == at
    assert (writer.size, writer.entry(0)) == (1, b"first")
    again = LogWriter.open(inner, ORIGIN, KEY)
    signed_roots(inner, roots)
    assert again.size == (2 if at == 4 or (at == 3 and persisted) else 1)
    again.append([b"third"])
    signed_roots(inner, roots)
    check_whole(inner)


def test_a_failing_deletion_of_superseded_tiles_loses_nothing():
    inner = MemoryStore()
    writer = LogWriter.create(inner, ORIGIN, KEY)
    writer.append([b"a"] * 200)

    class NoDeletion(CutStore):
        def delete(self, name):
            raise StoreError(name)

    writer._store = NoDeletion(inner, -1, False)
    assert writer.append([b"b"] * 100).size == 300
    assert writer.append([b"c"]).size == 301
    LogWriter.open(inner, ORIGIN, KEY)
    check_whole(inner)


def test_on_a_real_disk_too(tmp_path):
    for at in range(1, WRITES + 1, 5):
        inner, seen = DirectoryStore(tmp_path / str(at)), []
        with pytest.raises(PowerCut):
            live(CutStore(inner, at, True), b"one", seen)
        live(inner, b"two", seen)
        check_whole(inner)


def stored(sizes=(3, 300, 2)):
    store = MemoryStore()
    writer = LogWriter.create(store, ORIGIN, KEY)
    for number, count in enumerate(sizes):
        writer.append([b"%d %d" % (number, n) for n in range(count)])
    return store


@pytest.mark.parametrize("name", ["log/tile/entries/000", "log/tile/0/001.p/49", "log/tile/1/000.p/1"])
@pytest.mark.parametrize("change", [None, lambda data: data[:-1], lambda data: data + b"\x00", lambda data: b""])
def test_a_missing_or_truncated_tile_is_named(name, change):
    store = stored()
    if change is None:
        store.delete(name)
    else:
        store.write(name, change(store.read(name)))
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == name
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda s: s.write("log/checkpoint", s.read("log/checkpoint")[:-2] + b"\n"), "log/checkpoint"),
        (lambda s: s.write("log/checkpoint", b""), "log/checkpoint"),
        (lambda s: s.write("log/checkpoints/305.note", s.read("log/checkpoints/3.note")), "log/checkpoints/305.note"),
        (lambda s: s.write("log/checkpoints/303.note", s.read("log/checkpoints/3.note")), "log/checkpoints/303.note"),
        (lambda s: s.write("log/checkpoints/3.note", b"garbage"), "log/checkpoints/3.note"),
        (lambda s: s.write("log/checkpoints/999.note", s.read("log/checkpoints/3.note")), "log/checkpoints/999.note"),
        (lambda s: s.write("log/checkpoints/4.note", forged(4)), "log/checkpoints/4.note"),
        (lambda s: s.write("log/checkpoints/305.note", forged(305)), "log/checkpoint"),
        (lambda s: s.write("log/checkpoints/306.note", forged(306)), "log/tile/entries/001.p/50"),
        (lambda s: s.write("log/checkpoint", forged(305)), "log/checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_belong_is_named(change, name):
    store = stored()
    change(store)
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == name


def forged(size):
    """A checkpoint by the log's own key, of another history."""
    store = stored((size,))
    return store.read("log/checkpoint")


def test_entries_changed_together_with_their_tiles_are_still_found():
    store, other = stored((300, 5)), stored((300, 6))
    for name in ("log/tile/entries/001.p/49", "log/tile/0/001.p/49"):
        store.write(name, other.read(name.replace("49", "50"))[: len(store.read(name))])
    store.write("log/tile/entries/000", stored((256,)).read("log/tile/entries/000").replace(b"0 7", b"0 8", 1))
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == "log/tile/entries/000"
    assert "entry 7 " in str(caught.value)


def test_another_history_under_the_signed_checkpoint_is_found():
    store, other = stored((3, 300)), stored((303,))
    for name in other.list(TILES):
        store.write(name, other.read(name))
    for name in store.list(TILES):
        if not other.exists(name):
            store.delete(name)
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == "log/checkpoint"


def test_cosignatures_in_either_copy_of_the_newest_checkpoint_are_kept():
    store = stored((3,))
    bare = store.read(CHECKPOINT)
    lines = [Checkpoint.parse(bare).cosign(f"silo{n}", silo, time=1) for n, silo in enumerate(SILOS)]
    for name, line in zip((CHECKPOINT, checkpoint_name(3)), lines, strict=True):
        store.write(name, Checkpoint.parse(bare).with_signatures([line]).encode())
    opened = LogWriter.open(store, ORIGIN, KEY)
    assert set(lines) <= set(opened.checkpoint_at(3).note.signatures)
    assert store.read(CHECKPOINT) == store.read(checkpoint_name(3)) == opened.checkpoint


@pytest.mark.parametrize("note", ["another history", "another size", "another key", "garbage"])
def test_an_older_checkpoint_that_changes_while_the_log_is_open_is_named(note):
    store = stored((3, 300))
    writer = LogWriter.open(store, ORIGIN, KEY)
    own = writer.checkpoint_at(3)
    data = {
        "another history": stored((1, 2)).read(CHECKPOINT),
        "another size": writer.checkpoint,
        "another key": Checkpoint.sign(ORIGIN, own.head, SILOS[0]).encode(),
        "garbage": b"garbage",
    }[note]
    store.write(checkpoint_name(3), data)
    with pytest.raises(LogDamagedError) as caught:
        writer.checkpoint_at(3)
    assert caught.value.name == checkpoint_name(3)
    with pytest.raises(LogDamagedError):
        writer.receipt(0, 3)


def test_swapped_bundles_and_swapped_entries_are_found():
    store = stored((600,))
    first, second = (store.read(f"log/tile/entries/00{n}") for n in (0, 1))
    store.write("log/tile/entries/000", second)
    store.write("log/tile/entries/001", first)
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == "log/tile/entries/000"
    store = stored((600,))
    for level in ("entries", "0"):
        first, second = (store.read(f"log/tile/{level}/00{n}") for n in (0, 1))
        store.write(f"log/tile/{level}/000", second)
        store.write(f"log/tile/{level}/001", first)
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == "log/tile/0/000"


def test_a_partial_tile_of_an_earlier_size_that_differs_is_named():
    store = stored((3, 4))
    store.write("log/tile/entries/000.p/3", stored((2, 1)).read("log/tile/entries/000.p/3"))
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == "log/tile/entries/000.p/3"


def test_a_store_set_back_whole_opens_and_only_an_outsiders_head_tells():
    # The limit that the module names: an old copy is a valid log. A silo's head is what refuses it.
    store = stored((3, 4))
    head = LogReader(store).newest().head
    old = stored((3,))
    writer = LogWriter.open(old, ORIGIN, KEY)
    assert writer.size < head.size
    forked = writer.append([b"another"] * 4)
    assert forked.size == head.size
    assert forked.root != head.root

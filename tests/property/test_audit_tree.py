"""The audit's right edge is the tree, at every size; and no mutation of a store passes or breaks the audit."""

import random

import pytest
from audit_history import QUORUM, Recorder, agreement_of, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.log_files import LogFiles
from audit.merkle import Tree, leaf_hash
from audit.report import AuditReport, AuditVerdict
from audit.right_edge import RightEdge
from audit.store import MemoryStore
from audit.tiles import TILE_WIDTH, Tile, hash_tiles
from audit.verify import verify

AGREEMENT = agreement_of()


def test_the_right_edge_has_every_root() -> None:
    edge, tree = RightEdge(), Tree()
    assert edge.head() == tree.head()
    for number in range(1100):
        leaf = leaf_hash(number.to_bytes(4, "big"))
        edge.append(leaf)
        tree.append(leaf)
        assert edge.head() == tree.head()


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_049])
def test_the_right_edge_grows_through_every_tile(size: int) -> None:
    """Also over the edge from one tile level to the next: each tile of the final tree was seen, whole, as it grew."""
    edge, tree = RightEdge(), Tree()
    seen: dict[Tile, bytes] = {}
    for number in range(size):
        leaf = leaf_hash(number.to_bytes(4, "big"))
        tree.append(leaf)
        for tile, hashes in edge.append(leaf):
            if not tile.partial or number >= size - TILE_WIDTH:
                seen[tile] = hashes.row(0, 0, tile.width)
    assert edge.head() == tree.head()
    for tile in hash_tiles(size):
        if tile.level == 0 or not tile.partial:
            assert seen[tile] == tree.row(8 * (tile.level or 0), tile.start, tile.start + tile.width)


def small_store() -> MemoryStore:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-4"))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-4"))
    return told(recorder).store()


STORE = small_store()
NAMES = STORE.list("")


def audit(changes: dict[str, bytes | None]) -> AuditReport:
    store = MemoryStore()
    for name in {*NAMES, *changes}:
        data = changes.get(name, STORE.read(name) if name in NAMES else None)
        if data is not None:
            store.write(name, data)
    return verify(LogFiles(store), AGREEMENT)


edits = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)


def edited(data: bytes, steps: list[tuple[int, int, int]]) -> bytes:
    changed = bytearray(data)
    for kind, position, byte in steps:
        position %= len(changed) + 1
        if kind == 0:
            del changed[position : position + 1]
        elif kind == 1:
            changed[position:position] = bytes([byte])
        else:
            changed[position : position + 1] = bytes([byte])
    return bytes(changed)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(NAMES), edits)
def test_no_edited_file_passes(name: str, steps: list[tuple[int, int, int]]) -> None:
    data = edited(STORE.read(name), steps)
    assert (audit({name: data}).verdict is AuditVerdict.PASS) is (data == STORE.read(name))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), st.none() | st.binary(max_size=300), min_size=1, max_size=5))
def test_no_store_with_files_lost_or_replaced_passes(changes: dict[str, bytes | None]) -> None:
    assert audit(changes).verdict is not AuditVerdict.PASS


def test_no_two_files_can_trade_places() -> None:
    generator = random.Random(20)
    for _ in range(60):
        first, second = generator.sample(NAMES, 2)
        if STORE.read(first) != STORE.read(second):
            report = audit({first: STORE.read(second), second: STORE.read(first)})
            assert report.verdict is AuditVerdict.FAIL, (first, second)

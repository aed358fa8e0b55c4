"""Trees and proofs against the definitions of RFC 6962 read naively, and every single-bit change refused."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.log import LogDamagedError, LogReader, LogWriter
from audit.merkle import (
    EMPTY_ROOT,
    ProofError,
    Tree,
    TreeHead,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from audit.note import Checkpoint, VerifierKey
from audit.proof import Receipt
from audit.resources import TILES, tile_name
from audit.store import MemoryStore
from audit.tiles import Tile
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SigningKey

KEY = SigningKey(b"\x07" * 32)
ORIGIN = "simulated.example/log"
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(entries):
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m, entries):
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m, entries, whole):
    if m == len(entries):
        return [] if whole else [mth(entries)]
    k = split(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def entries_of(count):
    return [b"entry %d" % index for index in range(count)]


def flips(data):
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


@given(st.lists(st.binary(max_size=64), max_size=70), st.data())
def test_trees_and_proofs_equal_the_definitions(entries, data):
    tree = Tree(map(leaf_hash, entries))
    size = data.draw(st.integers(0, len(entries)))
    head = tree.head(size)
    assert head.root == mth(entries[:size])
    if size == 0:
        assert head.root == EMPTY_ROOT
        return
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(tree, index, size)
    assert list(proof) == path(index, entries[:size])
    verify_inclusion(leaf=leaf_hash(entries[index]), index=index, proof=proof, head=head)
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(tree, old, size)
    assert list(proof) == subproof(old, entries[:size], True)
    verify_consistency(old=tree.head(old), new=head, proof=proof)


def test_no_leaf_is_accepted_at_another_index_or_size():
    tree = Tree(map(leaf_hash, entries_of(20)))
    for size in range(1, 20):
        for index in range(size):
            proof = inclusion_proof(tree, index, size)
            for other in range(size):
                if other != index:
                    with pytest.raises(ProofError):
                        verify_inclusion(leaf=tree.node(0, index), index=other, proof=proof, head=tree.head(size))
            for other in range(index + 1, 21):
                if other != size:
                    with pytest.raises(ProofError):
                        verify_inclusion(leaf=tree.node(0, index), index=index, proof=proof, head=tree.head(other))


def test_no_two_sizes_are_consistent_by_another_pairs_proof():
    tree = Tree(map(leaf_hash, entries_of(12)))
    for old in range(1, 12):
        proof = consistency_proof(tree, old, 12)
        for other in range(1, 12):
            if other != old:
                with pytest.raises(ProofError):
                    verify_consistency(old=tree.head(other), new=tree.head(12), proof=proof)


def test_every_single_bit_of_an_inclusion_proof_counts():
    tree = Tree(map(leaf_hash, entries_of(13)))
    head, leaf, proof = tree.head(), tree.node(0, 5), inclusion_proof(tree, 5, 13)
    for place, digest in enumerate(proof):
        for changed in flips(digest):
            with pytest.raises(ProofError):
                verify_inclusion(leaf=leaf, index=5, proof=[*proof[:place], changed, *proof[place + 1 :]], head=head)
    for changed in flips(leaf):
        with pytest.raises(ProofError):
            verify_inclusion(leaf=changed, index=5, proof=proof, head=head)
    for changed in flips(head.root):
        with pytest.raises(ProofError):
            verify_inclusion(leaf=leaf, index=5, proof=proof, head=TreeHead(size=13, root=changed))


def test_every_single_bit_of_a_consistency_proof_counts():
    tree = Tree(map(leaf_hash, entries_of(13)))
    old, new, proof = tree.head(6), tree.head(), consistency_proof(tree, 6, 13)
    for place, digest in enumerate(proof):
        for changed in flips(digest):
            with pytest.raises(ProofError):
                verify_consistency(old=old, new=new, proof=[*proof[:place], changed, *proof[place + 1 :]])
    for changed in flips(old.root):
        with pytest.raises(ProofError):
            verify_consistency(old=TreeHead(size=6, root=changed), new=new, proof=proof)
    for changed in flips(new.root):
        with pytest.raises(ProofError):
            verify_consistency(old=old, new=TreeHead(size=13, root=changed), proof=proof)


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p[1:], lambda p: (*p, bytes(32)), lambda p: (p[0], *p)])
def test_longer_and_shorter_proofs_are_refused(change):
    tree = Tree(map(leaf_hash, entries_of(13)))
    proof = change(inclusion_proof(tree, 5, 13))
    with pytest.raises(ProofError):
        verify_inclusion(leaf=tree.node(0, 5), index=5, proof=proof, head=tree.head())
    with pytest.raises(ProofError):
        verify_consistency(old=tree.head(6), new=tree.head(), proof=change(consistency_proof(tree, 6, 13)))


def test_a_leaf_that_spells_a_pair_of_nodes_is_no_node():
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert leaf_hash(left + right) != node_hash(left, right)
    head = TreeHead(size=1, root=Tree([left, right]).head().root)
    with pytest.raises(ProofError):
        verify_inclusion(leaf=leaf_hash(left + right), index=0, proof=(), head=head)


@pytest.mark.parametrize(("size", "root"), [(-1, bytes(32)), (2**63, bytes(32)), (1, bytes(31)), (0, bytes(32))])
def test_heads_that_are_none_are_refused(size, root):
    with pytest.raises(MalformedError):
        TreeHead(size=size, root=root)


def test_proofs_of_more_than_63_hashes_are_refused_unread():
    head = TreeHead(size=2**63 - 1, root=bytes(32))
    with pytest.raises(ProofError, match="at most 63"):
        verify_inclusion(leaf=bytes(32), index=0, proof=[bytes(32)] * 64, head=head)
    with pytest.raises(ProofError, match="at most 63"):
        verify_consistency(old=head, new=head, proof=[bytes(32)] * 64)


def test_from_the_empty_tree_only_the_empty_proof_is_accepted():
    tree = Tree(map(leaf_hash, entries_of(3)))
    verify_consistency(old=tree.head(0), new=tree.head(), proof=consistency_proof(tree, 0, 3))
    with pytest.raises(ProofError):
        verify_consistency(old=tree.head(0), new=tree.head(), proof=[tree.head().root])


@given(st.integers(1, 700), st.data())
def test_the_reader_derives_from_tiles_what_the_writer_has_in_memory(size, data):
    store = MemoryStore()
    writer = LogWriter.create(store, ORIGIN, KEY)
    sizes = sorted(data.draw(st.sets(st.integers(1, size), max_size=3)) | {size})
    for old, new in zip([0, *sizes], sizes, strict=False):
        writer.append(entries_of(size)[old:new])
    reader = LogReader(store)
    index = data.draw(st.integers(0, size - 1))
    smaller = data.draw(st.integers(index + 1, size))
    assert reader.inclusion(index, smaller) == writer.inclusion(index, smaller)
    assert reader.consistency(smaller) == writer.consistency(smaller)
    assert reader.root(smaller) == writer.root(smaller)
    assert reader.entry(index) == writer.entry(index) == entries_of(size)[index]
    assert list(reader.entries(index)) == entries_of(size)[index:]


def small_log():
    store = MemoryStore()
    writer = LogWriter.create(store, ORIGIN, KEY)
    writer.append(entries_of(3))
    writer.append([b"", b"last"])
    return store, writer


def test_every_single_bit_of_a_checkpoint_counts():
    _, writer = small_log()
    for changed in flips(writer.checkpoint):
        with pytest.raises((MalformedError, SignatureError)):
            Checkpoint.parse(changed).verify(LOG_KEY)


def test_every_single_bit_of_a_receipt_counts():
    _, writer = small_log()
    receipt = writer.receipt(1).encode()
    Receipt.parse(receipt).verify(b"entry 1", log_key=LOG_KEY, quorum=None)
    for changed in flips(receipt):
        with pytest.raises((MalformedError, SignatureError, ProofError)):
            Receipt.parse(changed).verify(b"entry 1", log_key=LOG_KEY, quorum=None)
    for changed in flips(b"entry 1"):
        with pytest.raises(ProofError):
            Receipt.parse(receipt).verify(changed, log_key=LOG_KEY, quorum=None)


@pytest.mark.parametrize("level", [None, 0])
@pytest.mark.parametrize("width", [3, 5])
def test_every_single_bit_of_a_tile_counts_and_the_tile_is_named(level, width):
    store, _ = small_log()
    name = tile_name(Tile(level=level, index=0, width=width))
    intact = store.read(name)
    for changed in flips(intact):
        store.write(name, changed)
        with pytest.raises(LogDamagedError) as caught:
            LogWriter.open(store, ORIGIN, KEY)
        assert caught.value.name == name
    store.write(name, intact)
    assert LogWriter.open(store, ORIGIN, KEY).size == 5


@given(st.data())
def test_any_bit_of_any_file_of_a_larger_log_counts(data):
    store = LARGE.copy()
    name = data.draw(st.sampled_from(store.list(TILES)))
    content = bytearray(store.read(name))
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    content[position // 8] ^= 1 << position % 8
    store.write(name, bytes(content))
    with pytest.raises(LogDamagedError) as caught:
        LogWriter.open(store, ORIGIN, KEY)
    assert caught.value.name == name


class CopyableStore(MemoryStore):
    def copy(self):
        other = CopyableStore()
        for name in self.list(""):
            other.write(name, self.read(name))
        return other


LARGE = CopyableStore()
_writer = LogWriter.create(LARGE, ORIGIN, KEY)
for _count in (1, 300, 240, 59):
    _writer.append(entries_of(_count))

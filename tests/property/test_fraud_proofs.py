"""No two heads of one tree make a fraud proof, whatever somebody puts beside them; every two of a fork do."""

import pytest
from audit_forgery import AGREEMENT, HONEST
from audit_history import LOG_KEY, identity
from forked_logs import account
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.fraud import Contradiction, FraudProof, Leaf, Leaves, NoFraudError, Prefix
from audit.merkle import ProofError, Tree, TreeHead, inclusion_proof, leaf_hash, prefix_proof, prefix_root
from audit.note import Checkpoint

ORIGIN = AGREEMENT.log.origin
VOUCHER = account(HONEST).vouchers[0]
SILOS = ("silo-0", "silo-2", "silo-3")


def tree_of(entries: list[bytes]) -> Tree:
    return Tree(map(leaf_hash, entries))


def note(tree: Tree, size: int) -> str:
    """A head that the log and a quorum have signed."""
    checkpoint = Checkpoint.sign(ORIGIN, tree.head(size), LOG_KEY)
    lines = [checkpoint.cosign(f"{ORIGIN}/{silo}", identity(silo), time=1) for silo in SILOS]
    return checkpoint.with_signatures(lines).encode().decode()


def proof(first: str, second: str, prefix: Prefix | None = None, leaves: Leaves | None = None) -> FraudProof:
    return FraudProof(
        agreement=AGREEMENT.source,
        vouchers=(VOUCHER,),
        first=first,
        second=second,
        prefix=prefix,
        leaves=leaves,
        known=None,
    )


def entries_of(count: int, kind: str = "entry") -> list[bytes]:
    return [f"{kind} {index}".encode() for index in range(count)]


@settings(max_examples=50)
@given(st.integers(1, 100), st.data())
def test_the_root_that_a_prefix_proof_implies_is_the_old_trees(size: int, data: st.DataObject) -> None:
    tree = tree_of(entries_of(size + 1))
    old = data.draw(st.integers(1, size))
    hashes = prefix_proof(tree, old, size + 1)
    assert prefix_root(old, tree.head(), hashes) == tree.head(old).root
    # No other hashes lead to the same root.
    changed = list(hashes)
    place = data.draw(st.integers(0, len(hashes) - 1))
    changed[place] = data.draw(
        st.sampled_from([bytes(32), tree.head().root, changed[place - 1] if place else bytes(32)])
    )
    if tuple(changed) != hashes:
        with pytest.raises(ProofError):
            prefix_root(old, tree.head(), changed)
    for other in range(1, size + 1):
        if other != old:
            try:
                found = prefix_root(other, tree.head(), hashes)
            except ProofError:
                continue
            assert found == tree.head(other).root


@pytest.mark.parametrize(("old", "new"), [(0, 5), (5, 5), (6, 5)])
def test_a_prefix_is_smaller_and_not_empty(old: int, new: int) -> None:
    tree = tree_of(entries_of(6))
    with pytest.raises(ValueError, match="prefix: expected an old size"):
        prefix_proof(tree, old, new)
    with pytest.raises(ProofError, match="prefix: expected an old size"):
        prefix_root(old, tree.head(new), [tree.head().root])


@settings(max_examples=30)
@given(st.integers(1, 40), st.data())
def test_no_two_heads_of_one_tree_make_one(size: int, data: st.DataObject) -> None:
    """Whatever hashes, entries and indices of the tree are put beside them, and in whatever order."""
    entries = entries_of(size)
    tree = tree_of(entries)
    pick = st.integers(1, size)
    first, second = data.draw(pick), data.draw(pick)
    prefix = leaves = None
    what = data.draw(st.sampled_from(["nothing", "hashes", "entries"]))
    if what == "hashes":
        pool = [tree.node(0, i) for i in range(size)] + [tree.head(i).root for i in range(1, size + 1)]
        hashes = data.draw(st.lists(st.sampled_from(pool), max_size=7))
        sizes = sorted((data.draw(pick), data.draw(pick)))
        if sizes[0] < sizes[1] and data.draw(st.booleans()):
            hashes = list(prefix_proof(tree, *sizes))
        prefix = Prefix(hashes=tuple(hashes))
    elif what == "entries":
        index = data.draw(st.integers(0, size - 1))
        shown = []
        for head in (first, second):
            at = data.draw(st.one_of(st.just(index), st.integers(0, size - 1)))
            proved = inclusion_proof(tree, at, head) if at < head else ()
            entry = data.draw(st.sampled_from([entries[at], b"", entries[at] + b" "]))
            shown.append(Leaf(entry=entry, hashes=proved))
        leaves = Leaves(index=index, first=shown[0], second=shown[1])
    with pytest.raises(NoFraudError):
        proof(note(tree, first), note(tree, second), prefix, leaves).verify(AGREEMENT)


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(1, 20), st.integers(1, 20), st.data())
def test_every_two_heads_of_a_fork_make_one(common: int, left: int, right: int, data: st.DataObject) -> None:
    ours = entries_of(common) + entries_of(left, "left")
    theirs = entries_of(common) + entries_of(right, "right")
    (small, one), (large, other) = sorted(
        ((common + left, tree_of(ours)), (common + right, tree_of(theirs))), key=lambda item: item[0]
    )
    first, second = note(one, small), note(other, large)
    found = proof(first, second, Prefix(hashes=prefix_proof(other, small, large)) if small < large else None)
    assert found.verify(AGREEMENT).identified
    assert FraudProof.parse_file(found.encode_file()) == found
    index = data.draw(st.integers(common, common + min(left, right) - 1))
    small_entries, large_entries = (ours, theirs) if common + left <= common + right else (theirs, ours)
    leaves = Leaves(
        index=index,
        first=Leaf(entry=small_entries[index], hashes=inclusion_proof(one, index, small)),
        second=Leaf(entry=large_entries[index], hashes=inclusion_proof(other, index, large)),
    )
    assert proof(first, second, leaves=leaves).verify(AGREEMENT).contradiction is Contradiction.ENTRY


FILE = proof(
    note(tree_of(entries_of(5)), 5),
    note(tree_of(entries_of(9, "other")), 9),
    Prefix(hashes=prefix_proof(tree_of(entries_of(9, "other")), 5, 9)),
)


@settings(max_examples=100)
@given(st.data())
def test_any_change_of_a_file_makes_it_prove_nothing(data: st.DataObject) -> None:
    good = FILE.encode_file()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    changed = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    if changed != good:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            FraudProof.parse_file(changed).verify(AGREEMENT)
        assert type(caught.value).__name__ in ("MalformedError", "NoFraudError")


def test_a_root_that_is_no_trees_convicts_too() -> None:
    """Who signs a root that stands for nothing has signed something else than its tree."""
    tree = tree_of(entries_of(9))
    lie = Checkpoint.sign(ORIGIN, TreeHead(size=5, root=bytes(32)), LOG_KEY).encode().decode()
    found = proof(lie, note(tree, 9), Prefix(hashes=prefix_proof(tree, 5, 9)))
    assert found.verify(AGREEMENT).contradiction is Contradiction.HISTORY

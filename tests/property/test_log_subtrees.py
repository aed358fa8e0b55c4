"""Subtree proofs against their definition (draft-ietf-plants-merkle-tree-certs §4.4.2), over all small trees."""

import pytest

from audit.merkle import ProofError, Tree, TreeHead, consistency_proof, inclusion_proof, leaf_hash
from audit.subtree import Subtree, verify_subtree_consistency, verify_subtree_inclusion
from protocol.errors import MalformedError

SIZES = range(1, 18)
LEAVES = [leaf_hash(bytes([index])) for index in range(max(SIZES))]


def root(start: int, end: int) -> bytes:
    return Tree(LEAVES[start:end]).head().root


def proof_of(start: int, end: int, first: int, last: int, *, known: bool = True) -> list[bytes]:
    """SUBTREE_SUBPROOF for leaves [start, end) of the tree over [first, last)."""
    if (start, end) == (first, last):
        return [] if known else [root(first, last)]
    middle = first + (1 << ((last - first - 1).bit_length() - 1))
    if end <= middle:
        return [*proof_of(start, end, first, middle, known=known), root(middle, last)]
    if middle <= start:
        return [*proof_of(start, end, middle, last, known=known), root(first, middle)]
    return [*proof_of(middle, end, middle, last, known=False), root(first, middle)]


def subtrees(size: int) -> list[Subtree]:
    found = []
    for start in range(size):
        for end in range(start + 1, size + 1):
            try:
                found.append(Subtree(start=start, end=end, root=root(start, end)))
            except MalformedError:
                continue
    return found


@pytest.mark.parametrize("size", SIZES)
def test_every_subtree_is_consistent_with_its_tree_and_with_no_other(size: int) -> None:
    head = TreeHead(size=size, root=root(0, size))
    for subtree in subtrees(size):
        proof = proof_of(subtree.start, subtree.end, 0, size)
        verify_subtree_consistency(subtree=subtree, tree=head, proof=proof)
        for tree, changed in (
            (TreeHead(size=size, root=bytes(32)), proof),
            (head, [*proof, bytes(32)]),
            *((head, [*proof[:at], bytes(32), *proof[at + 1 :]]) for at in range(len(proof))),
        ):
            with pytest.raises(ProofError):
                verify_subtree_consistency(subtree=subtree, tree=tree, proof=changed)
        other = Subtree(start=subtree.start, end=subtree.end, root=bytes(32))
        with pytest.raises(ProofError):
            verify_subtree_consistency(subtree=other, tree=head, proof=proof)


@pytest.mark.parametrize("size", SIZES)
def test_a_tree_s_own_beginning_is_a_subtree_and_the_proofs_are_the_same(size: int) -> None:
    tree = Tree(LEAVES[:size])
    for old in range(1, size + 1):
        proof = consistency_proof(tree, old, size)
        assert proof_of(0, old, 0, size) == list(proof)
        beginning = Subtree(start=0, end=old, root=tree.head(old).root)
        verify_subtree_consistency(subtree=beginning, tree=tree.head(), proof=proof)


def test_leaves_are_in_their_subtree_at_their_index_in_the_tree() -> None:
    for subtree in subtrees(13):
        tree = Tree(LEAVES[subtree.start : subtree.end])
        for index in range(subtree.start, subtree.end):
            proof = inclusion_proof(tree, index - subtree.start, tree.size)
            verify_subtree_inclusion(leaf=LEAVES[index], index=index, proof=proof, subtree=subtree)
            for wrong in (index + tree.size, index - tree.size):
                with pytest.raises(ProofError, match="expected an index"):
                    verify_subtree_inclusion(leaf=LEAVES[index], index=wrong, proof=proof, subtree=subtree)

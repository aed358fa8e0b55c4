"""Subtrees (draft-ietf-plants-merkle-tree-certs §4): a part of a tree that has a root of its own, and its two proofs.

Pure. A cosignature of type 0x06 may be of a subtree; ours are of whole trees, so that no check of our own log rests on
these. They are here for who follows a cosigner's or a mirror's statement from a subtree into the tree. Trusts the tree
head that its caller has verified.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAXIMUM_PROOF_HASHES,
    MAXIMUM_SIZE,
    ProofError,
    TreeHead,
    node_hash,
    verify_inclusion,
)
from protocol.errors import MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtree:
    """Leaves [start, end) and the root hash (32 bytes) over them; `MalformedError` if no tree can have it.

    `start` is a multiple of the smallest power of two that is at least end − start.
    """

    start: int
    end: int
    root: bytes

    def __post_init__(self) -> None:
        width = self.end - self.start
        if not 0 <= self.start <= self.end <= MAXIMUM_SIZE or (width and self.start % (1 << (width - 1).bit_length())):
            raise MalformedError(f"subtree: expected an aligned range of leaves, found {self.start} to {self.end}")
        if len(self.root) != HASH_BYTES:
            raise MalformedError(f"subtree: expected a root of {HASH_BYTES} bytes, found {len(self.root)}")
        if not width and self.root != EMPTY_ROOT:
            raise MalformedError("subtree: expected SHA-256 of nothing for no leaves, found another root")


def verify_subtree_inclusion(*, leaf: bytes, index: int, proof: Sequence[bytes], subtree: Subtree) -> None:
    """Raise `ProofError` unless `leaf` (its hash) is leaf `index` of the tree that the subtree is part of (§4.3)."""
    if not subtree.start <= index < subtree.end:
        raise ProofError(f"inclusion: expected an index from {subtree.start} to below {subtree.end}, found {index}")
    head = TreeHead(size=subtree.end - subtree.start, root=subtree.root)
    verify_inclusion(leaf=leaf, index=index - subtree.start, proof=proof, head=head)


def verify_subtree_consistency(*, subtree: Subtree, tree: TreeHead, proof: Sequence[bytes]) -> None:
    """Raise `ProofError` unless the subtree is part of the tree (§4.4.3); no leaves are part of every tree."""
    if len(proof) > MAXIMUM_PROOF_HASHES or any(len(digest) != HASH_BYTES for digest in proof):
        raise ProofError(f"proof: expected at most {MAXIMUM_PROOF_HASHES} hashes of {HASH_BYTES} bytes, found others")
    if subtree.end > tree.size:
        raise ProofError(f"consistency: expected a tree of at least {subtree.end} leaves, found {tree.size}")
    if subtree.start == subtree.end:
        if proof:
            raise ProofError(f"consistency: expected no hashes, found {len(proof)}")
        return
    first, end, last = subtree.start, subtree.end - 1, tree.size - 1
    while first != end and (end == last or end & 1):
        first, end, last = first >> 1, end >> 1, last >> 1
    # A complete subtree is its own first hash, which the proof therefore leaves out.
    path = [subtree.root, *proof] if first == end else list(proof)
    if not path:
        raise ProofError("consistency: expected a proof, found none")
    sub_found = tree_found = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("consistency: expected a proof that ends at the root, found more hashes")
        if end & 1 or end == last:
            if first < end:
                sub_found = node_hash(sibling, sub_found)
            tree_found = node_hash(sibling, tree_found)
            while not end & 1:
                first, end, last = first >> 1, end >> 1, last >> 1
        else:
            tree_found = node_hash(tree_found, sibling)
        first, end, last = first >> 1, end >> 1, last >> 1
    if last != 0:
        raise ProofError("consistency: expected a proof that ends at the root, found too few hashes")
    if sub_found != subtree.root:
        raise ProofError(f"consistency: expected the subtree's root {subtree.root.hex()}, found {sub_found.hex()}")
    if tree_found != tree.root:
        raise ProofError(f"consistency: expected the tree's root {tree.root.hex()}, found {tree_found.hex()}")

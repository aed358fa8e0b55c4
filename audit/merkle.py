"""The log's Merkle tree (RFC 6962 §2.1, RFC 9162 §2.1): hashes, roots, proofs and their verification.

Pure functions of their arguments, over SHA-256. Verifying trusts exactly one thing: the `TreeHead`, whose size and
root the caller took from *one signed* checkpoint. A size from anywhere else makes (index, size) malleable: leaf 4 of 5
verifies as leaf 1 of 2 as well. Called by the log's writer and reader, by receipts, by silos and by the audit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from protocol.errors import MalformedError, ProtocolError

HASH_BYTES = 32
MAXIMUM_SIZE = 2**63 - 1
MAXIMUM_PROOF_HASHES = 63
EMPTY_ROOT = sha256(b"").digest()


class ProofError(ProtocolError):
    """A well-formed Merkle proof does not lead to the signed root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """Number of leaves (0 to 2⁶³−1) and root hash (32 bytes) of one tree; `MalformedError` if it isn't one."""

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAXIMUM_SIZE:
            raise MalformedError(f"tree size: expected 0 to 2^63-1, found {self.size}")
        if len(self.root) != HASH_BYTES:
            raise MalformedError(f"root hash: expected {HASH_BYTES} bytes, found {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise MalformedError("root hash: expected SHA-256 of nothing for the empty tree, found another")


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry): a leaf never equals a node, whatever the entry holds."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


class Nodes(Protocol):
    """Where the hashes of complete subtrees come from: memory (`Tree`) or tiles."""

    def node(self, level: int, index: int) -> bytes:
        """The hash (32 bytes) over leaves [index·2^level, (index+1)·2^level), all of which exist."""
        ...


class Tree:
    """A growing tree in memory: the hashes of all complete subtrees, level by level (64 bytes a leaf)."""

    __slots__ = ("_levels", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray()]
        self.size = 0
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash (32 bytes)."""
        levels, index, level, node = self._levels, self.size, 0, leaf
        levels[0] += node
        while index & 1:
            node = node_hash(bytes(levels[level][-2 * HASH_BYTES : -HASH_BYTES]), node)
            index >>= 1
            level += 1
            if level == len(levels):
                levels.append(bytearray())
            levels[level] += node
        self.size += 1

    def node(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def row(self, level: int, start: int, end: int) -> bytes:
        """The hashes [start, end) of one level, concatenated: what a tile holds."""
        if level >= len(self._levels):
            return b""
        return bytes(self._levels[level][start * HASH_BYTES : end * HASH_BYTES])

    def head(self, size: int | None = None) -> TreeHead:
        """The head of the tree's first `size` leaves (of all, unless told)."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError(f"tree size: expected 0 to {self.size}, found {size}")
        return TreeHead(size=size, root=root_hash(self, size))


def root_hash(nodes: Nodes, size: int) -> bytes:
    """MTH over the first `size` leaves (RFC 6962 §2.1)."""
    return _range_hash(nodes, 0, size) if size else EMPTY_ROOT


def inclusion_proof(nodes: Nodes, index: int, size: int) -> tuple[bytes, ...]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1, the leaf's sibling first; `ValueError` unless 0 ≤ index < size."""
    if not 0 <= index < size <= MAXIMUM_SIZE:
        raise ValueError(f"inclusion: expected an index below the size {size}, found {index}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(nodes, middle, end))
            end = middle
        else:
            path.append(_range_hash(nodes, start, middle))
            start = middle
    return tuple(reversed(path))


def consistency_proof(nodes: Nodes, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """PROOF(old, D[new]) of RFC 6962 §2.1.2; empty from size 0 and between equal sizes."""
    if not 0 <= old_size <= new_size <= MAXIMUM_SIZE:
        raise ValueError(f"consistency: expected an old size of at most {new_size}, found {old_size}")
    if old_size in (0, new_size):
        return ()
    path = []
    start, end = 0, new_size
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_range_hash(nodes, middle, end))
            end = middle
        else:
            path.append(_range_hash(nodes, start, middle))
            start = middle
    if start:  # A verifier holds the old root already; a lesser subtree that ends with the old tree it does not.
        path.append(_range_hash(nodes, start, end))
    return tuple(reversed(path))


def verify_inclusion(*, leaf: bytes, index: int, proof: Sequence[bytes], head: TreeHead) -> None:
    """Raise `ProofError` unless `leaf` (its hash) is leaf `index` of the tree under `head` (RFC 9162 §2.1.3.2)."""
    _check_hashes((leaf, *proof), proof)
    if not 0 <= index < head.size:
        raise ProofError(f"inclusion: expected an index below the signed size {head.size}, found {index}")
    position, last, found = index, head.size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("inclusion: expected a proof that ends at the root, found more hashes")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("inclusion: expected a proof that ends at the root, found too few hashes")
    if found != head.root:
        raise ProofError(f"inclusion: expected the signed root {head.root.hex()}, found {found.hex()}")


def verify_consistency(*, old: TreeHead, new: TreeHead, proof: Sequence[bytes]) -> None:
    """Raise `ProofError` unless the tree under `new` extends the tree under `old` (RFC 9162 §2.1.4.2).

    From size 0, which everything extends, and between equal sizes only the empty proof is accepted.
    """
    _check_hashes(proof, proof)
    if old.size > new.size:
        raise ProofError(f"consistency: expected a size of at least {old.size}, found {new.size}")
    if old.size in (0, new.size):
        if proof:
            raise ProofError(f"consistency: expected no hashes, found {len(proof)}")
        if old.size == new.size and old.root != new.root:
            raise ProofError(f"consistency: two roots at size {old.size}: {old.root.hex()} and {new.root.hex()}")
        return
    # A complete old tree is its own first hash, which the proof therefore leaves out.
    path = proof if old.size & (old.size - 1) else [old.root, *proof]
    old_found, new_found = _both_roots(old.size, new.size, path)
    if old_found != old.root:
        raise ProofError(f"consistency: expected the old root {old.root.hex()}, found {old_found.hex()}")
    if new_found != new.root:
        raise ProofError(f"consistency: expected the new root {new.root.hex()}, found {new_found.hex()}")


def prefix_proof(nodes: Nodes, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """The hashes that both roots follow from: a consistency proof that stands on its own, without the old root.

    It begins with the old tree's own root where a consistency proof leaves that out. `ValueError` unless
    0 < old_size < new_size.
    """
    if not 0 < old_size < new_size:
        raise ValueError(f"prefix: expected an old size of 1 to {new_size - 1}, found {old_size}")
    proof = consistency_proof(nodes, old_size, new_size)
    return proof if old_size & (old_size - 1) else (root_hash(nodes, old_size), *proof)


def prefix_root(old_size: int, new: TreeHead, hashes: Sequence[bytes]) -> bytes:
    """The root of the first `old_size` leaves of the one tree under `new`, out of a `prefix_proof`.

    The positions of the hashes follow from the two sizes alone, and all of them enter the new root: whoever had other
    hashes that lead to the same root would have a collision of SHA-256. So there is one answer for a root, and
    `ProofError` for hashes that do not lead to it.
    """
    _check_hashes(hashes, hashes[1:])
    if not 0 < old_size < new.size:
        raise ProofError(f"prefix: expected an old size of 1 to {new.size - 1}, found {old_size}")
    old_found, new_found = _both_roots(old_size, new.size, hashes)
    if new_found != new.root:
        raise ProofError(f"prefix: expected the new root {new.root.hex()}, found {new_found.hex()}")
    return old_found


def _both_roots(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots that a consistency proof leads to, 0 < old < new; `path` begins with the lowest hash that both have."""
    if not path:
        raise ProofError("consistency: expected a proof, found none")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_found = new_found = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("consistency: expected a proof that ends at the root, found more hashes")
        if position & 1 or position == last:
            old_found = node_hash(sibling, old_found)
            new_found = node_hash(sibling, new_found)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_found = node_hash(new_found, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("consistency: expected a proof that ends at the root, found too few hashes")
    return old_found, new_found


def _split(leaves: int) -> int:
    """The largest power of two below `leaves` (at least 2)."""
    return 1 << ((leaves - 1).bit_length() - 1)


def _range_hash(nodes: Nodes, start: int, end: int) -> bytes:
    """MTH(D[start:end]), where `start` is a multiple of the smallest power of two that is at least end − start."""
    found = b""
    position, remaining = end, end - start
    while remaining:
        level = (remaining & -remaining).bit_length() - 1
        remaining &= remaining - 1
        position -= 1 << level
        node = nodes.node(level, position >> level)
        found = node_hash(node, found) if found else node
    return found


def _check_hashes(hashes: Sequence[bytes], proof: Sequence[bytes]) -> None:
    if len(proof) > MAXIMUM_PROOF_HASHES:
        raise ProofError(f"proof: expected at most {MAXIMUM_PROOF_HASHES} hashes, found {len(proof)}")
    for digest in hashes:
        if len(digest) != HASH_BYTES:
            raise ProofError(f"proof: expected hashes of {HASH_BYTES} bytes, found {len(digest)}")

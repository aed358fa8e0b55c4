"""Receipts (C2SP tlog-proof): an inclusion proof with its checkpoint, which a silo keeps beside the entry's bytes.

Pure. Verifying trusts the log's key, from evidence that was appraised, and the cosigners' keys, from the agreement;
nothing in the receipt itself. The tree's size is the one under the log's signature and stands nowhere else. Called by
silos, by `strongroom silo receipts` and by the audit.
"""

import re
from dataclasses import dataclass

from audit.merkle import HASH_BYTES, MAXIMUM_PROOF_HASHES, MAXIMUM_SIZE, leaf_hash, verify_inclusion
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint, VerifierKey
from audit.quorum import Quorum, Tally
from protocol.errors import MalformedError
from protocol.fields import decode_base64, encode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAXIMUM_RECEIPT_BYTES = MAXIMUM_NOTE_BYTES + 64 * (MAXIMUM_PROOF_HASHES + 2)
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Included:
    """The verdict on a receipt: the entry is leaf `index` of the log's tree, which these owners and witnesses saw."""

    origin: str
    index: int
    size: int
    root: bytes
    votes: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Index of an entry, its inclusion proof (the leaf's sibling first) and the checkpoint that it leads to."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        """The tlog-proof file. There is no `extra` line: nothing authenticates it."""
        lines = [HEADER, f"index {self.index}", *(encode_base64(digest) for digest in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint.encode()

    @classmethod
    def parse(cls, data: bytes) -> "Receipt":
        """Read a tlog-proof file of this project's kind: no `extra` line; raises `MalformedError`."""
        if len(data) > MAXIMUM_RECEIPT_BYTES:
            raise MalformedError(f"receipt: expected at most {MAXIMUM_RECEIPT_BYTES} bytes, found {len(data)}")
        front, blank, note = data.partition(b"\n\n")
        try:
            header, index, *hashes = front.decode("ascii").split("\n")
        except ValueError as error:  # Not ASCII, or fewer than two lines.
            raise MalformedError(f'receipt: expected "{HEADER}" and an index, a line each') from error
        match = _INDEX.fullmatch(index)
        if header != HEADER or match is None or int(match[1]) > MAXIMUM_SIZE or not blank:
            raise MalformedError(f'receipt: expected "{HEADER}", "index <decimal>", hashes, a blank line, a checkpoint')
        if len(hashes) > MAXIMUM_PROOF_HASHES:
            raise MalformedError(f"receipt: expected at most {MAXIMUM_PROOF_HASHES} hashes, found {len(hashes)}")
        return cls(
            index=int(match[1]),
            proof=tuple(_hash(line) for line in hashes),
            checkpoint=Checkpoint.parse(note),
        )

    def verify(self, entry: bytes, *, log_key: VerifierKey, quorum: Quorum | None) -> Included:
        """Check that `entry` is in the log, by this numbered list; `quorum` None accepts the log's word alone.

        1. The checkpoint is of the log that `log_key` names, and signed by that key: `SignatureError`.
        2. Enough owners and witnesses cosigned it: `SignatureError` for a false cosignature, `QuorumError` for too few.
        3. The entry's leaf hash leads to the signed root at the signed size: `ProofError`.
        """
        # 1
        self.checkpoint.verify(log_key)
        # 2
        votes = Tally() if quorum is None else quorum.verify(self.checkpoint, log_key)
        # 3
        head = self.checkpoint.head
        verify_inclusion(leaf=leaf_hash(entry), index=self.index, proof=self.proof, head=head)
        return Included(
            origin=self.checkpoint.origin,
            index=self.index,
            size=head.size,
            root=head.root,
            votes=votes,
        )


def _hash(line: str) -> bytes:
    digest = decode_base64(line)
    if digest is None or len(digest) != HASH_BYTES:
        raise MalformedError(f"receipt: expected base64 of {HASH_BYTES} bytes, found {line[:80]!r}")
    return digest

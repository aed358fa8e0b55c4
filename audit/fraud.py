"""Fraud proofs: one file that shows a stranger, offline, that a log told two histories.

    strongroom-fraud/1 sha256:<hex of the SHA-256 of what follows>
    {canonical JSON: the agreement, evidence for the log keys, two signed heads, what contradicts, a cosigned head}

Pure. Verifying trusts the reader's agreement and the roots of trust that ship with `attestation`, and nothing in the
file; without an agreement of his own the reader trusts the file's, and is told to compare its digest. The digest in the
first line is no protection: it tells a damaged file from one that proves nothing, and two people which file they mean.

What convicts (record 28 says why, and what does not):

1. AGREEMENT      the file's agreement parses, and is the reader's own
2. KEYS           evidence that this agreement accepts vouches for each log key in the file
3. HEADS          both are of the agreement's log, signed by such a key, and carry no line but by such keys and by the
                  agreement's cosigners, all of which verify
4. CONTRADICTION  a  one size, two roots
                  b  the hashes lead to the larger head's root, and to another root of its first m leaves than the
                     smaller head, of size m, has (`merkle.prefix_root`)
                  c  one index, two entries, each proved to be under its head
5. ONE LOG        one key has signed both heads. Or, where keys differ: each head is cosigned by a quorum; if the two
                  first entries differ (two geneses), each by more than `faulty` owners
6. WHOSE          more than `faulty` owners have cosigned a head of that key, so that one honest silo at least took it
                  for the federation's log; or the reader knows the key. Anybody may run the agreed code, and fork
                  a log that no silo has ever seen

Called by `audit compare` (which writes none that does not verify), by silos, and by `audit verify-fraud`.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from audit.agreed import log_key_of, quorum_of
from audit.merkle import ProofError, leaf_hash, prefix_root, verify_inclusion
from audit.note import Checkpoint, VerifierKey
from audit.quorum import QuorumError
from audit.vouching import NotVouchedError, Voucher
from protocol.agreement import Agreement
from protocol.agreement_toml import AgreementError, printable
from protocol.errors import MalformedError, ProtocolError, SignatureError
from protocol.fields import format_digest, parse_digest
from protocol.keys import VerifyingKey
from protocol.record import Bytes, Count, Digest, Note, Record

MAXIMUM_FRAUD_BYTES = 2**23
MAXIMUM_VOUCHERS = 2
_HEADER = b"strongroom-fraud/1 "
_HEADER_BYTES = len(_HEADER) + len(format_digest(bytes(32))) + 1


class NoFraudError(ProtocolError):
    """A well-formed file that proves nothing; one line that says why."""


class Contradiction(StrEnum):
    """How two heads contradict each other."""

    ROOTS = "two-roots"
    HISTORY = "two-histories"
    ENTRY = "two-entries"
    GENESIS = "two-geneses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix(Record):
    """The hashes from the first head's size to the second head (`merkle.prefix_proof`)."""

    hashes: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf(Record):
    """An entry's bytes, and its inclusion proof under its head."""

    entry: Bytes
    hashes: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves(Record):
    """Two entries at one index."""

    index: Count
    first: Leaf
    second: Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraud:
    """What a file has proved. `owners`: who cosigned a head of this log; `identified`: whether 6 holds."""

    agreement: bytes
    simulated: bool
    origin: str
    contradiction: Contradiction
    sizes: tuple[int, int]
    roots: tuple[bytes, bytes]
    index: int | None
    keys: tuple[VerifyingKey, ...]
    owners: tuple[str, ...]
    identified: bool

    @property
    def sentence(self) -> str:
        """The contradiction in words."""
        m, n = self.sizes
        return {
            Contradiction.ROOTS: f"the log has signed two roots of its first {m} entries",
            Contradiction.HISTORY: f"the log has signed a root of {m} entries, and one of {n} entries that do not "
            f"begin with those {m}",
            Contradiction.ENTRY: f"the log has signed heads of {m} and of {n} entries, with another entry "
            f"{self.index} in each",
            Contradiction.GENESIS: "two logs were begun under one agreement, and cosigned",
        }[self.contradiction]


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudProof(Record, kind="fraud", limit_bytes=MAXIMUM_FRAUD_BYTES):
    """The file's content. `first` is not larger than `second`; `known` is a head of the same key, with cosignatures."""

    agreement: Bytes
    vouchers: tuple[Voucher, ...]
    first: Note
    second: Note
    prefix: Prefix | None
    leaves: Leaves | None
    known: Note | None

    def encode_file(self) -> bytes:
        """The portable file."""
        body = self.encode()
        return _HEADER + format_digest(sha256(body).digest()).encode() + b"\n" + body

    @classmethod
    def parse_file(cls, data: bytes) -> "FraudProof":
        """Read a file; raises `MalformedError`, also for one whose digest is not that of its bytes."""
        if len(data) > MAXIMUM_FRAUD_BYTES:
            raise MalformedError(f"fraud proof: expected at most {MAXIMUM_FRAUD_BYTES} bytes, found {len(data)}")
        front, body = data[:_HEADER_BYTES], data[_HEADER_BYTES:]
        digest = parse_digest(front[len(_HEADER) : -1].decode("latin-1"))
        if not front.startswith(_HEADER) or not front.endswith(b"\n") or digest is None:
            raise MalformedError('fraud proof: expected "strongroom-fraud/1 sha256:<digest>" in the first line')
        if sha256(body).digest() != digest:
            raise MalformedError(
                f"fraud proof: expected the bytes of {format_digest(digest)}, found others: the file is damaged"
            )
        return cls.parse(body)

    def verify(self, own: Agreement | None, *, log_key: VerifyingKey | None = None) -> Fraud:
        """Run the list above; raises `NoFraudError`.

        `own`: the reader's copy of the agreement; None trusts the one in the file. `log_key`: the key of the log that
        the reader means, for 6.
        """
        try:
            return _verified(self, own, log_key)
        except AgreementError as error:
            raise NoFraudError(f"the file's agreement: {error}") from error
        except (MalformedError, SignatureError, ProofError, QuorumError, NotVouchedError) as error:
            raise NoFraudError(printable(str(error))) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    checkpoint: Checkpoint
    keys: frozenset[bytes]
    owners: tuple[str, ...]


def _verified(proof: FraudProof, own: Agreement | None, log_key: VerifyingKey | None) -> Fraud:
    # 1
    agreement = Agreement.parse(proof.agreement, "federation.toml")
    if own is not None and own.digest != agreement.digest:
        raise NoFraudError(
            f"expected agreement {format_digest(own.digest)}, as in your file, found one about "
            f"{format_digest(agreement.digest)}"
        )
    # 2
    if not 1 <= len(proof.vouchers) <= MAXIMUM_VOUCHERS:
        raise NoFraudError(f"expected evidence for one log key or two, found {len(proof.vouchers)}")
    keys = [log_key_of(agreement, voucher.appraise(agreement)) for voucher in proof.vouchers]
    if len({key.public for key in keys}) != len(keys):
        raise NoFraudError("expected evidence for a key once, found it twice")
    # 3
    first, second = (_head(note, keys, agreement) for note in (proof.first, proof.second))
    if first.keys | second.keys != {key.public for key in keys}:
        raise NoFraudError("expected evidence for the keys of the two heads only, found one for another key")
    # 4
    contradiction = _contradiction(proof, first.checkpoint, second.checkpoint)
    # 5
    shared = first.keys & second.keys
    faulty, required = agreement.log.faulty, quorum_of(agreement).required
    if not shared:
        needed = faulty + 1 if contradiction is Contradiction.GENESIS else required
        for head in (first, second):
            if len(head.owners) < needed:
                raise NoFraudError(
                    f"two log keys, neither of which has signed both heads: expected each head to be cosigned by "
                    f"{needed} owners, found one of {head.checkpoint.size} entries cosigned by "
                    f"{', '.join(head.owners) or 'nobody'}"
                )
    elif contradiction is Contradiction.GENESIS:
        contradiction = Contradiction.ENTRY
    # 6
    owners = [*first.owners, *second.owners]
    if proof.known is not None:
        known = _head(proof.known, keys, agreement)
        if not known.keys & shared:
            raise NoFraudError("expected the cosigned head to be of the key that signed both, found another's")
        owners += known.owners
    convicted = tuple(VerifyingKey(key.public) for key in keys if key.public in (shared or first.keys | second.keys))
    if log_key is not None and log_key not in convicted:
        raise NoFraudError(f"expected the log of the key {log_key}, found that of {' and '.join(map(str, convicted))}")
    distinct = tuple(dict.fromkeys(owners))
    return Fraud(
        agreement=agreement.digest,
        simulated=agreement.simulated,
        origin=agreement.log.origin,
        contradiction=contradiction,
        sizes=(first.checkpoint.size, second.checkpoint.size),
        roots=(first.checkpoint.root, second.checkpoint.root),
        index=None if proof.leaves is None else proof.leaves.index,
        keys=convicted,
        owners=distinct,
        identified=log_key is not None or len(distinct) > faulty,
    )


def _head(note: str, keys: list[VerifierKey], agreement: Agreement) -> _Head:
    """3: a head, which of the keys have signed it, and the owners who have cosigned it."""
    checkpoint = Checkpoint.parse(note.encode())
    if checkpoint.origin != agreement.log.origin:
        raise NoFraudError(f"expected heads of the log {agreement.log.origin!r}, found one of {checkpoint.origin!r}")
    signed = checkpoint.note.verify(keys)
    quorum = quorum_of(agreement)
    known = {key.signer for key in (*keys, *(cosigner.key for cosigner in quorum.cosigners))}
    for signature in checkpoint.note.signatures:
        if signature.signer not in known:
            raise NoFraudError(f"expected signatures by the log and its cosigners, found one by {signature.name}")
    votes = quorum.count(checkpoint, keys[0]).owners
    return _Head(
        checkpoint=checkpoint,
        keys=frozenset(verified.key.public for verified in signed),
        owners=tuple(vote.owner for vote in votes),
    )


def _contradiction(proof: FraudProof, first: Checkpoint, second: Checkpoint) -> Contradiction:
    """4: raises `NoFraudError` or `ProofError` unless the heads contradict each other."""
    prefix, leaves = proof.prefix, proof.leaves
    if prefix is not None and leaves is not None:
        raise NoFraudError("expected one contradiction, found two")
    if first.size > second.size:
        raise NoFraudError(f"expected the smaller head first, found {first.size} and then {second.size}")
    if leaves is not None:
        # c
        if leaves.first.entry == leaves.second.entry:
            raise NoFraudError(f"expected two entries {leaves.index}, found the same one twice")
        for leaf, head in ((leaves.first, first.head), (leaves.second, second.head)):
            verify_inclusion(leaf=leaf_hash(leaf.entry), index=leaves.index, proof=leaf.hashes, head=head)
        return Contradiction.ENTRY if leaves.index else Contradiction.GENESIS
    if prefix is not None:
        # b
        if prefix_root(first.size, second.head, prefix.hashes) == first.root:
            raise NoFraudError(
                f"the head of {second.size} entries extends the one of {first.size}: an older head is no contradiction"
            )
        return Contradiction.HISTORY
    # a
    if first.size != second.size:
        raise NoFraudError(
            f"heads of {first.size} and {second.size} entries and no hashes between them: an older head is no "
            "contradiction by itself"
        )
    if first.root == second.root:
        raise NoFraudError(f"expected two roots of {first.size} entries, found one")
    return Contradiction.ROOTS

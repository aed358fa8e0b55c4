"""Who must have cosigned a checkpoint before anything that depends on it is believed or let out (DESIGN.md §8).

Pure. Trusts the cosigners' keys and owners, which come from the agreement. Called by the enclave before it releases,
by silos before they believe, by receipts and by the audit.
"""

from dataclasses import dataclass

from audit.note import Checkpoint, VerifierKey
from audit.signature_types import COSIGNATURES
from protocol.errors import ProtocolError


class QuorumError(ProtocolError):
    """An authentic checkpoint with fewer owners' cosignatures than the agreement asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigner:
    """A key that may cosign (type 0x04 or 0x06), and the owner whose one vote it casts."""

    owner: str
    key: VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """One owner's vote for a checkpoint, with the unix time that its maker's clock said."""

    owner: str
    name: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """`required` distinct owners among `cosigners`; `ValueError` for a quorum that could never be one."""

    cosigners: tuple[Cosigner, ...]
    required: int

    def __post_init__(self) -> None:
        if not 1 <= self.required <= len({cosigner.owner for cosigner in self.cosigners}):
            raise ValueError(f"quorum: expected 1 to as many as there are owners, found {self.required}")
        if any(cosigner.key.type not in COSIGNATURES for cosigner in self.cosigners):
            raise ValueError("quorum: expected keys of type 0x04 or 0x06 (cosignatures)")
        # One key under two names would vote twice.
        if len({cosigner.key.public for cosigner in self.cosigners}) != len(self.cosigners):
            raise ValueError("quorum: expected each public key once")

    def count(self, checkpoint: Checkpoint, log_key: VerifierKey) -> tuple[Cosignature, ...]:
        """The owners who cosigned, one vote each, in the checkpoint's order; maybe too few, maybe none.

        The log never counts, whatever name its key goes by. Raises `SignatureError` if a cosigner's line does not
        verify. Says nothing about the log's own signature: `Checkpoint.verify` does.
        """
        voters = {cosigner.key.public: cosigner for cosigner in self.cosigners if cosigner.key.public != log_key.public}
        votes: dict[str, Cosignature] = {}
        for verified in checkpoint.note.signatures_by([cosigner.key for cosigner in voters.values()]):
            owner = voters[verified.key.public].owner
            if verified.time is not None:
                votes.setdefault(owner, Cosignature(owner=owner, name=verified.key.name, time=verified.time))
        return tuple(votes.values())

    def verify(self, checkpoint: Checkpoint, log_key: VerifierKey) -> tuple[Cosignature, ...]:
        """The owners who cosigned; raises `QuorumError` if they are too few, `SignatureError` as `count` does."""
        votes = self.count(checkpoint, log_key)
        if len(votes) < self.required:
            owners = ", ".join(vote.owner for vote in votes) or "nobody"
            raise QuorumError(
                f"checkpoint of size {checkpoint.size}: expected cosignatures of {self.required} owners, found {owners}"
            )
        return votes

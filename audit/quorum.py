"""Who must have cosigned a checkpoint before anything that depends on it is believed or let out (DESIGN.md §8).

Pure. Trusts the keys of cosigners and further witnesses, which come from the agreement. Called by the enclave before it
releases, by silos before they believe, by receipts and by the audit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from audit.note import Checkpoint, VerifierKey
from audit.signature_types import COSIGNATURES
from protocol.errors import ProtocolError

_NAMED = 8


class QuorumError(ProtocolError):
    """An authentic checkpoint without the cosignatures that the agreement asks for; says whose are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigner:
    """A key that may cosign (type 0x04 or 0x06), and whose one vote it casts: an owner's, or a witness's by name."""

    owner: str
    key: VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """One vote for a checkpoint, an owner's or a witness's, with the unix time that its maker's clock said."""

    owner: str
    name: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Who cosigned a checkpoint: the owners, one vote each, and the further witnesses, in the checkpoint's order."""

    owners: tuple[Cosignature, ...] = ()
    witnesses: tuple[Cosignature, ...] = ()

    def __str__(self) -> str:
        names = [vote.owner for vote in self.owners] + [f"witness {vote.owner}" for vote in self.witnesses]
        return ", ".join(names) or "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """`required` distinct owners among `cosigners`, and besides `required_witnesses` of `witnesses`.

    `ValueError` for a quorum that could never be one.
    """

    cosigners: tuple[Cosigner, ...]
    required: int
    witnesses: tuple[Cosigner, ...] = ()
    required_witnesses: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.required <= len({cosigner.owner for cosigner in self.cosigners}):
            raise ValueError(f"quorum: expected 1 to as many as there are owners, found {self.required}")
        if not 0 <= self.required_witnesses <= len({witness.owner for witness in self.witnesses}):
            raise ValueError(f"quorum: expected 0 to as many as there are witnesses, found {self.required_witnesses}")
        keys = self.keys
        if any(key.type not in COSIGNATURES for key in keys):
            raise ValueError("quorum: expected keys of type 0x04 or 0x06 (cosignatures)")
        # One key under two names would vote twice.
        if len({key.public for key in keys}) != len(keys):
            raise ValueError("quorum: expected each public key once")

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The keys whose lines count."""
        return tuple(cosigner.key for cosigner in (*self.cosigners, *self.witnesses))

    def count(self, checkpoint: Checkpoint, log_key: VerifierKey) -> Tally:
        """Who cosigned; maybe too few, maybe nobody.

        The log never counts, whatever name its key goes by. Raises `SignatureError` if a cosigner's line does not
        verify. Says nothing about the log's own signature: `Checkpoint.verify` does.
        """
        voters = {each.key.public: each for each in (*self.cosigners, *self.witnesses)}
        voters.pop(log_key.public, None)
        owners: dict[str, Cosignature] = {}
        witnesses: dict[str, Cosignature] = {}
        for verified in checkpoint.note.signatures_by([voter.key for voter in voters.values()]):
            voter = voters[verified.key.public]
            votes = witnesses if voter in self.witnesses else owners
            if verified.time is not None:
                vote = Cosignature(owner=voter.owner, name=verified.key.name, time=verified.time)
                votes.setdefault(voter.owner, vote)
        return Tally(owners=tuple(owners.values()), witnesses=tuple(witnesses.values()))

    def is_met(self, tally: Tally) -> bool:
        """Whether these are enough owners and enough witnesses."""
        return len(tally.owners) >= self.required and len(tally.witnesses) >= self.required_witnesses

    def verify(self, checkpoint: Checkpoint, log_key: VerifierKey) -> Tally:
        """Who cosigned; raises `QuorumError` if they are too few, `SignatureError` as `count` does."""
        tally = self.count(checkpoint, log_key)
        if not self.is_met(tally):
            raise QuorumError(
                f"checkpoint of size {checkpoint.size}: expected cosignatures of {self}, found {tally}; "
                f"missing: {self.missing(tally)}"
            )
        return tally

    def missing(self, tally: Tally) -> str:
        """Who of those that are still waited for has not cosigned, in words."""
        parts = []
        if len(tally.owners) < self.required:
            parts += _others(self.cosigners, tally.owners)
        if len(tally.witnesses) < self.required_witnesses:
            parts += [f"witness {name}" for name in _others(self.witnesses, tally.witnesses)]
        return ", ".join(parts[:_NAMED]) + (f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else "")

    def __str__(self) -> str:
        owners = f"{self.required} owners"
        if not self.required_witnesses:
            return owners
        return f"{owners} and {self.required_witnesses} of {len(self.witnesses)} witnesses"


def _others(cosigners: Iterable[Cosigner], votes: Iterable[Cosignature]) -> list[str]:
    """Those without a vote, in the agreement's order."""
    voted = {vote.owner for vote in votes}
    return [owner for owner in dict.fromkeys(cosigner.owner for cosigner in cosigners) if owner not in voted]

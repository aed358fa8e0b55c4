"""The keys that a log has had, and which of them signs which checkpoints.

A key signs the checkpoints of every size above the index of the entry that names it (leaf 0, `key.rotated`,
`log.recovered`), up to and including the index of the entry that retires it. The first checkpoint above a rotation has
the signature of the retired key as well, as its last. Pure. Trusts whoever made it: the enclave and the audit make it
of entries, a silo of changes that it has verified (`audit.key_history`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from audit.entries import KeyRotated, LogRecovered
from audit.note import Checkpoint, VerifierKey
from protocol.errors import MalformedError, SignatureError
from protocol.keys import VerifyingKey


class RetiredKeyError(SignatureError):
    """A checkpoint that a retired key has signed, above the entry that retired it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInForce:
    """A log key, and the index of the entry that names it: it signs checkpoints of more than `since` entries.

    `handed_over`: by a rotation, so that the key before signs the first of these checkpoints as well.
    """

    key: VerifierKey
    since: int
    handed_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """A log's keys in order, the first of them and each successor; made by `first` and `followed_by`."""

    in_force: tuple[KeyInForce, ...]

    @classmethod
    def first(cls, origin: str, key: VerifyingKey, *, since: int = 0) -> "LogKeys":
        """A log with one key so far: leaf 0's, or the one that a silo met first."""
        return cls(in_force=(KeyInForce(key=VerifierKey.of_log(origin, key), since=since, handed_over=False),))

    def after(self, index: int, entry: KeyRotated | LogRecovered) -> "LogKeys":
        """The keys once an entry has named another; raises `MalformedError` as `followed_by` does."""
        return self.followed_by(entry.keys.log_key, since=index, handed_over=isinstance(entry, KeyRotated))

    def followed_by(self, key: VerifyingKey, *, since: int, handed_over: bool) -> "LogKeys":
        """The keys after entry `since` has named another; raises `MalformedError` for one that was used before."""
        added = KeyInForce(key=replace(self.current, public=key.raw), since=since, handed_over=handed_over)
        if since <= self.in_force[-1].since:
            raise MalformedError(f"log key: expected a change after entry {self.in_force[-1].since}, found {since}")
        if any(former.key.public == key.raw for former in self.in_force):
            raise MalformedError("log key: expected a new one, found one used before")
        if any(former.key.key_id == added.key.key_id for former in self.in_force):
            raise MalformedError("log key: expected one with a key id of its own, found a former one's")
        return LogKeys(in_force=(*self.in_force, added))

    @property
    def handovers(self) -> Iterable[tuple[int, VerifierKey, VerifierKey]]:
        """The index of each rotation, and the two keys that sign the first checkpoint above it."""
        for former, item in pairwise(self.in_force):
            if item.handed_over:
                yield item.since, former.key, item.key

    @property
    def current(self) -> VerifierKey:
        """The key that signs now."""
        return self.in_force[-1].key

    def at(self, size: int) -> VerifierKey:
        """The key that signs, or signed, checkpoints of `size` entries."""
        return next((item.key for item in reversed(self.in_force) if size > item.since), self.in_force[0].key)

    def retired_at(self, key: VerifyingKey) -> int | None:
        """The index of the entry that retired a key; None for the current one and for one that never was in force."""
        for item, successor in pairwise(self.in_force):
            if item.key.public == key.raw:
                return successor.since
        return None

    def signer(self, checkpoint: Checkpoint) -> VerifierKey:
        """The key to verify a checkpoint under, by its size.

        Raises `RetiredKeyError` if not that key but one that was retired below this size has signed it.
        """
        key = self.at(checkpoint.size)
        signers = {signature.signer for signature in checkpoint.note.signatures}
        if key.signer not in signers:
            for former, retired in self.retired_below(checkpoint.size):
                if former.signer in signers:
                    raise RetiredKeyError(
                        f"checkpoint of size {checkpoint.size}: signed with a key that was retired at entry {retired}"
                    )
        return key

    def verify(self, checkpoint: Checkpoint) -> VerifierKey:
        """Raise `SignatureError` unless the key of its size has signed it; returns that key."""
        key = self.signer(checkpoint)
        checkpoint.verify(key)
        return key

    def retired_below(self, size: int) -> Iterable[tuple[VerifierKey, int]]:
        """The keys that sign no checkpoints of this size any more, each with the entry that retired it."""
        for item, successor in pairwise(self.in_force):
            if size > successor.since:
                yield item.key, successor.since

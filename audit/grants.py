"""The silos' grants for a new log key: what stands in for the signature of a key that was lost (record 0026).

A grant is one silo's word that this boot's keys may go on with the log of exactly `size` entries and this root; a silo
gives none for a log that is smaller than, or no extension of, what it has cosigned. So whoever goes on has the newest
state that a quorum ever saw (`docs/decisions/0026-recovering-a-log.md`). Pure; trusts the agreement's identity keys.
Called by the enclave while it gathers them, by silos that follow a log over a recovery, and by the audit.

Numbered checks, repeated below:

1. each grant is signed by the identity key of the silo that it names, which the agreement names too
2. no silo twice
3. each is for this agreement and log, this boot and its keys, the key before, and this size and root
4. they are by as many distinct owners as the agreement's quorum needs
5. training goes on from the newest published model that any of these silos holds, or from the initial one
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.entries import LogRecovered
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.enrolment import ApplianceKeys
from protocol.errors import MalformedError, ProtocolError, RefusedError, SignatureError
from protocol.fields import format_digest
from protocol.recovery import RecoveryGrant, RecoveryGrants, granted_by, keys_digest, open_grant


class GrantError(ProtocolError):
    """Grants that do not authorise what they are shown for: forged, for something else, twice, or too few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What is to be granted: that the boot with these keys goes on after `previous`, from this size and root."""

    boot_id: bytes
    keys: ApplianceKeys
    previous: bytes
    size: int
    root: bytes

    @classmethod
    def by(cls, entry: LogRecovered) -> "Recovered":
        """What an entry claims to have been granted."""
        return cls(boot_id=entry.boot_id, keys=entry.keys, previous=entry.previous, size=entry.size, root=entry.root)

    def grant(self, agreement: Agreement, silo: str, models: Sequence[bytes]) -> RecoveryGrant:
        """A silo's grant of it; `models`: the contents that the silo can hand back."""
        return RecoveryGrant(
            silo=silo,
            agreement=agreement.digest,
            origin=agreement.log.origin,
            boot_id=self.boot_id,
            keys=keys_digest(self.keys),
            previous=self.previous,
            size=self.size,
            root=self.root,
            models=tuple(models),
        )


def verify_grant(agreement: Agreement, recovered: Recovered, signed: bytes) -> RecoveryGrant:
    """Checks 1 and 3 for one grant; raises `GrantError`."""
    # 1
    try:
        silo = granted_by(signed)
        grant = open_grant(signed, agreement.silo(silo).identity, silo)
    except (MalformedError, SignatureError, RefusedError) as error:
        raise GrantError(f"grant: {printable(str(error))}") from error
    # 3
    expected = recovered.grant(agreement, silo, grant.models)
    for field, what in _TERMS:
        ours, theirs = getattr(expected, field), getattr(grant, field)
        if ours != theirs:
            raise GrantError(f"grant of {silo}: {what}: expected {_shown(ours)}, found {_shown(theirs)}")
    return grant


def verify_grants(agreement: Agreement, entry: LogRecovered, grants: bytes) -> None:
    """Checks 1 to 4 for an entry's grants object, which the caller has held against its digest; raises `GrantError`."""
    open_grants(agreement, Recovered.by(entry), grants)


def open_grants(agreement: Agreement, recovered: Recovered, data: bytes) -> tuple[RecoveryGrant, ...]:
    """The grants in an object, after checks 1 to 4; raises `GrantError`."""
    try:
        listed = RecoveryGrants.parse(data).grants
    except MalformedError as error:
        raise GrantError(f"grants: {printable(str(error))}") from error
    grants: dict[str, RecoveryGrant] = {}
    for signed in listed:
        grant = verify_grant(agreement, recovered, signed)
        # 2
        if grant.silo in grants:
            raise GrantError(f"grants: expected one of each silo, found two of {grant.silo}")
        grants[grant.silo] = grant
    # 4
    owners = owners_of(agreement, grants)
    if len(owners) < agreement.log.cosigners:
        found = ", ".join(owners) or "nobody"
        raise GrantError(f"grants: expected those of {agreement.log.cosigners} owners, found {found}")
    return tuple(grants.values())


def require_newest(agreement: Agreement, entry: LogRecovered, grants: bytes, published: Mapping[bytes, int]) -> None:
    """Check 5; raises `GrantError`.

    `published`: content → the newest round that published it (0: the initial model). Not for a log that was closed
    before: its last model stays, whether a silo holds it or not.
    """
    held = [model for grant in open_grants(agreement, Recovered.by(entry), grants) for model in grant.models]
    expected = newest_held(published, held, agreement.model.initial)
    if entry.model != expected:
        raise GrantError(
            f"model: expected {format_digest(expected)}, the newest that a silo which granted holds, "
            f"found {format_digest(entry.model)}"
        )


def owners_of(agreement: Agreement, silos: Mapping[str, object]) -> tuple[str, ...]:
    """The distinct owners of these silos, in the agreement's order: one vote each."""
    return tuple(dict.fromkeys(silo.owner for silo in agreement.silos if silo.name in silos))


def newest_held(published: Mapping[bytes, int], models: Sequence[bytes], agreed: bytes) -> bytes:
    """The content to go on from: of the newest round among `models`, else `agreed`, the initial model."""
    return max((model for model in models if model in published), key=lambda model: published[model], default=agreed)


_TERMS = (
    ("agreement", "agreement"),
    ("origin", "log"),
    ("boot_id", "boot"),
    ("keys", "digest of the new keys"),
    ("previous", "key that is lost"),
    ("size", "size"),
    ("root", "root"),
)


def _shown(value: object) -> str:
    return value.hex()[:16] + "…" if isinstance(value, bytes) else printable(str(value))[:120]

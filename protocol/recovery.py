"""Recovering a log whose key is lost: four messages on the enrolment port (`docs/protocol.md`, record 0026).

1. `RecoveryAsk`       silo → appliance   signed with the identity key that the agreement names
2. `RecoveryOffer`     appliance → silo   evidence over the silo's nonce for the new keys, the log's newest checkpoint,
                                          and what would be lost; signed with the key that the evidence vouches for
3. `RecoveryGrant`     silo → appliance   signed by the identity key: these keys may go on with exactly this log
4. `RecoveryStanding`  appliance → silo   who has granted so far, and whether it was enough

The grants that made the quorum are one object beside the log (`RecoveryGrants`), which the `log.recovered` entry names:
they stand in for the signature of the key that is gone.
"""

from dataclasses import dataclass

from attestation.encoding import labelled_digest
from protocol.enrolment import ApplianceKeys
from protocol.errors import MalformedError, RefusalCode, RefusedError, refuse
from protocol.keys import SigningKey, VerifyingKey
from protocol.record import Bytes, Count, Digest, Id32, Key32, Name, Note, Record, Text, kind_of
from protocol.session import Consistency
from protocol.signed import open_message, sign_message, unverified_body

ASK_LABEL = "strongroom/recovery-ask/v1"
OFFER_LABEL = "strongroom/recovery-offer/v1"
GRANT_LABEL = "strongroom/recovery-grant/v1"
STANDING_LABEL = "strongroom/recovery-standing/v1"
PURPOSE = "recovery"
_KEYS_LABEL = "strongroom/recovered-keys/v1"
_SHORT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryAsk(Record, kind="recovery-ask", limit_bytes=_SHORT):
    """The silo's nonce, the log size that it knows (0: none), and the models that it could hand back, by content."""

    silo: Name
    agreement: Digest
    nonce: Id32
    head: Count
    models: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAttempt(Record):
    """An attempt that was open when the key was lost: it ends without a result."""

    round: Count
    attempt: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss(Record):
    """What a recovery costs, as the attested code reads it in the log.

    `rounds`: published so far; `yours`: the newest round whose model the asking silo holds (0: the initial model), null
    if it holds none; `held`: the newest that anybody who has asked so far holds.
    """

    rounds: Count
    attempt: OpenAttempt | None
    controls: bool
    yours: Count | None
    held: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOffer(Record, kind="recovery-offer", limit_bytes=2**18):
    """The new boot's keys and evidence, the log that it would go on with, and what is lost by it.

    `checkpoint` is signed by `previous`, the key that is lost; `consistency` leads to it from the silo's head.
    """

    agreement: Digest
    origin: Text
    boot_id: Id32
    keys: ApplianceKeys
    nonce: Id32
    evidence: Bytes
    previous: Key32
    checkpoint: Note
    consistency: Consistency
    loss: Loss

    def expected_report_data(self, nonce: bytes) -> bytes:
        """What the evidence must carry if it answers `nonce`, the silo's own."""
        return self.keys.report_data(
            purpose=PURPOSE, origin=self.origin, agreement=self.agreement, boot_id=self.boot_id, nonce=nonce
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryGrant(Record, kind="recovery-grant", limit_bytes=_SHORT):
    """One silo's leave for one boot's keys (`keys_digest`) to go on with the log of `size` entries and this root.

    `previous` is the key that signed that log; `models` are the contents that the silo can hand back.
    """

    silo: Name
    agreement: Digest
    origin: Text
    boot_id: Id32
    keys: Digest
    previous: Key32
    size: Count
    root: Id32
    models: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryGrants(Record, kind="recovery-grants"):
    """The signed grants of one recovery, in the agreement's order of silos."""

    grants: tuple[Bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStanding(Record, kind="recovery-standing", limit_bytes=2**18):
    """The owners who have granted, how many it takes, and the log's size once it was recovered (else null)."""

    boot_id: Id32
    owners: tuple[Name, ...]
    required: Count
    recovered: Count | None


def is_ask(message: bytes) -> bool:
    """Whether a signed message says that it is a `RecoveryAsk`, before anything about it is verified."""
    try:
        return kind_of(unverified_body(message), RecoveryAsk.LIMIT_BYTES)[0] == RecoveryAsk.KIND
    except MalformedError:
        return False


def not_recovering() -> RefusedError:
    """The refusal of an ask where the log has its key."""
    return refuse(
        RefusalCode.NOT_RECOVERING,
        expected="an appliance that has lost the log's key and was started with --recover",
        found="one whose log goes on",
        remedy="nothing is to be authorised; start `strongroom silo train`",
    )


def keys_digest(keys: ApplianceKeys) -> bytes:
    """What a grant names a boot's public keys by (32 bytes)."""
    return labelled_digest(_KEYS_LABEL, keys.encode())


def sign_grant(identity: SigningKey, grant: RecoveryGrant) -> bytes:
    """The signed grant, as it travels and as the log keeps it."""
    return sign_message(identity, GRANT_LABEL, grant.encode())


def granted_by(signed: bytes) -> str:
    """The name in a grant before anything of it is verified: only to find out whose key to verify under."""
    return RecoveryGrant.parse(unverified_body(signed)).silo


def open_grant(signed: bytes, identity: VerifyingKey, silo: str) -> RecoveryGrant:
    """The grant of a silo; raises `MalformedError`, `SignatureError`."""
    grant = RecoveryGrant.parse(open_message(identity, GRANT_LABEL, signed, f"recovery grant of {silo}"))
    if grant.silo != silo:
        raise MalformedError(f"recovery grant: expected one of {silo}, found one of {grant.silo}")
    return grant

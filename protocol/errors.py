"""What goes wrong between the parties, told apart by whose fault it is.

`MalformedError`: bytes that are not what they claim to be; every parser of foreign bytes raises it and nothing else.
`SignatureError`: well-formed bytes that the named key did not sign, or that do not open under the key.
`RefusedError`: well-formed, authentic, and not acceptable; it carries a `Refusal` that a person can act on.
"""

from dataclasses import dataclass
from enum import StrEnum


class ProtocolError(Exception):
    """Base of everything that this package raises on purpose."""


class MalformedError(ProtocolError):
    """Foreign bytes do not parse. The message says where, what was expected and what was found."""


class SignatureError(ProtocolError):
    """A signature, tag or wrap does not verify under the key that was named."""


class RefusalCode(StrEnum):
    """Why somebody was refused; stable, logged, and safe to show to anyone."""

    AGREEMENT_MISMATCH = "agreement-mismatch"
    UNKNOWN_SILO = "unknown-silo"
    UNKNOWN_WITNESS = "unknown-witness"
    IDENTITY_SIGNATURE = "identity-signature"
    STALE_NONCE = "stale-nonce"
    EVIDENCE_MALFORMED = "evidence-malformed"
    EVIDENCE_NOT_AUTHENTIC = "evidence-not-authentic"
    EVIDENCE_REFUSED = "evidence-refused"
    EVIDENCE_UNCHECKABLE = "evidence-uncheckable"
    WRONG_BOOT = "wrong-boot"
    MALFORMED = "malformed"
    NOT_ADMITTED = "not-admitted"
    CREDENTIAL_EXPIRED = "credential-expired"
    TLS_VERSION = "tls-version"
    LOG_ROLLED_BACK = "log-rolled-back"
    LOG_FORKED = "log-forked"
    OTHER_LOG = "other-log"
    WRONG_ROUND = "wrong-round"
    WRONG_LAYOUT = "wrong-layout"
    WRONG_BASE_MODEL = "wrong-base-model"
    WRONG_PARENT = "wrong-parent"
    WRONG_ENCODING = "wrong-encoding"
    WRONG_SENDER = "wrong-sender"
    WRONG_SIZE = "wrong-size"
    WRONG_MODEL = "wrong-model"
    UPDATE_SIGNATURE = "update-signature"
    UPDATE_CORRUPT = "update-corrupt"
    UPDATE_NOT_FINITE = "update-not-finite"
    UPDATE_TOO_LARGE = "update-too-large"
    UPDATE_STEPS = "update-steps"
    ALREADY_COMPLETE = "already-complete"
    ROUND_CLOSED = "round-closed"
    CHANGED_AFTER_ADMISSION = "changed-after-admission"
    NOT_RECOVERING = "not-recovering"
    BUSY = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal in words: what was expected, what was found, what to do."""

    code: RefusalCode
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code}: expected {self.expected}, found {self.found}; {self.remedy}"


class RefusedError(ProtocolError):
    """The other party's object is authentic or at least readable, and refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class TurnedAwayError(RefusedError):
    """A refusal that came over the wire, where nothing signs it: whoever carries it can have written it himself."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.args = (f"{refusal} (so says the appliance, unsigned)",)


def refuse(code: RefusalCode, *, expected: str, found: str, remedy: str) -> RefusedError:
    """Build the error to raise for one refusal."""
    return RefusedError(Refusal(code=code, expected=expected, found=found, remedy=remedy))

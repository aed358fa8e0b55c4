"""Hand the key of a body that was encrypted once to one recipient of one round.

A model goes to all silos as the same bytes; what each silo gets for itself is this small object, signed by the
appliance. It binds body, round, attempt and recipient, in the signature and again in the wrap, so that neither can be
used for another body, moment or silo. The recipient's key is that of its admission, never one from a request.
"""

from dataclasses import dataclass, fields
from hashlib import sha256

from protocol.errors import MalformedError, RefusalCode, refuse
from protocol.fields import format_digest
from protocol.keys import SealingKey, SealingPublicKey, SigningKey, VerifyingKey
from protocol.record import Bytes, Count, Digest, Id32, Name, Record
from protocol.sealing.content_key import ContentKey
from protocol.sealing.geometry import WRAP_BYTES
from protocol.sealing.header import BlobKind
from protocol.signed import open_message, sign_message

MODEL_KEY_LABEL = "strongroom/model-key/v1"
MODEL_KEY_WRAP_LABEL = "strongroom/model-key-wrap/v1"
_BODIES = (BlobKind.MODEL.value, BlobKind.CONTROL.value, BlobKind.INITIAL.value)
_CODES = {
    "agreement": RefusalCode.AGREEMENT_MISMATCH,
    "boot_id": RefusalCode.WRONG_BOOT,
    "round": RefusalCode.WRONG_ROUND,
    "attempt": RefusalCode.WRONG_ROUND,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKeyTerms(Record, limit_bytes=4096):
    """What a handed-out key is for.

    `kind`: of the body (model, control or initial); `body`: the blob's digest; `recipient`: the silo's name;
    `recipient_key`: SHA-256 of its sealing key (`key_digest`).
    """

    kind: Name
    body: Digest
    agreement: Digest
    boot_id: Id32
    round: Count
    attempt: Count
    recipient: Name
    recipient_key: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrappedKey(ModelKeyTerms, limit_bytes=4096):
    wrap: Bytes

    @property
    def terms(self) -> ModelKeyTerms:
        return ModelKeyTerms(**{field.name: getattr(self, field.name) for field in fields(ModelKeyTerms)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """A handed-out key whose signature has been verified: `parse` is the only way to one from foreign bytes."""

    terms: ModelKeyTerms
    wrap: bytes

    @staticmethod
    def seal(key: ContentKey, terms: ModelKeyTerms, recipient: SealingPublicKey, signing_key: SigningKey) -> bytes:
        """The signed message for one recipient, whose key `terms.recipient_key` names (`ValueError` otherwise).

        Raises `MalformedError` if the recipient's key is not one.
        """
        if terms.kind not in _BODIES or terms.recipient_key != key_digest(recipient):
            raise ValueError(f"model key: {terms.kind!r} is no body to hand out, or the terms name another recipient")
        wrap = key.wrap(recipient, MODEL_KEY_WRAP_LABEL, terms.encode())
        values = {field.name: getattr(terms, field.name) for field in fields(terms)}
        return sign_message(signing_key, MODEL_KEY_LABEL, _WrappedKey(**values, wrap=wrap).encode())

    @classmethod
    def parse(cls, message: bytes, appliance: VerifyingKey) -> "ModelKey":
        """Read and verify a signed message; raises `MalformedError` or `SignatureError`."""
        wrapped = _WrappedKey.parse(open_message(appliance, MODEL_KEY_LABEL, message, "model key"))
        if wrapped.kind not in _BODIES or len(wrapped.wrap) != WRAP_BYTES:
            raise MalformedError(
                f"model key: expected one of {', '.join(_BODIES)} and {WRAP_BYTES} bytes, "
                f"found {wrapped.kind!r} and {len(wrapped.wrap)}"
            )
        return cls(terms=wrapped.terms, wrap=wrapped.wrap)

    def open(self, sealing_key: SealingKey, expected: ModelKeyTerms) -> ContentKey:
        """The content key, if the terms are those expected (`RefusedError`) and the wrap opens (`SignatureError`)."""
        for field in fields(ModelKeyTerms):
            wanted, found = getattr(expected, field.name), getattr(self.terms, field.name)
            if wanted != found:
                raise refuse(
                    _CODES.get(field.name, RefusalCode.WRONG_MODEL),
                    expected=f"model key for {field.name} {_shown(wanted)}",
                    found=_shown(found),
                    remedy="take the key that this announcement brought",
                )
        return ContentKey.unwrap(self.wrap, sealing_key, MODEL_KEY_WRAP_LABEL, self.terms.encode())


def key_digest(key: SealingPublicKey) -> bytes:
    """SHA-256 of a sealing key's 1,216 bytes: how a model key names its recipient's key."""
    return sha256(key.raw).digest()


def _shown(value: object) -> str:
    return format_digest(value) if isinstance(value, bytes) else str(value)

"""Signed notes, verifier keys, checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature).

Pure, and strict where implementations are known to be fooled: what is verified is the text exactly as it came, never
a text written again from parsed values. A note's signatures by unknown keys are carried along and never counted.
Called by the log, by receipts, by silos (who cosign) and by the audit.

This module trusts the keys that its caller names: the log's from evidence that was appraised, the cosigners' from the
agreement.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from audit import signature_types
from audit.checkpoint_text import CheckpointText, checkpoint_text
from audit.merkle import TreeHead
from audit.signature_types import MAXIMUM_TIME, SignatureType, cosigned_message
from protocol.errors import MalformedError, SignatureError
from protocol.fields import decode_base64, encode_base64
from protocol.keys import SigningKey, VerifyingKey
from protocol.verifier_keys import KEY_ID_BYTES, join_verifier_key, key_name, require_key_id, split_verifier_key

MAXIMUM_NOTE_BYTES = 1_000_000
MAXIMUM_SIGNATURES = 100
_DASH = "— "
_TIME_BYTES = 8
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line: key name, key id (4 bytes) and what the key's type makes of a signature (1 byte or more)."""

    name: str
    key_id: bytes
    payload: bytes

    @property
    def signer(self) -> tuple[str, bytes]:
        """Key name and key id, which together stand for one key."""
        return self.name, self.key_id

    def encode(self) -> str:
        """`— <name> <base64(key id ‖ payload)>` and a newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.payload)}\n"

    @classmethod
    def parse(cls, line: str) -> "NoteSignature":
        """Read one line, its newline included; raises `MalformedError`."""
        name, space, text = line.removeprefix(_DASH).removesuffix("\n").partition(" ")
        blob = decode_base64(text) if space and line.startswith(_DASH) and line.endswith("\n") else None
        if blob is None or len(blob) <= KEY_ID_BYTES:
            raise MalformedError(f'signature line: expected "{_DASH}<name> <base64>", found {line[:80]!r}')
        return cls(name=key_name(name), key_id=blob[:KEY_ID_BYTES], payload=blob[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A key that may sign notes: its name, its signature type and its public bytes."""

    name: str
    type: SignatureType
    public: bytes

    def __post_init__(self) -> None:
        key_name(self.name)
        signature_types.check_key(self.type, self.public)

    @classmethod
    def of_log(cls, origin: str, key: VerifyingKey) -> "VerifierKey":
        """The key that signs a log's checkpoints: named as its origin."""
        return cls(name=origin, type=SignatureType.ED25519, public=key.raw)

    @classmethod
    def of_cosigner(cls, name: str, key: VerifyingKey) -> "VerifierKey":
        """The key that makes cosignatures (cosignature/v1) under a name."""
        return cls(name=name, type=SignatureType.COSIGNATURE, public=key.raw)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that a signature line names its key by: tells keys apart, binds nothing."""
        return signature_types.key_id(self.type, self.name, self.public)

    @property
    def signer(self) -> tuple[str, bytes]:
        """Name and key id, as a signature line has them (`NoteSignature.signer`)."""
        return self.name, self.key_id

    def __str__(self) -> str:
        return join_verifier_key(self.name, self.key_id, bytes([self.type]) + self.public)

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `<name>+<key id>+<base64(type ‖ public key)>`.

        Raises `MalformedError`, also for a key of a type that we can't check: who configures one must be told.
        """
        name, key_id, blob = split_verifier_key(text)
        if blob[0] not in tuple(SignatureType):
            raise MalformedError(f"verifier key: expected type 0x01, 0x02, 0x04, 0x05 or 0x06, found 0x{blob[0]:02x}")
        key = cls(name=name, type=SignatureType(blob[0]), public=blob[1:])
        require_key_id(key.key_id, key_id)
        return key

    def verify(self, signature: NoteSignature, text: bytes) -> int | None:
        """Check a signature over a note's text; returns the unix time that a cosignature states, else None.

        Raises `SignatureError` if it is another key's, of the wrong size, or doesn't verify.
        """
        if signature.signer != self.signer:
            raise SignatureError(f"note: expected a signature by {self.name}, found one by {signature.name}")
        return signature_types.verify(
            self.type, name=self.name, public=self.public, payload=signature.payload, text=text
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSignature:
    """A signature that verified: by which key and, for a cosignature, at what unix time by its maker's clock."""

    key: VerifierKey
    time: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text (UTF-8, its final newline included) and its signature lines, none of them verified yet."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """Split at the last blank line; raises `MalformedError`."""
        if len(data) > MAXIMUM_NOTE_BYTES:
            raise MalformedError(f"note: expected at most {MAXIMUM_NOTE_BYTES} bytes, found {len(data)}")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(f"note: expected UTF-8, found byte {error.start} out of place") from error
        if _CONTROL.search(whole):
            raise MalformedError("note: expected no control character but newline, found one")
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise MalformedError("note: expected a text, a blank line and signature lines, each ending in a newline")
        if lines.count("\n") > MAXIMUM_SIGNATURES:
            raise MalformedError(f"note: expected at most {MAXIMUM_SIGNATURES} signatures, found more")
        signatures = tuple(NoteSignature.parse(line + "\n") for line in lines[:-1].split("\n"))
        return cls(text=f"{text}\n".encode(), signatures=signatures)

    def encode(self) -> bytes:
        """Text, blank line, signature lines."""
        return self.text + b"\n" + "".join(signature.encode() for signature in self.signatures).encode()

    def signatures_by(self, keys: Sequence[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """Check each key's first line, if it has one; returns one for each public key, in the note's order.

        Raises `SignatureError` if one of them does not verify, or if two of `keys` claim the same line. Lines by
        other keys say nothing and are skipped.
        """
        known = [key.signer for key in keys]
        by_signer = dict(zip(known, keys, strict=True))
        checked: set[tuple[str, bytes]] = set()
        verified: dict[bytes, VerifiedSignature] = {}
        for signature in self.signatures:
            key = by_signer.get(signature.signer)
            if key is None or signature.signer in checked:
                continue
            if known.count(signature.signer) > 1:
                raise SignatureError(f"note: ambiguous key {signature.name}: given twice")
            checked.add(signature.signer)
            verified.setdefault(key.public, VerifiedSignature(key=key, time=key.verify(signature, self.text)))
        return tuple(verified.values())

    def verify(self, keys: Sequence[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """As `signatures_by`, and raises `SignatureError` if no line is by any of `keys`."""
        verified = self.signatures_by(keys)
        if not verified:
            raise SignatureError("note: expected a signature by a known key, found none")
        return verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's signed head: the note, and what its text says. Nothing is verified before `verify`."""

    origin: str
    head: TreeHead
    extensions: tuple[str, ...]
    note: Note

    @property
    def size(self) -> int:
        return self.head.size

    @property
    def root(self) -> bytes:
        return self.head.root

    @classmethod
    def parse(cls, data: bytes, *, allow_extensions: bool = False) -> "Checkpoint":
        """Read a checkpoint; raises `MalformedError`.

        Beyond the note's rules: one line per key, and no extension lines unless allowed (we write none, and a
        cosignature of type 0x06 would not cover them).
        """
        note = Note.parse(data)
        if len({signature.signer for signature in note.signatures}) != len(note.signatures):
            raise MalformedError("checkpoint: expected one signature line per key, found a duplicate")
        text = CheckpointText.parse(note.text)
        if text.extensions and not allow_extensions:
            raise MalformedError(f"checkpoint: expected no extension lines, found {text.extensions[0][:80]!r}")
        return cls(origin=text.origin, head=text.head, extensions=text.extensions, note=note)

    @classmethod
    def sign(cls, origin: str, head: TreeHead, key: SigningKey) -> "Checkpoint":
        """Make and sign a log's checkpoint. Only the log's writer may call this, and once a size."""
        log_key = VerifierKey.of_log(origin, key.public)
        text = checkpoint_text(origin, head)
        signature = NoteSignature(name=origin, key_id=log_key.key_id, payload=key.sign_unlabelled_note(text))
        note = Note(text=text, signatures=(signature,))
        return cls(origin=origin, head=head, extensions=(), note=note)

    def encode(self) -> bytes:
        """The signed note."""
        return self.note.encode()

    def verify(self, log_key: VerifierKey, *, origin: str | None = None) -> None:
        """Raise `SignatureError` unless this is a checkpoint of the log, signed by the log.

        `origin` is the log's, if it isn't its key's name (as it always is in ours).
        """
        expected = log_key.name if origin is None else origin
        if self.origin != expected:
            raise SignatureError(f"checkpoint: expected one of the log {expected!r}, found {self.origin[:80]!r}")
        self.note.verify([log_key])

    def cosign(self, name: str, key: SigningKey, *, time: int) -> NoteSignature:
        """This party's cosignature/v1 (type 0x04) at unix `time`; the caller has persisted that it signs this head.

        `ValueError` unless 0 < time < 2⁶³.
        """
        if not 0 < time <= MAXIMUM_TIME:
            raise ValueError(f"cosignature time: expected 1 to 2^63-1, found {time}")
        signature = key.sign_unlabelled_note(cosigned_message(time, self.note.text))
        return NoteSignature(
            name=key_name(name),
            key_id=VerifierKey.of_cosigner(name, key.public).key_id,
            payload=time.to_bytes(_TIME_BYTES, "big") + signature,
        )

    def with_lines_by(self, keys: Iterable[VerifierKey]) -> "Checkpoint":
        """The same checkpoint with the signature lines of these keys alone: what a head is kept as, and shown by."""
        signers = {key.signer for key in keys}
        lines = tuple(line for line in self.note.signatures if line.signer in signers)
        return replace(self, note=replace(self.note, signatures=lines))

    def with_signatures(self, signatures: Sequence[NoteSignature]) -> "Checkpoint":
        """The same checkpoint with more lines; a key that has one already keeps its first.

        Raises `MalformedError` if that makes more than 100.
        """
        lines = {signature.signer: signature for signature in self.note.signatures}
        for signature in signatures:
            lines.setdefault(signature.signer, signature)
        if len(lines) > MAXIMUM_SIGNATURES:
            raise MalformedError(f"checkpoint: expected at most {MAXIMUM_SIGNATURES} signatures, found more")
        return replace(self, note=replace(self.note, signatures=tuple(lines.values())))

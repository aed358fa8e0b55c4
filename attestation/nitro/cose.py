"""COSE_Sign1: the signed envelope of an attestation document, read strictly and written back.

Trusts nothing: a signature that is there is still to be verified (`authenticate`). An envelope has one encoding, with
or without its tag; only the payload, which is signed as it came, is free in its form.

Sources: RFC 9052 section 4.2 and 4.4; RFC 9053 section 2.1; aws-nitro-enclaves-nsm-api
docs/attestation_process.md section 3.1.
"""

from dataclasses import dataclass
from typing import Final

import cbor2

from attestation.errors import EvidenceMalformed
from attestation.nitro.cbor import decode, decode_first

ES384: Final = bytes.fromhex("a1013822")
"""The protected header that there is: {1 (algorithm): -35 (ECDSA with SHA-384)}."""
SIGNATURE_BYTES: Final = 96
START: Final = b"\x84" + bytes([0x40 | len(ES384)]) + ES384
"""How an envelope without its tag begins: an array of 4, the protected header."""
TAG_18: Final = b"\xd2"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoseSign1:
    """A payload with its ES384 signature: r and s, 48 bytes each, big-endian. `tagged`: CBOR tag 18 precedes."""

    payload: bytes
    signature: bytes
    tagged: bool

    @classmethod
    def parse(cls, data: bytes) -> "CoseSign1":
        """Read an envelope of at most 16 KiB; raises `EvidenceMalformed` naming the part."""
        tagged = data[:1] == TAG_18
        item = decode(data[1:] if tagged else data, "document")
        if type(item) is not list or len(item) != 4:
            raise EvidenceMalformed("document", expected="COSE_Sign1, an array of 4", found=type(item).__name__)
        protected, unprotected, payload, signature = item
        if type(protected) is not bytes or protected != ES384:
            found = protected[:40].hex() if isinstance(protected, bytes) else type(protected).__name__
            raise EvidenceMalformed("protected header", expected=f"{ES384.hex()} (ES384, nothing else)", found=found)
        if type(unprotected) is not dict or unprotected:
            raise EvidenceMalformed("unprotected header", expected="an empty map", found=type(unprotected).__name__)
        if type(payload) is not bytes or not payload:
            raise EvidenceMalformed("payload", expected="bytes", found=type(payload).__name__)
        if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
            raise EvidenceMalformed("signature", expected=f"{SIGNATURE_BYTES} bytes", found=type(signature).__name__)
        envelope = cls(payload=payload, signature=signature, tagged=tagged)
        if envelope.encode() != data:
            raise EvidenceMalformed("document", expected="the envelope's shortest encoding", found="another one")
        return envelope

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        envelope = cbor2.dumps([ES384, {}, self.payload, self.signature])
        return TAG_18 + envelope if self.tagged else envelope

    @staticmethod
    def inside(data: bytes) -> bytes | None:
        """The envelope that somebody's container holds: with something before it, and perhaps after; else None.

        Judges nothing. An envelope from the first byte on is not trimmed: what follows it would be passed over.
        """
        start = data.find(START)
        if start <= 0:
            return None
        try:
            return data[start:][: decode_first(data[start:], "document")[1]]
        except EvidenceMalformed:
            return None

    def signed_bytes(self) -> bytes:
        """What the signature covers: the Sig_structure, without external data."""
        return cbor2.dumps(["Signature1", ES384, b"", self.payload])

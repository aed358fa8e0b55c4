"""Quotes as the quoting enclaves write them: version 3 (SGX), 4 and 5 (TDX). From bytes to frozen dataclasses and back.

Trusts nothing: whoever parses a quote still has to authenticate it (`authenticate`) and to appraise it. Lengths in the
quote are checked against what is there; each byte belongs to one field, and what follows the signature data is kept
apart as `trailing`, which no signature covers.

Sources: Intel SGX ECDSA quote library reference, A.4; Intel TDX DCAP quoting library API, A.3; both also as in Intel's
SGX-TDX-DCAP-QuoteVerificationLibrary.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from attestation.dcap.enclave_report import ENCLAVE_REPORT_BYTES, EnclaveReport
from attestation.dcap.fields import FieldReader
from attestation.dcap.td_report import TD_REPORT_10_BYTES, TD_REPORT_15_BYTES, TdReport
from attestation.errors import EvidenceMalformed
from attestation.tee import Tee

QUOTE_LIMIT_BYTES: Final = 32 * 1024
"""What Linux hands out at most (TSM_OUTBLOB_MAX)."""
HEADER_BYTES: Final = 48
ECDSA_P256: Final = 2
INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
TEE_TYPES: Final = {Tee.SGX: 0x00, Tee.TDX: 0x81}
TD_BODY_TYPES: Final = {2: TD_REPORT_10_BYTES, 3: TD_REPORT_15_BYTES}
_QE_REPORT_CERTIFICATION: Final = 6

Body: TypeAlias = EnclaveReport | TdReport


class CertificationType(IntEnum):
    """How a quote names the certificate of its platform's key (PCK): it holds the chain, or only points to it."""

    PPID_CLEAR = 1
    PPID_RSA2048 = 2
    PPID_RSA3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 48 bytes. `qe_svn` and `pce_svn` exist in version 3 only; nothing is decided by them."""

    version: int
    tee: Tee
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Header":
        """Read 48 bytes; raises `EvidenceMalformed` naming the field."""
        reader = FieldReader(data, "header")
        version = reader.integer(2, "version")
        if version not in (3, 4, 5):
            raise EvidenceMalformed("version", expected="3 (SGX), 4 or 5 (TDX)", found=str(version))
        key_type = reader.integer(2, "attestation_key_type")
        if key_type != ECDSA_P256:
            raise EvidenceMalformed("attestation_key_type", expected="2 (ECDSA P-256)", found=str(key_type))
        tee = Tee.SGX if version == 3 else Tee.TDX
        tee_type = reader.integer(4, "tee_type")
        if tee_type != TEE_TYPES[tee]:
            raise EvidenceMalformed(
                "tee_type", expected=f"{TEE_TYPES[tee]:#x} in version {version}", found=f"{tee_type:#x}"
            )
        qe_svn, pce_svn = reader.integer(2, "qe_svn"), reader.integer(2, "pce_svn")
        if tee is Tee.TDX and (qe_svn or pce_svn):
            raise EvidenceMalformed("reserved bytes of header (8 to 12)", expected="zero", found=data[8:12].hex())
        qe_vendor_id, user_data = reader.take(16, "qe_vendor_id"), reader.take(20, "user_data")
        reader.end()
        return cls(
            version=version, tee=tee, qe_svn=qe_svn, pce_svn=pce_svn, qe_vendor_id=qe_vendor_id, user_data=user_data
        )

    def encode(self) -> bytes:
        """The 48 bytes that `parse` reads."""
        numbers = ((self.version, 2), (ECDSA_P256, 2), (TEE_TYPES[self.tee], 4), (self.qe_svn, 2), (self.pce_svn, 2))
        return b"".join(value.to_bytes(size, "little") for value, size in numbers) + self.qe_vendor_id + self.user_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote, not yet authenticated.

    `signed` is what the attestation key signed, as received: header and body, in version 5 with the body's descriptor.
    `qe_report_signed` are the 384 bytes that the platform's key signed. Keys and signatures are 64 bytes, big-endian.
    """

    header: Header
    body: Body
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_report_signed: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_type: CertificationType
    certification_data: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Quote":
        """Read a quote of at most 32 KiB; raises `EvidenceMalformed` naming the field."""
        if len(data) > QUOTE_LIMIT_BYTES:
            raise EvidenceMalformed("quote", expected=f"at most {QUOTE_LIMIT_BYTES} bytes", found=str(len(data)))
        reader = FieldReader(data, "quote")
        header_bytes = reader.take(HEADER_BYTES, "header")
        header = Header.parse(header_bytes)
        descriptor, size = _body_descriptor(reader, header)
        body_bytes = reader.take(size, "body")
        authentication = reader.take(reader.integer(4, "signature data length"), "signature data")
        signature, key, certification = _unwrap(authentication, header.version)
        inner = FieldReader(certification, "certification data")
        qe_report_signed = inner.take(ENCLAVE_REPORT_BYTES, "qe_report")
        qe_report_signature = inner.take(64, "qe_report_signature")
        qe_auth_data = inner.take(inner.integer(2, "qe_auth_data length"), "qe_auth_data")
        kind = inner.integer(2, "certification data type")
        if kind not in tuple(CertificationType):
            raise EvidenceMalformed("certification data type", expected="1 to 5", found=str(kind))
        certification_data = inner.take(inner.integer(4, "certification data length"), "certification data")
        inner.end()
        return cls(
            header=header,
            body=TdReport.parse(body_bytes) if header.tee is Tee.TDX else EnclaveReport.parse(body_bytes, "body"),
            signed=header_bytes + descriptor + body_bytes,
            signature=signature,
            attestation_key=key,
            qe_report=EnclaveReport.parse(qe_report_signed, "QE report"),
            qe_report_signed=qe_report_signed,
            qe_report_signature=qe_report_signature,
            qe_auth_data=qe_auth_data,
            certification_type=CertificationType(kind),
            certification_data=certification_data,
            trailing=reader.rest(),
        )

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        certification = (
            self.qe_report_signed
            + self.qe_report_signature
            + len(self.qe_auth_data).to_bytes(2, "little")
            + self.qe_auth_data
            + _certification(self.certification_type, self.certification_data)
        )
        if self.header.version > 3:
            certification = _certification(_QE_REPORT_CERTIFICATION, certification)
        authentication = self.signature + self.attestation_key + certification
        return self.signed + len(authentication).to_bytes(4, "little") + authentication + self.trailing


def signed_part(header: Header, body: Body) -> bytes:
    """What an attestation key signs for a header and a body."""
    data = body.encode()
    if header.version < 5:
        return header.encode() + data
    kind = next(kind for kind, size in TD_BODY_TYPES.items() if size == len(data))
    return header.encode() + kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data


def _body_descriptor(reader: FieldReader, header: Header) -> tuple[bytes, int]:
    """The descriptor's bytes (version 5 has one) and the body's size."""
    if header.version < 5:
        return b"", TD_REPORT_10_BYTES if header.tee is Tee.TDX else ENCLAVE_REPORT_BYTES
    descriptor = reader.take(6, "body descriptor")
    kind, size = int.from_bytes(descriptor[:2], "little"), int.from_bytes(descriptor[2:], "little")
    if kind not in TD_BODY_TYPES:
        raise EvidenceMalformed("body type", expected="2 (TD 1.0) or 3 (TD 1.5)", found=str(kind))
    if size != TD_BODY_TYPES[kind]:
        raise EvidenceMalformed("body size", expected=f"{TD_BODY_TYPES[kind]} for type {kind}", found=str(size))
    return descriptor, size


def _unwrap(authentication: bytes, version: int) -> tuple[bytes, bytes, bytes]:
    """Signature, attestation key, and the certification data, which versions 4 and 5 wrap once more."""
    reader = FieldReader(authentication, "signature data")
    signature, key = reader.take(64, "signature"), reader.take(64, "attestation_key")
    if version == 3:
        return signature, key, reader.rest()
    kind = reader.integer(2, "certification data type")
    if kind != _QE_REPORT_CERTIFICATION:
        raise EvidenceMalformed("certification data type", expected="6 (QE report)", found=str(kind))
    certification = reader.take(reader.integer(4, "certification data length"), "certification data")
    reader.end()
    return signature, key, certification


def _certification(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data

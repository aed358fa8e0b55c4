"""Endorsements of a quote, told apart by their bytes: certificates, revocation lists, Intel's signed JSON, bundles.

DER, PEM, hexadecimal and JSON, in any order. Trusts nothing: what is gathered here is still to be verified
(`authenticate`), which also refuses what it has no use for. Nothing is ever fetched.

Sources: Intel SGX and TDX provisioning certification service, API version 4; the bundle is `sgx_ql_qve_collateral_t`
in the JSON form of `dcap-qvl` and the caching services.
"""

import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import load_certificate
from attestation.dcap.certificates import (
    REVOCATION_LIST_LABEL,
    load_certificates,
    load_revocation_list,
    pem_blocks,
)
from attestation.dcap.intel_json import JsonFields
from attestation.dcap.qe_identity import QeIdentity
from attestation.dcap.strict_json import Member, members
from attestation.dcap.tcb_info import TcbInfo
from attestation.errors import EvidenceMalformed

_HEXADECIMAL = re.compile(rb"([0-9a-fA-F]{2})+")
_TCB_INFO, _QE_IDENTITY, _SIGNATURE = "tcbInfo", "enclaveIdentity", "signature"
_CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_LISTS: Final = ("root_ca_crl", "pck_crl")
_DOCUMENTS: Final = ("tcb_info", "qe_identity")
_PCK_CHAIN: Final = "pck_certificate_chain"
_BUNDLE: Final = {*_CHAINS, *_LISTS, *_DOCUMENTS, *(f"{name}_signature" for name in _DOCUMENTS)}


_Content_co = TypeVar("_Content_co", bound=TcbInfo | QeIdentity, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Generic[_Content_co]):
    """JSON that Intel signed: the inner object's exact bytes, and 64 bytes of signature (r ‖ s, big-endian)."""

    content: _Content_co
    data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """What came with a quote, each thing once and in its order. Documents are None where none came."""

    certificates: tuple[x509.Certificate, ...]
    revocation_lists: tuple[x509.CertificateRevocationList, ...]
    tcb_info: Signed[TcbInfo] | None
    qe_identity: Signed[QeIdentity] | None

    @classmethod
    def gather(cls, endorsements: tuple[bytes, ...]) -> "Collateral":
        """Read all endorsements; raises `EvidenceMalformed` for what is unreadable, or there twice and different."""
        found = _Gathering()
        for index, data in enumerate(endorsements):
            found.add(data, f"endorsement {index}")
        return cls(
            certificates=tuple(found.certificates.values()),
            revocation_lists=tuple(found.revocation_lists.values()),
            tcb_info=found.tcb_info,
            qe_identity=found.qe_identity,
        )


class _Gathering:
    """Collects, by their bytes, so that the same thing in two files is one."""

    def __init__(self) -> None:
        self.certificates: dict[bytes, x509.Certificate] = {}
        self.revocation_lists: dict[bytes, x509.CertificateRevocationList] = {}
        self.tcb_info: Signed[TcbInfo] | None = None
        self.qe_identity: Signed[QeIdentity] | None = None

    def add(self, data: bytes, field: str) -> None:
        text = data.strip(b"\0 \t\r\n")
        if text[:1] == b"{":
            self._add_json(text, field)
        elif b"-----BEGIN" in text:
            for label, der in pem_blocks(text, field):
                if label == REVOCATION_LIST_LABEL:
                    self._add_list(der, field)
                else:
                    self._add_certificate(load_certificate(der, field))
        else:
            self._add_der(bytes.fromhex(text.decode("ascii")) if _HEXADECIMAL.fullmatch(text) else data, field)

    def _add_der(self, data: bytes, field: str) -> None:
        try:
            certificates = load_certificates(data, field)
        except EvidenceMalformed:
            self._add_list(data, f"{field}, neither certificates nor collateral JSON nor")
            return
        for certificate in certificates:
            self._add_certificate(certificate)

    def _add_json(self, data: bytes, field: str) -> None:
        found = members(data, field)
        for name in (_TCB_INFO, _QE_IDENTITY):
            if found.keys() == {name, _SIGNATURE}:
                signature = JsonFields({_SIGNATURE: found[_SIGNATURE].value}, field).hexadecimal(_SIGNATURE, 64)
                self._add_document(name, found[name].text.encode(), signature, field)
                return
        if not found.keys() >= _BUNDLE or not found.keys() <= {*_BUNDLE, _PCK_CHAIN}:
            raise EvidenceMalformed(
                field,
                expected=f"{_TCB_INFO} or {_QE_IDENTITY} beside a signature, or a bundle of collateral",
                found=ascii(", ".join(sorted(found)))[1:-1][:120] or "an empty object",
            )
        self._add_bundle(found, field)

    def _add_bundle(self, found: dict[str, Member], field: str) -> None:
        fields = JsonFields({key: member.value for key, member in found.items() if member.value is not None}, field)
        for name in (*_CHAINS, *([_PCK_CHAIN] if fields.has(_PCK_CHAIN) else [])):
            for certificate in load_certificates(fields.name(name).encode(), f"{field}.{name}"):
                self._add_certificate(certificate)
        for name in _LISTS:
            text = fields.name(name).encode()
            if not _HEXADECIMAL.fullmatch(text):
                raise EvidenceMalformed(f"{field}.{name}", expected="hexadecimal digits", found="others")
            self._add_list(bytes.fromhex(text.decode("ascii")), f"{field}.{name}")
        for name, kind in zip(_DOCUMENTS, (_TCB_INFO, _QE_IDENTITY), strict=True):
            signature = fields.hexadecimal(f"{name}_signature", 64)
            self._add_document(kind, fields.name(name).encode(), signature, f"{field}.{name}")

    def _add_document(self, kind: str, data: bytes, signature: bytes, field: str) -> None:
        before: tuple[object, object] = self.tcb_info, self.qe_identity
        if kind == _TCB_INFO:
            self.tcb_info = Signed(content=TcbInfo.parse(data), data=data, signature=signature)
        else:
            self.qe_identity = Signed(content=QeIdentity.parse(data), data=data, signature=signature)
        if any(old not in (None, new) for old, new in zip(before, (self.tcb_info, self.qe_identity), strict=True)):
            raise EvidenceMalformed(field, expected=f"one {kind}", found="another one beside it")

    def _add_certificate(self, certificate: x509.Certificate) -> None:
        self.certificates[certificate.public_bytes(Encoding.DER)] = certificate

    def _add_list(self, der: bytes, field: str) -> None:
        self.revocation_lists[der] = load_revocation_list(der, field)

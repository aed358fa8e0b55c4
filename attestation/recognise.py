"""Raw evidence and endorsements as people have them in files: told apart by their bytes, never by their names.

Evidence: our own encoding, or raw (a report, quote, document or token), as bytes or written in hexadecimal or base64;
a document of Nitro's also inside a container or as a name in a certificate, a quote of Intel's also behind Open
Enclave's header or in a JSON object. Endorsements: DER, PEM with any number of certificates or lists, or JSON. Called
by commands, never by a party that decides upon the result: there, evidence names its kind.
"""

import base64
import re
from typing import Final

from cryptography import x509

from attestation.certificates import load_certificate
from attestation.dcap.carriers import quote_in
from attestation.errors import EvidenceMalformed
from attestation.evidence import MAXIMUM_EVIDENCE_BYTES, Evidence
from attestation.families import FAMILIES
from attestation.nitro.cose import CoseSign1
from attestation.tee import Tee

MAXIMUM_FILE_BYTES: Final = 2 * MAXIMUM_EVIDENCE_BYTES
_HEXADECIMAL = re.compile(rb"([0-9a-fA-F]{2})+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_PEM_KINDS = (b"CERTIFICATE", b"X509 CRL")


def recognise(data: bytes) -> Evidence:
    """The evidence in a file, with whatever endorsements came in the same file; raises `EvidenceMalformed`.

    A simulated report has the form of a real one: it is recognised as SEV-SNP, whose roots then don't vouch for it.
    """
    if len(data) > MAXIMUM_FILE_BYTES:
        raise EvidenceMalformed("evidence", expected=f"at most {MAXIMUM_FILE_BYTES} bytes", found=str(len(data)))
    if data.lstrip()[:1] == b"{" and b'"report"' in data:
        return Evidence.parse(data.strip())
    readings = _readings(data)
    quotes = (quote for reading in readings if (quote := quote_in(reading)) is not None)
    for raw in (*readings, *quotes):
        for tee, family in FAMILIES.items():
            if tee is not Tee.SIMULATED and family.recognises(raw):
                return Evidence(tee=tee, report=raw, endorsements=())
    kinds = ", ".join(tee for tee in FAMILIES if tee is not Tee.SIMULATED)
    raise EvidenceMalformed("evidence", expected=f"evidence of {kinds}", found=f"{len(data)} bytes of none of them")


def endorsements_in(data: bytes, field: str) -> tuple[bytes, ...]:
    """The endorsements in a file: each PEM block's DER, or the bytes as they are; raises `EvidenceMalformed`."""
    if len(data) > MAXIMUM_FILE_BYTES:
        raise EvidenceMalformed(field, expected=f"at most {MAXIMUM_FILE_BYTES} bytes", found=str(len(data)))
    if b"-----BEGIN" not in data or data.lstrip()[:1] == b"{":
        if not data:
            raise EvidenceMalformed(field, expected="a certificate, a revocation list or JSON", found="nothing")
        return (data,)
    blocks = _PEM.findall(data)
    if not blocks or _PEM.sub(b"", data).strip(b"\0 \t\r\n"):
        raise EvidenceMalformed(field, expected="PEM blocks and nothing else", found="something else")
    found = []
    for kind, text in blocks:
        if kind not in _PEM_KINDS:
            raise EvidenceMalformed(field, expected="CERTIFICATE or X509 CRL", found=ascii(kind)[2:-1])
        found.append(_decoded(b"".join(text.split()), field))
    return tuple(found)


def _readings(data: bytes) -> tuple[bytes, ...]:
    """The bytes as they are, and as what they may be written in."""
    text = b"".join(data.split())
    readings = [CoseSign1.inside(data) or data, *_alternative_names(data)]
    if _HEXADECIMAL.fullmatch(text.removeprefix(b"0x")):
        readings.append(bytes.fromhex(text.removeprefix(b"0x").decode("ascii")))
    elif _BASE64.fullmatch(text) and len(text) % 4 == 0:
        readings.append(base64.b64decode(text))
    else:
        readings.append(data.strip())
    return tuple(readings)


def _alternative_names(data: bytes) -> tuple[bytes, ...]:
    """What a certificate holds in hexadecimal as a name: so an enclave's TLS certificate may carry its document."""
    found: list[bytes] = []
    for der in _certificates(data):
        try:
            certificate = load_certificate(der, "evidence")
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (EvidenceMalformed, x509.ExtensionNotFound, ValueError):
            continue
        labels = (name.partition(".")[0] for name in names.get_values_for_type(x509.DNSName))
        found += (bytes.fromhex(label) for label in labels if _HEXADECIMAL.fullmatch(label.encode()))
    return tuple(found)


def _certificates(data: bytes) -> tuple[bytes, ...]:
    try:
        return endorsements_in(data, "evidence")
    except EvidenceMalformed:
        return ()


def _decoded(text: bytes, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise EvidenceMalformed(field, expected="base64 within PEM", found="something else") from error

"""The platform's certificate (PCK): which machine its key belongs to, at which security versions.

Trusts nothing: a certificate that parses is still to be verified (`authenticate`). Source: Intel SGX PCK certificate
and certificate revocation list profile specification, 1.3.5 (the extension 1.2.840.113741.1.13.1).
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from attestation.dcap.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    boolean,
    content,
    elements,
    unsigned,
)
from attestation.errors import EvidenceMalformed

EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
SGX_TYPES: Final = ("standard", "scalable", "scalable with integrity")
COMPONENTS: Final = 16
_ARC: Final = bytes.fromhex("2a864886f84d010d01")
_PPID, _TCB, _PCEID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION = (bytes((number,)) for number in range(1, 8))
_PCESVN, _CPUSVN = 17, 18


@dataclass(frozen=True, slots=True, kw_only=True)
class PckIdentity:
    """What a PCK certificate says of its platform.

    `components` are the 16 SGX TCB component SVNs, `cpu_svn` their 16 bytes as the processor reports them. The last
    three are None where the certificate does not say (single-socket platforms never do).
    """

    ppid: bytes
    components: tuple[int, ...]
    cpu_svn: bytes
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    sgx_type: str
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None

    @classmethod
    def parse(cls, certificate: x509.Certificate) -> "PckIdentity":
        """Read the extension of a certificate that `load_certificate` made; raises `EvidenceMalformed`."""
        try:
            extension = certificate.extensions.get_extension_for_oid(EXTENSION).value
        except x509.ExtensionNotFound as error:
            raise EvidenceMalformed("PCK certificate", expected="Intel's SGX extension", found="none") from error
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise EvidenceMalformed("PCK certificate", expected="Intel's SGX extension", found="another")
        fields = _fields(content(extension.value, SEQUENCE, "PCK extension"), "PCK extension")
        unknown = fields.keys() - {_PPID, _TCB, _PCEID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION}
        if unknown:
            raise EvidenceMalformed("PCK extension", expected="known fields", found=min(unknown).hex())
        tcb = _fields(_value(fields, _TCB, SEQUENCE, "TCB"), "TCB")
        numbers = [_TCB + bytes((number,)) for number in range(1, _CPUSVN + 1)]
        if sorted(tcb) != numbers:
            raise EvidenceMalformed("PCK extension TCB", expected="18 fields", found=str(len(tcb)))
        configuration = _fields(_value(fields, _CONFIGURATION, SEQUENCE, "configuration", b""), "configuration")
        flags = [_CONFIGURATION + bytes((number,)) for number in range(1, 4)]
        if not configuration.keys() <= set(flags):
            raise EvidenceMalformed("PCK extension configuration", expected="known fields", found="others")
        dynamic_platform, cached_keys, smt = (_flag(configuration, flag) for flag in flags)
        sgx_type = unsigned(_value(fields, _SGX_TYPE, ENUMERATED, "SGX type"), len(SGX_TYPES) - 1, "SGX type")
        return cls(
            ppid=_octets(fields, _PPID, 16, "PPID"),
            components=tuple(
                unsigned(_value(tcb, number, INTEGER, "SVN"), 255, "TCB component") for number in numbers[:COMPONENTS]
            ),
            cpu_svn=_octets(tcb, numbers[_CPUSVN - 1], 16, "CPUSVN"),
            pce_svn=unsigned(_value(tcb, numbers[_PCESVN - 1], INTEGER, "PCESVN"), 2**16 - 1, "PCESVN"),
            pce_id=_octets(fields, _PCEID, 2, "PCEID"),
            fmspc=_octets(fields, _FMSPC, 6, "FMSPC"),
            sgx_type=SGX_TYPES[sgx_type],
            platform_instance_id=_octets(fields, _INSTANCE, 16, "instance id") if _INSTANCE in fields else None,
            dynamic_platform=dynamic_platform,
            cached_keys=cached_keys,
            smt=smt,
        )


def _fields(data: bytes, name: str) -> dict[bytes, tuple[int, bytes]]:
    """Tag and content by the object identifier's bytes below Intel's arc."""
    fields: dict[bytes, tuple[int, bytes]] = {}
    for tag, item in elements(data, name):
        pair = list(elements(item, name))
        if tag != SEQUENCE or len(pair) != 2 or pair[0][0] != OBJECT_IDENTIFIER:
            raise EvidenceMalformed(name, expected="pairs of identifier and value", found=item.hex()[:64])
        identifier = pair[0][1]
        key = identifier.removeprefix(_ARC)
        if key == identifier or key in fields:
            raise EvidenceMalformed(name, expected="Intel's identifiers, none twice", found=identifier.hex())
        fields[key] = pair[1]
    return fields


def _value(
    fields: dict[bytes, tuple[int, bytes]], key: bytes, tag: int, name: str, default: bytes | None = None
) -> bytes:
    if key not in fields and default is not None:
        return default
    found_tag, value = fields.get(key, (None, b""))
    if found_tag != tag:
        raise EvidenceMalformed(f"PCK extension {name}", expected=f"tag {tag:#04x}", found=f"{found_tag}")
    return value


def _octets(fields: dict[bytes, tuple[int, bytes]], key: bytes, size: int, name: str) -> bytes:
    value = _value(fields, key, OCTET_STRING, name)
    if len(value) != size:
        raise EvidenceMalformed(f"PCK extension {name}", expected=f"{size} bytes", found=str(len(value)))
    return value


def _flag(fields: dict[bytes, tuple[int, bytes]], key: bytes) -> bool | None:
    return boolean(_value(fields, key, BOOLEAN, "configuration"), "configuration") if key in fields else None

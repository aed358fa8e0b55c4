"""Certificates of AMD's key distribution service: what a VCEK or VLEK certificate says about its key.

Trusts nothing: a certificate that parses is still to be verified (`authenticate`). Every extension in AMD's arc
must be known, because each may carry a TCB component that nobody would compare otherwise (as Turin's FMC once did).

Sources: AMD 57230, VCEK and VLEK certificate formats; RFC 5280; X.690 for DER.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, PublicKeyAlgorithmOID

from attestation.certificates import UNREADABLE, subject
from attestation.errors import EvidenceMalformed
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product, product_of_name
from attestation.snp.reference_values import CHIP_ID_BYTES
from attestation.snp.tcb import TcbVersion

SUBJECT: Final = {SigningKey.VCEK: "SEV-VCEK", SigningKey.VLEK: "SEV-VLEK"}
AMD_ARC: Final = "1.3.6.1.4.1.3704.1."
STRUCT_VERSION: Final = AMD_ARC + "1"
PRODUCT_NAME: Final = AMD_ARC + "2"
HARDWARE_ID: Final = AMD_ARC + "4"
CSP_ID: Final = AMD_ARC + "5"
SECURITY_VERSION: Final = AMD_ARC + "3."
_MILAN_AND_GENOA_TCB = {"bootloader": "1", "tee": "2", "snp": "3", "microcode": "8"}
TCB_EXTENSIONS: Final = {
    Product.MILAN: _MILAN_AND_GENOA_TCB,
    Product.GENOA: _MILAN_AND_GENOA_TCB,
    Product.TURIN: {"fmc": "9", **_MILAN_AND_GENOA_TCB},
}
"""Which extension below `AMD_ARC` 3 carries which TCB component."""
RESERVED_TCB_EXTENSIONS: Final = {
    Product.MILAN: ("4", "5", "6", "7"),
    Product.GENOA: ("4", "5", "6", "7"),
    Product.TURIN: ("5", "6", "7"),
}
"""Extensions below `AMD_ARC` 3 that are there and hold 0."""
STRUCT_VERSIONS: Final = {Product.MILAN: 0, Product.GENOA: 0, Product.TURIN: 1}
HARDWARE_ID_BYTES: Final = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8}

_INTEGER, _OCTET_STRING, _IA5_STRING = 0x02, 0x04, 0x16


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """The key that signs reports, as its certificate describes it.

    `chip_id` (VCEK only) is the hardware id in the form of a report's CHIP_ID: 64 bytes, zero-padded for Turin.
    `csp_id` (VLEK only) names the cloud provider.
    """

    kind: SigningKey
    product: Product
    tcb: TcbVersion
    chip_id: bytes | None
    csp_id: str | None
    public_key: ec.EllipticCurvePublicKey
    certificate: x509.Certificate

    @classmethod
    def parse(cls, certificate: x509.Certificate) -> "EndorsementKey":
        """Read a VCEK or VLEK certificate; raises `EvidenceMalformed` naming the field."""
        kind = kind_of(certificate)
        if kind is None:
            raise EvidenceMalformed("certificate subject", expected="SEV-VCEK or SEV-VLEK", found=subject(certificate))
        field = f"{kind.upper()} certificate"
        # Before it is loaded: checking a Diffie-Hellman key of 12 kB takes the library half a minute, and all threads.
        algorithm = certificate.public_key_algorithm_oid
        if algorithm != PublicKeyAlgorithmOID.EC_PUBLIC_KEY:
            raise EvidenceMalformed(f"{field} key", expected="P-384", found=algorithm.dotted_string)
        try:
            public_key = certificate.public_key()
        except UNREADABLE as error:
            raise EvidenceMalformed(f"{field} key", expected="P-384", found=type(error).__name__) from error
        extensions = _amd_extensions(certificate, field)
        if certificate.version is not x509.Version.v3:
            raise EvidenceMalformed(f"{field} version", expected="v3", found=certificate.version.name)
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP384R1):
            raise EvidenceMalformed(f"{field} key", expected="P-384", found=type(public_key).__name__)
        product = _product(extensions)
        _exactly(extensions, product, kind, field)
        struct_version = _integer(extensions, STRUCT_VERSION)
        if struct_version != STRUCT_VERSIONS[product]:
            raise EvidenceMalformed(
                f"{field} structVersion", expected=str(STRUCT_VERSIONS[product]), found=str(struct_version)
            )
        return cls(
            kind=kind,
            product=product,
            tcb=_tcb(extensions, product),
            chip_id=_chip_id(extensions, product) if kind is SigningKey.VCEK else None,
            csp_id=_ia5_string(extensions, CSP_ID) if kind is SigningKey.VLEK else None,
            public_key=public_key,
            certificate=certificate,
        )


def kind_of(certificate: x509.Certificate) -> SigningKey | None:
    """The kind of signing key that a certificate's subject claims, or None."""
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return next((kind for kind, name in SUBJECT.items() if names == [name]), None)


def _amd_extensions(certificate: x509.Certificate, field: str) -> dict[str, bytes]:
    extensions = {}
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        if extension.critical:
            raise EvidenceMalformed(f"{field} extension", expected="none marked critical", found=oid)
        if oid.startswith(AMD_ARC) and isinstance(extension.value, x509.UnrecognizedExtension):
            extensions[oid] = extension.value.value
    return extensions


def _exactly(extensions: dict[str, bytes], product: Product, kind: SigningKey, field: str) -> None:
    numbers = [*TCB_EXTENSIONS[product].values(), *RESERVED_TCB_EXTENSIONS[product]]
    expected = {STRUCT_VERSION, PRODUCT_NAME, *(SECURITY_VERSION + number for number in numbers)}
    expected.add(HARDWARE_ID if kind is SigningKey.VCEK else CSP_ID)
    if missing := expected - extensions.keys():
        raise EvidenceMalformed(f"{field} extensions", expected=min(missing), found="none")
    if unknown := extensions.keys() - expected:
        raise EvidenceMalformed(f"{field} extensions", expected="known ones", found=min(unknown))


def _product(extensions: dict[str, bytes]) -> Product:
    name = _ia5_string(extensions, PRODUCT_NAME)
    product = product_of_name(name)
    if product is None:
        raise EvidenceMalformed("productName", expected="a Milan, Genoa or Turin", found=ascii(name))
    return product


def _tcb(extensions: dict[str, bytes], product: Product) -> TcbVersion:
    for number in RESERVED_TCB_EXTENSIONS[product]:
        if _integer(extensions, SECURITY_VERSION + number):
            raise EvidenceMalformed(f"TCB extension {number}", expected="0 (reserved)", found="another value")
    components = TCB_EXTENSIONS[product].items()
    return TcbVersion(
        product=product, **{name: _integer(extensions, SECURITY_VERSION + number) for name, number in components}
    )


def _chip_id(extensions: dict[str, bytes], product: Product) -> bytes:
    value, size = extensions[HARDWARE_ID], HARDWARE_ID_BYTES[product]
    if len(value) == size + 2 and value[:2] == bytes((_OCTET_STRING, size)):
        value = value[2:]
    if len(value) != size:
        raise EvidenceMalformed("hwID", expected=f"{size} bytes for {product}", found=str(len(value)))
    return value + bytes(CHIP_ID_BYTES - size)


def _integer(extensions: dict[str, bytes], oid: str) -> int:
    """A DER INTEGER from 0 to 255: `02 01 xx`, or `02 02 00 xx` from 128 on, and nothing else."""
    value = extensions[oid]
    number = value[-1] if value else 0
    if value != (bytes((_INTEGER, 1, number)) if number < 128 else bytes((_INTEGER, 2, 0, number))):
        raise EvidenceMalformed(f"extension {oid}", expected="a DER INTEGER from 0 to 255", found=value.hex()[:64])
    return number


def _ia5_string(extensions: dict[str, bytes], oid: str) -> str:
    value = extensions.get(oid, b"")
    text = value[2:].decode("ascii", errors="replace")
    if not 1 <= len(text) < 128 or value != bytes((_IA5_STRING, len(text))) + text.encode() or not text.isprintable():
        raise EvidenceMalformed(
            f"extension {oid}", expected="a short, printable IA5String", found=value.hex()[:64] or "none"
        )
    return text

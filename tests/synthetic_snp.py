"""SEV-SNP evidence that public vectors lack, under test roots made from the simulated keys, which everybody has.

VLEKs of Genoa and Turin, Turin's and Milan's layouts, all versions of the report, revocation lists: nothing of it real.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from attestation import Evidence, Tee
from attestation.reference_values import SnpReferenceValues
from attestation.simulated.authority import Authority, issue_endorsement, issue_intermediate, issue_root
from attestation.simulated.chip import SIMULATED_CHIP_ID, SIMULATED_TCB, sign_report, simulated_chip
from attestation.simulated.reference_values import simulated_reference_values
from attestation.simulated.roots import simulated_roots
from attestation.snp.authenticate import AuthenticReport, authenticate
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.report import Cpuid, Report
from attestation.snp.roots import Chain, RootSet
from attestation.snp.tcb import TcbVersion

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALIDITY = {"not_before": NOW - timedelta(days=30), "not_after": NOW + timedelta(days=30)}
MEASUREMENT = b"m" * 48
REPORT_DATA = bytes(range(64))
PROVIDER = "CN=cc-nowhere-1.example"
CPUID = {
    Product.MILAN: Cpuid(family=0x19, model=0x01, stepping=1),
    Product.GENOA: Cpuid(family=0x19, model=0xA0, stepping=1),
    Product.TURIN: Cpuid(family=0x1A, model=0x02, stepping=1),
}
TCB = {
    Product.MILAN: TcbVersion(product=Product.MILAN, bootloader=4, tee=0, snp=24, microcode=219),
    Product.GENOA: SIMULATED_TCB,
    Product.TURIN: TcbVersion(product=Product.TURIN, fmc=1, bootloader=1, tee=1, snp=4, microcode=81),
}


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    """The simulated ARK's or ASK's."""
    data = files("attestation.simulated").joinpath("hierarchy", f"{name}_key.pem").read_bytes()
    return load_pem_private_key(data, password=None)


@cache
def root() -> Authority:
    """A test root under the simulated ARK's key."""
    return issue_root("ARK-Test", private_key("ark"), **VALIDITY)


@cache
def intermediate(name: str = "SEV-Test") -> Authority:
    """A test intermediate under the simulated ASK's key."""
    return issue_intermediate(name, private_key("ask"), root(), **VALIDITY)


@cache
def simulated_root() -> Authority:
    """The simulated ARK that ships, with its key: what it signs goes through the public `appraise`."""
    return Authority(certificate=simulated_roots().chains[0].ark, key=private_key("ark"))


def roots(product: Product, kind: SigningKey = SigningKey.VCEK, **changes: object) -> RootSet:
    """The test root and intermediate, for one product and kind of key."""
    chain = Chain(product=product, kind=kind, ark=root().certificate, intermediate=intermediate().certificate)
    return RootSet(simulated=True, chains=(replace(chain, **changes),))


def chip_id(product: Product) -> bytes:
    return SIMULATED_CHIP_ID[:8] + bytes(56) if product is Product.TURIN else SIMULATED_CHIP_ID


def endorsement(
    product: Product = Product.GENOA,
    kind: SigningKey = SigningKey.VCEK,
    issuer: Authority | None = None,
    **changes: object,
) -> bytes:
    """A VCEK or VLEK certificate (DER) of the test hierarchy over the simulated chip's key."""
    identity = chip_id(product) if kind is SigningKey.VCEK else PROVIDER.encode()
    arguments = {"tcb": TCB[product], "identity": identity, **VALIDITY, **changes}
    public_key = simulated_chip().key.public_key()
    return issue_endorsement(kind, public_key, issuer or intermediate(), **arguments).public_bytes(Encoding.DER)


def report(product: Product = Product.GENOA, **changes: object) -> Report:
    """A version-5 report of a guest on one product."""
    tcb = TCB[product].encode()
    base = simulated_chip().report(report_data=REPORT_DATA, measurement=MEASUREMENT, policy=0x30000, vmpl=0)
    base = replace(base, cpuid=CPUID[product], chip_id=chip_id(product))
    base = replace(base, current_tcb=tcb, reported_tcb=tcb, committed_tcb=tcb, launch_tcb=tcb)
    return replace(base, **changes)


def of_version(version: int, base: Report) -> Report:
    """The same report in another version, without the fields that it doesn't have."""
    return replace(
        base,
        version=version,
        cpuid=base.cpuid if version >= 3 else None,
        launch_mitigations=base.launch_mitigations if version >= 5 else None,
        current_mitigations=base.current_mitigations if version >= 5 else None,
    )


def values(product: Product, **changes: object) -> SnpReferenceValues:
    """Reference values that `report(product)` meets."""
    base = simulated_reference_values(MEASUREMENT)
    return replace(base, products=(product,), minimum_tcb=(TCB[product],), **changes)


def authenticated(
    signed: Report, certificate: bytes, root_set: RootSet, now: datetime = NOW, more: tuple[bytes, ...] = ()
) -> AuthenticReport:
    """A report signed by the simulated chip's key, authenticated with its certificate and `more` endorsements."""
    return authenticate(sign_report(signed, simulated_chip().key), (certificate, *more), root_set, now)


def simulated_evidence(*, version: int = 5, more: tuple[bytes, ...] = (), **changes: object) -> Evidence:
    """Evidence of the simulated chip that ships, which the public `appraise` accepts."""
    chip = simulated_chip()
    base = chip.report(report_data=REPORT_DATA, measurement=MEASUREMENT, policy=0x30000, vmpl=0)
    signed = chip.sign(replace(of_version(version, base), **changes)).encode()
    return Evidence(tee=Tee.SIMULATED, report=signed, endorsements=(chip.endorsement, *more))


def simulated_values(**changes: object) -> SnpReferenceValues:
    """Reference values for `simulated_evidence`."""
    return replace(simulated_reference_values(MEASUREMENT), **changes)


def revocation_list(
    issuer: Authority | None = None,
    *,
    serials: tuple[int, ...] = (),
    this_update: datetime = NOW - timedelta(days=1),
    next_update: datetime = NOW + timedelta(days=1),
    extensions: Mapping[x509.ExtensionType, bool] | None = None,
    entry_extensions: Mapping[x509.ExtensionType, bool] | None = None,
    scheme: padding.AsymmetricPadding | None = None,
    algorithm: object = None,
) -> bytes:
    """A revocation list (DER) in the form of AMD's, by default empty and of the simulated ARK.

    `extensions` and `entry_extensions` map what is added to whether it is critical.
    """
    issuer = issuer or simulated_root()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(this_update).next_update(next_update)
    for extension, critical in {x509.CRLNumber(1): False, **(extensions or {})}.items():
        builder = builder.add_extension(extension, critical=critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update)
        for extension, critical in (entry_extensions or {}).items():
            entry = entry.add_extension(extension, critical=critical)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(
        issuer.key, algorithm or SHA384(), rsa_padding=scheme or padding.PSS(padding.MGF1(SHA384()), 48)
    )
    return signed.public_bytes(Encoding.DER)

"""A hierarchy in the form of Intel's, under a test root of our own that vouches for nothing, for what no vector has.

Keys are made when this is loaded. `Platform` is a machine with its certificate, `Lists` what "Intel" says about it;
each part can be changed before it is signed.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation import Evidence, Tee
from attestation.dcap.certificates import Role
from attestation.dcap.enclave_report import EnclaveReport
from attestation.dcap.family import DcapFamily
from attestation.dcap.quote import INTEL_QE_VENDOR, CertificationType, Header, Quote, signed_part
from attestation.dcap.roots import Root
from attestation.dcap.td_report import TdReport

NOW = datetime(2026, 11, 1, tzinfo=UTC)
START, END = NOW - timedelta(days=3650), NOW + timedelta(days=3650)
ISSUED, NEXT_UPDATE = NOW - timedelta(days=10), NOW + timedelta(days=20)
REPORT_DATA = b"what a synthetic quote commits to".ljust(64, b"\0")
FMSPC, PCE_ID, PPID = bytes.fromhex("90c06f000000"), bytes(2), bytes(range(16))
QE_SIGNERS = {Tee.SGX: b"\x8c" * 32, Tee.TDX: b"\xdc" * 32}
QE_PRODUCTS = {Tee.SGX: 1, Tee.TDX: 2}
EXTENSION_ARC = "1.2.840.113741.1.13.1"

Key = ec.EllipticCurvePrivateKey
ROOT_KEY, CA_KEY, PCK_KEY, TCB_KEY, ATTESTATION_KEY, OTHER_KEY = (
    ec.generate_private_key(ec.SECP256R1()) for _ in range(6)
)


def name(common_name: str) -> x509.Name:
    """A name as Intel writes them."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Strongroom tests, not Intel"),
        ]
    )


def certificate(
    subject: str,
    key: Key,
    issuer: str,
    issuer_key: Key,
    *,
    authority: bool = False,
    start: datetime = START,
    end: datetime = END,
    serial: int | None = None,
    more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    usage: bool = True,
) -> x509.Certificate:
    """One certificate of the hierarchy."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if usage:
        flags = dict.fromkeys(
            ("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                content_commitment=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                **flags,
            ),
            critical=True,
        )
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, SHA256())


ROOT = certificate(Role.ROOT, ROOT_KEY, Role.ROOT, ROOT_KEY, authority=True)
CA = certificate(Role.PLATFORM_CA, CA_KEY, Role.ROOT, ROOT_KEY, authority=True)
TCB_SIGNER = certificate(Role.TCB_SIGNING, TCB_KEY, Role.ROOT, ROOT_KEY)
FAMILIES = {tee: DcapFamily(tee, lambda: Root(certificate=ROOT)) for tee in (Tee.SGX, Tee.TDX)}


def revocation_list(
    issuer: str = Role.ROOT,
    key: Key = ROOT_KEY,
    *,
    serials: tuple[int, ...] = (),
    start: datetime = ISSUED,
    end: datetime = NEXT_UPDATE,
    more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    """A revocation list in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def der(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes(
        (size.bit_length() + 7) // 8, "big"
    )  # fmt: skip
    return bytes([tag]) + length + body


def der_integer(value: int, tag: int = 0x02) -> bytes:
    """A DER INTEGER (or ENUMERATED) that is not negative."""
    return der(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pair(suffix: str, value: bytes) -> bytes:
    arcs = [int(arc) for arc in f"{EXTENSION_ARC}.{suffix}".split(".")]
    body = bytes([arcs[0] * 40 + arcs[1]])
    for arc in arcs[2:]:
        chunk = [arc & 0x7F]
        while arc := arc >> 7:
            chunk.append(0x80 | arc & 0x7F)
        body += bytes(reversed(chunk))
    return der(0x30, der(0x06, body), value)


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A machine, as its certificate describes it."""

    components: tuple[int, ...] = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
    pce_svn: int = 13
    fmspc: bytes = FMSPC
    pce_id: bytes = PCE_ID
    ppid: bytes = PPID
    flags: tuple[bool, bool, bool] | None = (True, True, True)
    serial: int = 4711

    def extension(self) -> bytes:
        """Intel's extension (DER)."""
        tcb = [_pair(f"2.{index}", der_integer(svn)) for index, svn in enumerate(self.components, 1)]
        tcb += [_pair("2.17", der_integer(self.pce_svn)), _pair("2.18", der(0x04, bytes(self.components)))]
        fields = [
            _pair("1", der(0x04, self.ppid)),
            _pair("2", der(0x30, *tcb)),
            _pair("3", der(0x04, self.pce_id)),
            _pair("4", der(0x04, self.fmspc)),
            _pair("5", der_integer(1, 0x0A)),
        ]
        if self.flags is not None:
            flags = [
                _pair(f"7.{index}", der(0x01, b"\xff" if flag else b"\0")) for index, flag in enumerate(self.flags, 1)
            ]
            fields += [_pair("6", der(0x04, bytes(16))), _pair("7", der(0x30, *flags))]
        return der(0x30, *fields)

    def certificate(self, **changes: object) -> x509.Certificate:
        """Its PCK certificate."""
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(EXTENSION_ARC), self.extension())
        given: dict = {"serial": self.serial, "more": ((extension, False),), **changes}
        return certificate(Role.PCK, PCK_KEY, Role.PLATFORM_CA, CA_KEY, **given)


PCK = Platform().certificate()


def level(
    status: str = "UpToDate",
    sgx: tuple[int, ...] = Platform().components,
    pce_svn: int = 13,
    tdx: tuple[int, ...] | None = (5, 0, 3, *[0] * 13),
    advisory_ids: tuple[str, ...] = (),
) -> dict:
    """One level of TCB information."""
    tcb: dict = {"sgxtcbcomponents": [{"svn": svn} for svn in sgx], "pcesvn": pce_svn}
    if tdx is not None:
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in tdx]
    found = {"tcb": tcb, "tcbDate": "2026-08-12T00:00:00Z", "tcbStatus": status}
    return {**found, "advisoryIDs": list(advisory_ids)} if advisory_ids else found


def component_level(isv_svn: int, status: str = "UpToDate", advisory_ids: tuple[str, ...] = ()) -> dict:
    """One level of a TDX module or a quoting enclave."""
    found = {"tcb": {"isvsvn": isv_svn}, "tcbDate": "2026-08-12T00:00:00Z", "tcbStatus": status}
    return {**found, "advisoryIDs": list(advisory_ids)} if advisory_ids else found


def module(version: int, *levels: dict, mr_signer: bytes = bytes(48)) -> dict:
    """One TDX module's identity."""
    return {
        "id": f"TDX_{version:02X}",
        "mrsigner": mr_signer.hex(),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
        "tcbLevels": list(levels),
    }


def _date(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def tcb_info(tee: Tee = Tee.TDX) -> dict:
    """What "Intel" says about `Platform()`: up to date, the level before it out of date."""
    tdx = tee is Tee.TDX
    found: dict = {
        "id": "TDX" if tdx else "SGX",
        "version": 3,
        "issueDate": _date(ISSUED),
        "nextUpdate": _date(NEXT_UPDATE),
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": 21,
    }
    if tdx:
        found["tdxModule"] = {key: value for key, value in module(1).items() if key not in ("id", "tcbLevels")}
        found["tdxModuleIdentities"] = [
            module(1, component_level(6), component_level(4, "OutOfDate", ("INTEL-SA-01036",))),
            module(3, component_level(3)),
        ]
    found["tcbLevels"] = [
        level(tdx=(5, 0, 3, *[0] * 13) if tdx else None),
        level("OutOfDate", tuple(0 for _ in range(16)), 5, tuple([0] * 16) if tdx else None, ("INTEL-SA-00106",)),
    ]
    return found


def qe_identity(tee: Tee = Tee.TDX) -> dict:
    """What "Intel" says about its quoting enclaves."""
    return {
        "id": "TD_QE" if tee is Tee.TDX else "QE",
        "version": 2,
        "issueDate": _date(ISSUED),
        "nextUpdate": _date(NEXT_UPDATE),
        "tcbEvaluationDataNumber": 21,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNERS[tee].hex(),
        "isvprodid": QE_PRODUCTS[tee],
        "tcbLevels": [component_level(4), component_level(2, "OutOfDate", ("INTEL-SA-00615",))],
    }


def signature(key: Key, data: bytes) -> bytes:
    """ECDSA P-256 with SHA-256, as 64 bytes big-endian."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed_json(kind: str, content: object, key: Key = TCB_KEY) -> bytes:
    """Intel's form: the inner object's bytes, and a signature over exactly these."""
    text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
    return f'{{"{kind}":{text},"signature":"{signature(key, text.encode()).hex()}"}}'.encode()


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates in PEM."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Everything that comes along with a quote."""

    tcb_info: object
    qe_identity: object
    signers: tuple[x509.Certificate, ...] = (TCB_SIGNER,)
    root_crl: bytes = field(default_factory=revocation_list)
    pck_crl: bytes = field(default_factory=lambda: revocation_list(Role.PLATFORM_CA, CA_KEY))
    document_key: Key = TCB_KEY
    more: tuple[bytes, ...] = ()

    def endorsements(self) -> tuple[bytes, ...]:
        """As they travel."""
        return (
            signed_json("tcbInfo", self.tcb_info, self.document_key),
            signed_json("enclaveIdentity", self.qe_identity, self.document_key),
            pem(*self.signers, ROOT),
            self.root_crl,
            self.pck_crl,
            *self.more,
        )


def lists(tee: Tee = Tee.TDX, change: Callable[[dict, dict], None] | None = None, **parts: object) -> Lists:
    """The lists for `Platform()`; `change` edits both documents before they are signed."""
    first, second = deepcopy(tcb_info(tee)), deepcopy(qe_identity(tee))
    if change is not None:
        change(first, second)
    given: dict = {"tcb_info": first, "qe_identity": second, **parts}
    return Lists(**given)


TD = TdReport(
    tee_tcb_svn=bytes((6, 1, 3, *[0] * 13)),
    mr_seam=b"s" * 48,
    mr_signer_seam=bytes(48),
    seam_attributes=bytes(8),
    td_attributes=bytes.fromhex("0000001000000000"),
    xfam=bytes.fromhex("e702060000000000"),
    mr_td=b"t" * 48,
    mr_config_id=bytes(48),
    mr_owner=bytes(48),
    mr_owner_config=bytes(48),
    rtmr0=b"0" * 48,
    rtmr1=b"1" * 48,
    rtmr2=b"2" * 48,
    rtmr3=bytes(48),
    report_data=REPORT_DATA,
    tee_tcb_svn2=None,
    mr_service_td=None,
)
TD_15 = replace(TD, tee_tcb_svn2=TD.tee_tcb_svn, mr_service_td=bytes(48))
ENCLAVE = EnclaveReport(
    cpu_svn=bytes(16),
    misc_select=bytes(4),
    isv_ext_prod_id=bytes(16),
    attributes=bytes.fromhex("0500000000000000"),
    xfrm=bytes.fromhex("e700000000000000"),
    mr_enclave=b"e" * 32,
    mr_signer=b"i" * 32,
    config_id=bytes(64),
    isv_prod_id=7,
    isv_svn=2,
    config_svn=0,
    isv_family_id=bytes(16),
    report_data=REPORT_DATA,
)
KSS_ENCLAVE = replace(
    ENCLAVE,
    attributes=bytes.fromhex("8500000000000000"),
    config_id=b"c" * 64,
    config_svn=3,
    isv_ext_prod_id=b"x" * 16,
    isv_family_id=b"f" * 16,
)


@dataclass(frozen=True, kw_only=True)
class QuotingEnclave:
    """Who writes quotes; each part can be wrong."""

    report: dict = field(default_factory=dict)
    auth_data: bytes = bytes(range(32))
    attestation_key: Key = ATTESTATION_KEY
    signing_key: Key = ATTESTATION_KEY
    pck_key: Key = PCK_KEY
    vendor: bytes = INTEL_QE_VENDOR
    certification_type: CertificationType = CertificationType.PCK_CHAIN
    bound: bytes | None = None

    def quote(
        self,
        body: TdReport | EnclaveReport = TD,
        *,
        version: int | None = None,
        chain: tuple[x509.Certificate, ...] | None = None,
        trailing: bytes = b"",
    ) -> Quote:
        """A quote over a body."""
        tee = Tee.TDX if isinstance(body, TdReport) else Tee.SGX
        default = 3 if tee is Tee.SGX else 4 if body.tee_tcb_svn2 is None else 5  # type: ignore[union-attr]
        header = Header(
            version=version or default,
            tee=tee,
            qe_svn=0,
            pce_svn=0,
            qe_vendor_id=self.vendor,
            user_data=bytes(20),
        )
        point = self.attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        bound = sha256(point + self.auth_data).digest() + bytes(32) if self.bound is None else self.bound
        report = replace(
            ENCLAVE,
            attributes=bytes.fromhex("1500000000000000"),
            mr_enclave=b"q" * 32,
            mr_signer=QE_SIGNERS[tee],
            isv_prod_id=QE_PRODUCTS[tee],
            isv_svn=6,
            report_data=bound,
        )
        report = replace(report, **self.report)
        signed = signed_part(header, body)
        certificates = (PCK, CA, ROOT) if chain is None else chain
        return Quote(
            header=header,
            body=body,
            signed=signed,
            signature=signature(self.signing_key, signed),
            attestation_key=point,
            qe_report=report,
            qe_report_signed=report.encode(),
            qe_report_signature=signature(self.pck_key, report.encode()),
            qe_auth_data=self.auth_data,
            certification_type=self.certification_type,
            certification_data=pem(*certificates),
            trailing=trailing,
        )


def evidence(quote: Quote | None = None, given: Lists | None = None) -> Evidence:
    """A quote with its lists, by default a good TD's."""
    quote = quote or QuotingEnclave().quote()
    given = given or lists(quote.header.tee)
    return Evidence(tee=quote.header.tee, report=quote.encode(), endorsements=given.endorsements())

"""What a quote says, field by field: unverified for `attest inspect`, verified in a verdict."""

from typing import Final

from attestation.certificates import issuer
from attestation.claims import Claim, Claims, Json
from attestation.dcap.authenticate import AuthenticQuote
from attestation.dcap.certificates import Role, role_of
from attestation.dcap.chain import pck_certificates
from attestation.dcap.enclave_report import EnclaveFlag, EnclaveReport
from attestation.dcap.pck import PckIdentity
from attestation.dcap.quote import INTEL_QE_VENDOR, Quote
from attestation.dcap.td_report import KNOWN_TD_ATTRIBUTES, TdFlag, TdReport
from attestation.errors import EvidenceMalformed

TDX_PRODUCT: Final = "Intel TDX"
SGX_PRODUCT: Final = "Intel SGX"
_TD_MEASUREMENTS = ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
_TD_LAUNCH = ("mr_config_id", "mr_owner", "mr_owner_config", "mr_service_td")


def unverified_claims(quote: Quote) -> Claims:
    """All that a quote says of itself, its platform's certificate included where that can be read."""
    return (*_body_claims(quote), *_platform_claims(quote), *_form_claims(quote))


def verified_claims(authentic: AuthenticQuote) -> Claims:
    """What an authentic quote says, and how its platform stands."""
    quote, standing = authentic.quote, authentic.standing
    number = authentic.tcb_info.tcb_evaluation_data_number
    advisories = ", ".join(standing.advisory_ids) or "no advisories"
    date = "no date" if standing.date is None else f"{standing.date:%Y-%m-%d}"
    status: dict[str, Json] = {
        "status": standing.status,
        "platform": standing.platform,
        "module": standing.module,
        "quoting_enclave": standing.quoting_enclave,
        "date": None if standing.date is None else standing.date.isoformat(),
        "advisory_ids": list(standing.advisory_ids),
        "evaluation_data_number": number,
    }
    words = f"{standing.status} as of {date} by Intel's lists of evaluation {number}: {advisories}"
    claims = []
    for claim in unverified_claims(quote):
        if claim.name == "tcb" and isinstance(claim.value, dict):
            claim = Claim(name="tcb", value={**claim.value, **status}, words=f"{words}; {claim.words}")
        claims.append(claim)
    return tuple(claims)


def _body_claims(quote: Quote) -> Claims:
    if isinstance(quote.body, TdReport):
        return _td_claims(quote.body)
    return _enclave_claims(quote.body)


def _td_claims(td: TdReport) -> Claims:
    generation = "1.0" if td.tee_tcb_svn2 is None else "1.5"
    now = "" if td.tee_tcb_svn2 is None else f", now {td.tee_tcb_svn2.hex()}"
    measurements: dict[str, str] = {name: getattr(td, name).hex() for name in (*_TD_MEASUREMENTS, "mr_seam")}
    launch = {name: value.hex() for name in _TD_LAUNCH if (value := getattr(td, name)) is not None}
    return (
        Claim(name="product", value=TDX_PRODUCT, words=f"a trust domain of {TDX_PRODUCT}, report {generation}"),
        Claim(
            name="measurements",
            value=dict(measurements),
            words=", ".join(f"{name} {value if value.strip('0') else 'zero'}" for name, value in measurements.items()),
        ),
        Claim(name="launch", value=dict(launch), words=_nonzero(launch, "nothing committed to by the host")),
        _hexadecimal("report_data", td.report_data, "what it commits to"),
        Claim(name="debug", value=td.debug, words="debuggable: protects nothing" if td.debug else "not debuggable"),
        Claim(name="td_attributes", value=td.td_attributes.hex(), words=_td_attributes(td.td_attributes)),
        _hexadecimal("xfam", td.xfam, "extended features"),
        _hexadecimal("mr_signer_seam", td.mr_signer_seam, "who signed the TDX module"),
        _hexadecimal("seam_attributes", td.seam_attributes, "attributes of the TDX module"),
        Claim(
            name="tcb",
            value={
                "tee_tcb_svn": td.tee_tcb_svn.hex(),
                "tee_tcb_svn2": None if td.tee_tcb_svn2 is None else td.tee_tcb_svn2.hex(),
            },
            words=f"TDX module {td.tee_tcb_svn[1]}, SVNs {td.tee_tcb_svn.hex()} at launch{now}",
        ),
    )


def _enclave_claims(enclave: EnclaveReport) -> Claims:
    kss = {
        "config_id": enclave.config_id.hex(),
        "config_svn": f"{enclave.config_svn:x}",
        "isv_ext_prod_id": enclave.isv_ext_prod_id.hex(),
        "isv_family_id": enclave.isv_family_id.hex(),
    }
    product, version = enclave.isv_prod_id, enclave.isv_svn
    return (
        Claim(name="product", value=SGX_PRODUCT, words=f"an enclave of {SGX_PRODUCT}"),
        Claim(
            name="measurements",
            value={"mr_enclave": enclave.mr_enclave.hex(), "mr_signer": enclave.mr_signer.hex()},
            words=f"mr_enclave {enclave.mr_enclave.hex()}, mr_signer {enclave.mr_signer.hex()}",
        ),
        Claim(name="isv_prod_id", value=product, words=f"product {product} of its signer"),
        Claim(name="isv_svn", value=version, words=f"security version {version} of that product"),
        _hexadecimal("report_data", enclave.report_data, "what it commits to"),
        Claim(
            name="debug",
            value=enclave.debug,
            words="debuggable: protects nothing" if enclave.debug else "not debuggable",
        ),
        Claim(name="attributes", value=enclave.attributes.hex(), words=_flags(enclave.attributes)),
        _hexadecimal("xfrm", enclave.xfrm, "extended features"),
        _hexadecimal("misc_select", enclave.misc_select, "what is saved on exceptions"),
        Claim(name="kss", value=dict(kss), words=_nonzero(kss, "no key separation and sharing")),
        Claim(name="tcb", value={"cpu_svn": enclave.cpu_svn.hex()}, words=f"CPUSVN {enclave.cpu_svn.hex()}"),
    )


def _platform_claims(quote: Quote) -> Claims:
    """The platform's certificate, if it is in the quote."""
    try:
        leaf = next((item for item in pck_certificates(quote) if role_of(item) is Role.PCK), None)
        if leaf is None:
            return (Claim(name="signer", value=None, words="a platform whose certificate is not in the quote"),)
        pck = PckIdentity.parse(leaf)
    except EvidenceMalformed as error:
        return (Claim(name="signer", value=None, words=f"unreadable: {error}"),)
    flags = {"dynamic platform": pck.dynamic_platform, "cached keys": pck.cached_keys, "SMT": pck.smt}
    said = ", ".join(f"{name} {'yes' if flag else 'no'}" for name, flag in flags.items() if flag is not None)
    said = said or "nothing said of its configuration"
    instance = pck.platform_instance_id
    return (
        Claim(name="signer", value=issuer(leaf), words=f"{issuer(leaf)}, of a platform's key"),
        Claim(
            name="platform",
            value={
                "fmspc": pck.fmspc.hex(),
                "ppid": pck.ppid.hex(),
                "pce_id": pck.pce_id.hex(),
                "pce_svn": pck.pce_svn,
                "cpu_svn": pck.cpu_svn.hex(),
                "sgx_type": pck.sgx_type,
                "platform_instance_id": None if instance is None else instance.hex(),
                "dynamic_platform": pck.dynamic_platform,
                "cached_keys": pck.cached_keys,
                "smt": pck.smt,
            },
            words=f"FMSPC {pck.fmspc.hex()}, PPID {pck.ppid.hex()}, PCESVN {pck.pce_svn}, SGX {pck.sgx_type}; {said}",
        ),
    )


def _form_claims(quote: Quote) -> Claims:
    header, enclave, trailing = quote.header, quote.qe_report, quote.trailing
    vendor = "Intel's" if header.qe_vendor_id == INTEL_QE_VENDOR else f"that of vendor {header.qe_vendor_id.hex()}"
    return (
        Claim(
            name="quoting_enclave",
            value={
                "vendor": header.qe_vendor_id.hex(),
                "mr_signer": enclave.mr_signer.hex(),
                "isv_prod_id": enclave.isv_prod_id,
                "isv_svn": enclave.isv_svn,
            },
            words=f"{vendor}, product {enclave.isv_prod_id}, security version {enclave.isv_svn}",
        ),
        Claim(name="version", value=header.version, words=f"quote of version {header.version}"),
        Claim(
            name="certification_data",
            value=int(quote.certification_type),
            words=f"type {quote.certification_type} ({quote.certification_type.name.lower()})",
        ),
        Claim(
            name="trailing_bytes",
            value=len(trailing),
            words=f"{len(trailing)} bytes that nothing signs, {'not' if any(trailing) else 'all'} zero"
            if trailing
            else "nothing behind the signature data",
        ),
    )


def _hexadecimal(name: str, value: bytes, meaning: str) -> Claim:
    return Claim(name=name, value=value.hex(), words=f"{value.hex() if any(value) else 'zero'} ({meaning})")


def _nonzero(values: dict[str, str], nothing: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value.strip("0")) or nothing


def _td_attributes(attributes: bytes) -> str:
    names = [flag.name for flag in TdFlag if flag.is_set(attributes)]
    unknown = int.from_bytes(attributes, "little") & ~KNOWN_TD_ATTRIBUTES
    return ", ".join([*names, *([f"unknown bits {unknown:#x}"] if unknown else [])]) or "none set"


def _flags(attributes: bytes) -> str:
    names = [flag.name for flag in EnclaveFlag if flag.is_set(attributes)]
    unknown = int.from_bytes(attributes, "little") & ~sum(1 << flag for flag in EnclaveFlag)
    return ", ".join([*names, *([f"unknown bits {unknown:#x}"] if unknown else [])]) or "none set"

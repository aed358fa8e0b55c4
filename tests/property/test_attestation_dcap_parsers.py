"""Parsers of quotes and collateral raise `EvidenceMalformed` and nothing else, and what they accept round-trips."""

import contextlib
import json
import warnings

import pytest
from attestation_cases.dcap import DATA, load_cases, read_endorsement
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_dcap import ENCLAVE, PCK, TD, TD_15, Platform, QuotingEnclave, lists, qe_identity, tcb_info

from attestation import AttestationError, EvidenceMalformed, Tee
from attestation.dcap.certificates import load_certificates, load_revocation_list
from attestation.dcap.collateral import Collateral
from attestation.dcap.der import elements, unsigned
from attestation.dcap.enclave_report import ENCLAVE_REPORT_BYTES, EnclaveReport
from attestation.dcap.pck import PckIdentity
from attestation.dcap.qe_identity import QeIdentity
from attestation.dcap.quote import Quote
from attestation.dcap.strict_json import members
from attestation.dcap.tcb_info import TcbInfo
from attestation.dcap.td_report import TD_REPORT_10_BYTES, TD_REPORT_15_BYTES, TdReport
from attestation.families import FAMILIES

CASES = load_cases()
QUOTES = sorted({case.quote for case in CASES} | {QuotingEnclave().quote(body).encode() for body in (TD_15, ENCLAVE)})
BUNDLE = read_endorsement("Phala-Network-dcap-qvl/tdx_quote_collateral.json")
ENDORSEMENTS = [BUNDLE, *lists().endorsements(), (DATA / "google-go-tdx-guest/pckcrl").read_bytes()]
DOCUMENTS = [json.dumps(document).encode() for document in (tcb_info(), tcb_info(Tee.SGX), qe_identity())]
EXTENSION = Platform().extension()
BYTE = st.integers(0, 255)


def of(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    cut = draw(st.sampled_from((0, 0, 0, 1, 7, 300)))
    return bytes(data[: max(0, len(data) - cut)]) + draw(st.sampled_from((b"", b"", b"\0", b"\x30\x00")))


@given(st.one_of(of(TD_REPORT_10_BYTES), of(TD_REPORT_15_BYTES), st.binary(max_size=700)))
def test_a_td_report_parses_to_itself_or_is_malformed(data: bytes) -> None:
    if len(data) in (TD_REPORT_10_BYTES, TD_REPORT_15_BYTES):
        assert TdReport.parse(data).encode() == data
        return
    with pytest.raises(EvidenceMalformed):
        TdReport.parse(data)


@given(st.one_of(of(ENCLAVE_REPORT_BYTES), mutated([ENCLAVE.encode()])))
def test_an_enclaves_report_parses_to_itself_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert EnclaveReport.parse(data, "report").encode() == data


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=2048), mutated(QUOTES)))
def test_a_quote_parses_to_itself_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert Quote.parse(data).encode() == data


@given(st.sampled_from(QUOTES), st.integers(0, 2**16), st.integers(0, 7))
def test_a_quote_has_no_byte_that_nobody_reads(data: bytes, place: int, bit: int) -> None:
    """Two quotes that differ in a bit never parse to the same thing."""
    changed = bytearray(data)
    changed[place % len(changed)] ^= 1 << bit
    with contextlib.suppress(EvidenceMalformed):
        assert Quote.parse(data) != Quote.parse(bytes(changed))


@given(st.one_of(st.binary(max_size=2048), mutated(QUOTES)))
def test_a_quote_is_recognised_and_described_or_malformed(data: bytes) -> None:
    for tee in (Tee.TDX, Tee.SGX):
        recognised = FAMILIES[tee].recognises(data)
        with contextlib.suppress(EvidenceMalformed):
            FAMILIES[tee].describe(data)
            assert recognised


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=512), mutated(ENDORSEMENTS)))
def test_an_endorsement_is_read_or_malformed_even_where_warnings_are_errors(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(EvidenceMalformed):
            Collateral.gather((data,))
        with contextlib.suppress(EvidenceMalformed):
            load_revocation_list(data, "list")
        with contextlib.suppress(EvidenceMalformed):
            load_certificates(data, "certificates")


@given(st.one_of(st.text(max_size=200).map(str.encode), mutated(DOCUMENTS)))
def test_a_document_is_read_or_malformed(data: bytes) -> None:
    for parse in (TcbInfo.parse, QeIdentity.parse):
        with contextlib.suppress(EvidenceMalformed):
            parse(data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(1 - 10**9, 10**9), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5), st.sampled_from((None, 1)), st.booleans())
def test_strict_json_reads_what_json_writes_and_keeps_its_text(value: dict, indent: int | None, escaped: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    found = members(text.encode(), "value")
    assert {key: member.value for key, member in found.items()} == value
    assert all(json.loads(member.text) == value[key] for key, member in found.items())
    assert all(member.text in text for member in found.values())


@given(st.one_of(st.binary(max_size=40), mutated([EXTENSION])))
def test_der_is_read_to_the_last_byte_or_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert sum(len(content) + 2 for _, content in elements(data, "data")) <= len(data)


@given(st.integers(0, 2**20))
def test_a_der_integer_has_one_form(number: int) -> None:
    form = number.to_bytes(number.bit_length() // 8 + 1, "big")
    assert unsigned(form, 2**20, "number") == number
    for other in (b"\0" + form, b"", b"\xff" + form):
        with pytest.raises(EvidenceMalformed):
            unsigned(other, 2**20, "number")


@given(mutated([EXTENSION]))
def test_a_platforms_extension_is_read_or_malformed(data: bytes) -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), data)

    class Stub:
        """A certificate with nothing but this extension: to sign one for each example would take long."""

        extensions = x509.Extensions([x509.Extension(extension.oid, False, extension)])

    with contextlib.suppress(EvidenceMalformed):
        found = PckIdentity.parse(Stub())  # type: ignore[arg-type]
        assert len(found.components) == 16


def test_a_platforms_certificate_reads_back_what_was_written() -> None:
    found, platform = PckIdentity.parse(PCK), Platform()
    assert found.components == platform.components
    assert found.cpu_svn == bytes(platform.components)
    assert (found.fmspc, found.ppid, found.pce_id) == (platform.fmspc, platform.ppid, platform.pce_id)
    assert (found.dynamic_platform, found.cached_keys, found.smt) == platform.flags


@settings(max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=64), mutated(ENDORSEMENTS)), max_size=4))
def test_whatever_comes_along_a_quote_is_authentic_or_refused_in_words(endorsements: list[bytes]) -> None:
    case = next(case for case in CASES if case.name.startswith("tdx_quote with"))
    evidence = case.evidence()
    family = FAMILIES[Tee.TDX]
    with contextlib.suppress(AttestationError):
        family.authenticate(type(evidence)(tee=Tee.TDX, report=case.quote, endorsements=tuple(endorsements)), case.time)


def test_a_td_report_of_1_5_extends_that_of_1_0() -> None:
    found = TdReport.parse(TD.encode() + bytes(64))
    assert (found.mr_td, found.tee_tcb_svn2, found.mr_service_td) == (TD.mr_td, bytes(16), bytes(48))

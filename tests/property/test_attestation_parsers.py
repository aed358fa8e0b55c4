"""Parsers of foreign bytes raise `EvidenceMalformed` and nothing else, and what they accept round-trips."""

import contextlib
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_snp import revocation_list

from attestation import Evidence, EvidenceMalformed, EvidenceRefused, EvidenceUncheckable, Tee
from attestation.certificates import load_certificate
from attestation.families import FAMILIES
from attestation.snp.cert_table import CertTable, TableEntry
from attestation.snp.certificates import EndorsementKey
from attestation.snp.endorsements import Endorsements
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.report import REPORT_BYTES, SIGNED_BYTES, Cpuid, FirmwareVersion, Report, SignedReport
from attestation.snp.revocation import RevocationList
from attestation.snp.tcb import TcbVersion

DATA = Path(__file__).parents[1] / "vectors" / "data" / "snp"
REPORTS = [path.read_bytes() for path in sorted(DATA.glob("project-oak-oak/*.report.bin"))]
CERTIFICATES = [path.read_bytes() for path in sorted(DATA.glob("*/*.der"))]

BYTE = st.integers(0, 255)


def of(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    version = draw(st.sampled_from((2, 3, 4, 5)))
    firmware = st.builds(FirmwareVersion, build=BYTE, minor=BYTE, major=BYTE)
    fields = {name: draw(of(8)) for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")}
    fields |= {name: draw(of(48)) for name in ("measurement", "id_key_digest", "author_key_digest")}
    fields |= {name: draw(of(32)) for name in ("host_data", "report_id", "report_id_ma")}
    fields |= {name: draw(of(16)) for name in ("family_id", "image_id")}
    fields |= {name: draw(of(64)) for name in ("report_data", "chip_id")}
    return Report(
        version=version,
        guest_svn=draw(unsigned(32)),
        policy=draw(unsigned(64)) | 1 << 17,
        vmpl=draw(unsigned(32)),
        platform_info=draw(unsigned(64)),
        author_key_enabled=draw(st.booleans()),
        mask_chip_key=draw(st.booleans()),
        signing_key=draw(st.sampled_from((SigningKey.VCEK, SigningKey.VLEK, None))),
        cpuid=draw(st.builds(Cpuid, family=BYTE, model=BYTE, stepping=BYTE)) if version >= 3 else None,
        current_version=draw(firmware),
        committed_version=draw(firmware),
        launch_mitigations=draw(unsigned(64)) if version >= 5 else None,
        current_mitigations=draw(unsigned(64)) if version >= 5 else None,
        **fields,
    )


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(BYTE)
    cut = draw(st.sampled_from((0, 0, 0, 1, 7, 300)))
    return bytes(data[: len(data) - cut]) + draw(st.sampled_from((b"", b"", b"\0", b"\x30\x00")))


@given(reports(), of(48), of(48))
def test_a_report_round_trips(report: Report, r: bytes, s: bytes) -> None:
    signed_report = SignedReport(report=report, signed=report.encode(), r=r, s=s)
    data = signed_report.encode()
    assert len(data) == REPORT_BYTES
    assert SignedReport.parse(data) == signed_report


@given(st.one_of(st.binary(max_size=2048), of(REPORT_BYTES), mutated(REPORTS)))
def test_a_report_parses_to_itself_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        signed_report = SignedReport.parse(data)
        assert signed_report.encode() == data
        assert signed_report.report.encode() == data[:SIGNED_BYTES]


@given(mutated(REPORTS), st.integers(0, REPORT_BYTES * 8 - 1))
def test_a_report_has_no_byte_that_nobody_reads(data: bytes, bit: int) -> None:
    """Two reports that differ in a bit never parse to the same thing."""
    changed = bytearray(data)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    with contextlib.suppress(EvidenceMalformed):
        assert SignedReport.parse(data) != SignedReport.parse(bytes(changed))


@given(st.sampled_from(list(Product)), of(8))
def test_a_tcb_version_parses_to_itself_or_is_malformed(product: Product, data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert TcbVersion.parse(data, product, "tcb").encode() == data


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=512), mutated(CERTIFICATES)))
def test_a_certificate_parses_or_is_malformed_even_where_warnings_are_errors(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(EvidenceMalformed):
            EndorsementKey.parse(load_certificate(data, "certificate"))


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_real_certificates_parse_where_warnings_are_errors(certificate: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EndorsementKey.parse(load_certificate(certificate, "certificate"))


def tables() -> st.SearchStrategy[CertTable]:
    guids = st.one_of(of(16).filter(any), st.sampled_from(["63da758de6644564adc5f4b93be8accd"]).map(bytes.fromhex))
    entry = st.builds(TableEntry, guid=guids, data=st.binary(min_size=1, max_size=40))
    entries = st.lists(entry, max_size=8, unique_by=lambda item: item.name)
    return entries.map(lambda items: CertTable(entries=tuple(items)))


@given(tables(), st.integers(0, 60))
def test_a_certificate_table_round_trips(table: CertTable, padding: int) -> None:
    assert CertTable.parse(table.encode()) == table
    assert CertTable.parse(table.encode() + bytes(padding)) == table


LISTS = [revocation_list(), revocation_list(serials=tuple(range(1, 40)))]
TABLE = CertTable(entries=(TableEntry(guid=bytes(15) + b"\1", data=CERTIFICATES[0]),)).encode()


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=512), mutated([*LISTS, *CERTIFICATES[:4], TABLE])))
def test_an_endorsement_parses_or_is_malformed_even_where_warnings_are_errors(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(EvidenceMalformed):
            Endorsements.parse((data,))
        with contextlib.suppress(EvidenceMalformed):
            RevocationList.parse(data, "list")
        with contextlib.suppress(EvidenceMalformed):
            assert CertTable.parse(CertTable.parse(data).encode()) == CertTable.parse(data)


@given(st.one_of(st.binary(max_size=2048), of(REPORT_BYTES), mutated(REPORTS)))
def test_a_report_is_described_or_is_malformed(data: bytes) -> None:
    family = FAMILIES[Tee.SEV_SNP]
    with contextlib.suppress(EvidenceMalformed):
        assert all(claim.words.isprintable() for claim in family.describe(data))
        assert family.recognises(data)


@given(st.one_of(of(REPORT_BYTES), mutated(REPORTS)), st.lists(st.sampled_from(CERTIFICATES), max_size=2))
def test_a_report_has_reference_values_or_an_error_that_says_why_not(data: bytes, certificates: list[bytes]) -> None:
    evidence = Evidence(tee=Tee.SEV_SNP, report=data, endorsements=tuple(certificates))
    with contextlib.suppress(EvidenceMalformed, EvidenceRefused, EvidenceUncheckable):
        assert FAMILIES[Tee.SEV_SNP].reference(evidence).measurements == (data[0x90:0xC0],)


EVIDENCE = st.builds(
    Evidence,
    tee=st.sampled_from((Tee.SEV_SNP, Tee.SIMULATED)),
    report=st.binary(max_size=200),
    endorsements=st.lists(st.binary(max_size=100), max_size=4).map(tuple),
)


@given(EVIDENCE)
def test_evidence_round_trips(evidence: Evidence) -> None:
    assert Evidence.parse(evidence.encode()) == evidence


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode), mutated([
    Evidence(tee=Tee.SIMULATED, report=b"\0\1\2", endorsements=(b"x", b"")).encode(),
    Evidence(tee=Tee.SEV_SNP, report=bytes(70), endorsements=()).encode(),
])))  # fmt: skip
def test_evidence_has_one_encoding(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert Evidence.parse(data).encode() == data

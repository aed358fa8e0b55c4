"""The simulated twin: the same checks as for real reports, its own roots, and no way from one to the other."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from attestation import (
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    ReferenceValuesError,
    SnpReferenceValues,
    Tee,
    appraise,
)
from attestation.collect.platform import SEALING_KEY_BYTES, SimulatedPlatform
from attestation.reference_values import IdBlock
from attestation.simulated.chip import SIMULATED_CHIP_ID, simulated_chip
from attestation.simulated.reference_values import simulated_reference_values
from attestation.simulated.roots import simulated_roots
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.report import Report, SignedReport
from attestation.snp.roots import vendor_roots

MEASUREMENT = b"m" * 48
REPORT_DATA = bytes(range(64))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = simulated_reference_values(MEASUREMENT)
PLATFORM = SimulatedPlatform(MEASUREMENT)
REPORT = simulated_chip().report(report_data=REPORT_DATA, measurement=MEASUREMENT, policy=0x30000, vmpl=0)


def evidence_of(report: Report) -> Evidence:
    chip = simulated_chip()
    return Evidence(tee=Tee.SIMULATED, report=chip.sign(report).encode(), endorsements=(chip.endorsement,))


def changed(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def test_simulated_evidence_is_accepted_where_it_is_asked_for_and_marked() -> None:
    evidence = PLATFORM.evidence(REPORT_DATA)
    verdict = appraise(Evidence.parse(evidence.encode()), [VALUES], REPORT_DATA, NOW)
    assert len(evidence.report) == 1184
    assert verdict.simulated
    assert verdict.tee is Tee.SIMULATED
    assert verdict.measurement == MEASUREMENT
    assert verdict.report_data == REPORT_DATA
    assert sorted({check.number for check in verdict.checks}) == list(range(1, 23))


def test_the_same_report_is_signed_the_same_way() -> None:
    assert PLATFORM.evidence(REPORT_DATA) == PLATFORM.evidence(REPORT_DATA)


@pytest.mark.parametrize("label", [Tee.SIMULATED, Tee.SEV_SNP])
def test_a_simulated_report_is_never_accepted_as_a_real_one(label: Tee) -> None:
    """All the right measurements, whatever it says of itself."""
    evidence = replace(PLATFORM.evidence(REPORT_DATA), tee=label)
    real = replace(VALUES, tee=Tee.SEV_SNP)
    with pytest.raises((EvidenceRefused, EvidenceNotAuthentic)) as refused:
        appraise(evidence, [real], REPORT_DATA, NOW)
    assert refused.value.field in ("tee", "issuer of the VCEK")


def test_simulated_and_real_reference_values_are_never_mixed() -> None:
    values = [VALUES, replace(VALUES, tee=Tee.SEV_SNP)]
    with pytest.raises(ReferenceValuesError, match="simulated alone"):
        appraise(PLATFORM.evidence(REPORT_DATA), values, REPORT_DATA, NOW)


def test_the_two_sets_of_roots_have_nothing_in_common() -> None:
    def keys(certificates: list) -> set:
        return {certificate.public_key().public_numbers().n for certificate in certificates}

    ours, amds = simulated_roots(), vendor_roots()
    assert (ours.simulated, amds.simulated) == (True, False)
    assert len(amds.chains) == 6
    assert not keys([c for chain in ours.chains for c in (chain.ark, chain.intermediate)]) & keys(
        [c for chain in amds.chains for c in (chain.ark, chain.intermediate)]
    )
    assert "protects nothing" in ours.chains[0].ark.subject.rfc4514_string()


def test_nothing_is_accepted_by_no_reference_values() -> None:
    with pytest.raises(ReferenceValuesError, match="at least one"):
        appraise(PLATFORM.evidence(REPORT_DATA), [], REPORT_DATA, NOW)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_is_mandatory_in_full(size: int) -> None:
    with pytest.raises(ValueError, match="report_data: expected 64 bytes"):
        appraise(PLATFORM.evidence(REPORT_DATA), [VALUES], REPORT_DATA[:size] + bytes(max(0, size - 64)), NOW)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        appraise(PLATFORM.evidence(REPORT_DATA), [VALUES], REPORT_DATA, NOW.replace(tzinfo=None))


@pytest.mark.parametrize("index", [0, 31, 32, 63])
def test_report_data_is_compared_to_its_last_byte(index: int) -> None:
    other = bytearray(REPORT_DATA)
    other[index] ^= 0x80
    with pytest.raises(EvidenceRefused) as refused:
        appraise(PLATFORM.evidence(REPORT_DATA), [VALUES], bytes(other), NOW)
    assert refused.value.field == "report_data"
    assert refused.value.expected == other.hex()
    assert refused.value.found == REPORT_DATA.hex()


def test_report_data_of_zero_bytes_commits_to_nothing() -> None:
    with pytest.raises(EvidenceRefused, match="report_data: expected a commitment, not zero bytes"):
        appraise(PLATFORM.evidence(bytes(64)), [VALUES], bytes(64), NOW)


def test_evidence_without_a_certificate_could_not_be_checked() -> None:
    with pytest.raises(EvidenceUncheckable, match="endorsements: expected a VCEK or VLEK certificate, found none"):
        appraise(replace(PLATFORM.evidence(REPORT_DATA), endorsements=()), [VALUES], REPORT_DATA, NOW)


def test_a_second_certificate_is_refused() -> None:
    evidence = PLATFORM.evidence(REPORT_DATA)
    with pytest.raises(EvidenceMalformed, match="found 2"):
        appraise(replace(evidence, endorsements=evidence.endorsements * 2), [VALUES], REPORT_DATA, NOW)


def test_every_sampled_bit_of_evidence_counts() -> None:
    evidence = PLATFORM.evidence(REPORT_DATA)
    for name, data in (("report", evidence.report), ("endorsements", evidence.endorsements[0])):
        for bit in range(0, 8 * len(data), 67):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            value = bytes(flipped) if name == "report" else (bytes(flipped),)
            with pytest.raises((EvidenceMalformed, EvidenceNotAuthentic)):
                appraise(replace(evidence, **{name: value}), [VALUES], REPORT_DATA, NOW)


BLOCK = IdBlock(
    id_key_digest=b"k" * 48,
    author_key_digest=b"a" * 48,
    family_id=b"f" * 16,
    image_id=b"i" * 16,
    minimum_guest_svn=3,
)
BLOCK_REPORT = replace(
    REPORT,
    id_key_digest=b"k" * 48,
    author_key_digest=b"a" * 48,
    author_key_enabled=True,
    family_id=b"f" * 16,
    image_id=b"i" * 16,
    guest_svn=3,
)
TCB = VALUES.minimum_tcb[0]
NEWER = replace(TCB, snp=TCB.snp + 1).encode()
OLDER = replace(TCB, bootloader=TCB.bootloader - 1).encode()


def test_a_guest_with_an_id_block_is_accepted_where_it_is_asked_for() -> None:
    appraise(evidence_of(BLOCK_REPORT), [replace(VALUES, id_block=BLOCK)], REPORT_DATA, NOW)
    appraise(evidence_of(replace(BLOCK_REPORT, guest_svn=9)), [replace(VALUES, id_block=BLOCK)], REPORT_DATA, NOW)


@pytest.mark.parametrize(
    ("field", "report", "values"),
    [
        ("cpuid", replace(REPORT, cpuid=replace(REPORT.cpuid, family=0x1A)), VALUES),
        ("cpuid", replace(REPORT, cpuid=replace(REPORT.cpuid, model=0x01)), VALUES),
        ("products", REPORT, replace(VALUES, products=(Product.TURIN,), minimum_tcb=(replace(
            TCB, product=Product.TURIN, fmc=0),))),
        ("signing_keys", REPORT, replace(VALUES, signing_keys=(SigningKey.VLEK,), csp_ids=("CN=x",))),
        ("key_info.mask_chip_key", replace(REPORT, mask_chip_key=True), VALUES),
        ("chip_id", replace(REPORT, chip_id=bytes(64)), VALUES),
        ("hwID", replace(REPORT, chip_id=REPORT.chip_id[:63] + b"\0"), VALUES),
        ("chip_ids", REPORT, replace(VALUES, chip_ids=(changed(SIMULATED_CHIP_ID),))),
        ("reported_tcb", replace(REPORT, reported_tcb=NEWER, current_tcb=NEWER, committed_tcb=NEWER), VALUES),
        ("reported_tcb", replace(REPORT, reported_tcb=OLDER), VALUES),
        ("reported_tcb", replace(REPORT, current_tcb=OLDER, committed_tcb=OLDER), VALUES),
        ("committed_tcb", replace(REPORT, committed_tcb=NEWER), VALUES),
        ("provisional_firmware", replace(REPORT, current_tcb=NEWER), VALUES),
        ("provisional_firmware", replace(REPORT, current_version=replace(REPORT.current_version, build=44)), VALUES),
        ("minimum_tcb", REPORT, replace(VALUES, minimum_tcb=(replace(TCB, tee=1),))),
        ("minimum_tcb", replace(REPORT, committed_tcb=OLDER), replace(
            VALUES, provisional_firmware=True)),
        ("minimum_tcb", replace(REPORT, launch_tcb=OLDER), VALUES),
        ("policy.debug", replace(REPORT, policy=0xB0000), VALUES),
        ("policy.migrate_ma", replace(REPORT, policy=0x70000), VALUES),
        ("report_id_ma", replace(REPORT, report_id_ma=bytes(32)), VALUES),
        ("policies", replace(REPORT, policy=0x20000), VALUES),
        ("policies", replace(REPORT, policy=0x30000 | 1 << 25), VALUES),
        ("policies", replace(REPORT, policy=0x30000 | 1 << 63), VALUES),
        ("platform_info", replace(REPORT, platform_info=0x25 | 1 << 8), VALUES),
        ("platform_required", replace(REPORT, platform_info=0x05), VALUES),
        ("platform_required", REPORT, replace(VALUES, platform_required=(PlatformFlag.CIPHERTEXT_HIDING,))),
        ("mitigations_required", replace(REPORT, launch_mitigations=1), replace(VALUES, mitigations_required=1)),
        ("mitigations_required", replace(REPORT, current_mitigations=1), replace(VALUES, mitigations_required=1)),
        ("mitigations_required", replace(REPORT, version=4, launch_mitigations=None, current_mitigations=None),
         replace(VALUES, mitigations_required=1)),
        ("vmpl", replace(REPORT, vmpl=1), VALUES),
        ("vmpl", replace(REPORT, vmpl=0xFFFFFFFF), VALUES),
        ("vmpl", REPORT, replace(VALUES, vmpl=3)),
        ("measurements", replace(REPORT, measurement=changed(MEASUREMENT)), VALUES),
        ("measurements", REPORT, replace(VALUES, measurements=(bytes(48), b"x" * 48))),
        ("host_data", replace(REPORT, host_data=b"h" * 32), VALUES),
        ("host_data", REPORT, replace(VALUES, host_data=b"h" * 32)),
        ("id_block.id_key_digest", BLOCK_REPORT, VALUES),
        ("id_block.id_key_digest", REPORT, replace(VALUES, id_block=BLOCK)),
        ("id_block.author_key_digest", replace(REPORT, author_key_digest=b"a" * 48), VALUES),
        ("id_block.author_key_digest", replace(BLOCK_REPORT, author_key_digest=bytes(48)), replace(
            VALUES, id_block=BLOCK)),
        ("id_block.family_id", replace(REPORT, family_id=b"f" * 16), VALUES),
        ("id_block.image_id", replace(REPORT, image_id=b"i" * 16), VALUES),
        ("id_block.minimum_guest_svn", replace(REPORT, guest_svn=1), VALUES),
        ("id_block.minimum_guest_svn", replace(BLOCK_REPORT, guest_svn=2), replace(VALUES, id_block=BLOCK)),
        ("key_info.author_key_en", replace(REPORT, author_key_enabled=True), VALUES),
        ("key_info.author_key_en", replace(BLOCK_REPORT, author_key_enabled=False), replace(VALUES, id_block=BLOCK)),
        ("report_data", replace(REPORT, report_data=changed(REPORT_DATA)), VALUES),
    ],
)  # fmt: skip
def test_each_claim_is_refused_by_name(field: str, report: Report, values: SnpReferenceValues) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        appraise(evidence_of(report), [values], REPORT_DATA, NOW)
    assert refused.value.field == field
    assert refused.value.expected != refused.value.found


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (replace(REPORT, current_tcb=b"\x0a\0\1\0\0\0\x19\x54"), "current_tcb: expected reserved bytes of Genoa"),
        (replace(REPORT, launch_tcb=b"\x0a\0\0\0\0\1\x19\x54"), "launch_tcb: expected reserved bytes of Genoa"),
    ],
)
def test_reserved_tcb_bytes_are_malformed(report: Report, words: str) -> None:
    with pytest.raises(EvidenceMalformed, match=words):
        appraise(evidence_of(report), [VALUES], REPORT_DATA, NOW)


@pytest.mark.parametrize("key", [SigningKey.VLEK, None])
def test_a_report_that_names_another_key_or_none_is_not_authentic(key: SigningKey | None) -> None:
    with pytest.raises(EvidenceNotAuthentic, match=r"key_info.signing_key: expected VCEK"):
        appraise(evidence_of(replace(REPORT, signing_key=key)), [VALUES], REPORT_DATA, NOW)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_all_versions_are_read(version: int) -> None:
    report = replace(
        REPORT,
        version=version,
        cpuid=REPORT.cpuid if version >= 3 else None,
        launch_mitigations=0 if version == 5 else None,
        current_mitigations=0 if version == 5 else None,
    )
    assert appraise(evidence_of(report), [VALUES], REPORT_DATA, NOW).product is Product.GENOA


@pytest.mark.parametrize("part", ["r", "s"])
@pytest.mark.parametrize("value", [bytes(48), b"\xff" * 48], ids=["zero", "above the order"])
def test_impossible_signatures_are_not_authentic(part: str, value: bytes) -> None:
    signed = replace(SignedReport.parse(PLATFORM.evidence(REPORT_DATA).report), **{part: value})
    with pytest.raises(EvidenceNotAuthentic, match="report signature"):
        appraise(replace(PLATFORM.evidence(REPORT_DATA), report=signed.encode()), [VALUES], REPORT_DATA, NOW)


def test_the_first_of_several_reference_values_that_accepts_decides() -> None:
    other = replace(VALUES, measurements=(b"o" * 48,))
    assert appraise(PLATFORM.evidence(REPORT_DATA), [other, VALUES], REPORT_DATA, NOW).measurement == MEASUREMENT
    with pytest.raises(EvidenceRefused, match=r"expected one of 2 to accept, found \[1\] measurement.*\[2\] vmpl"):
        appraise(PLATFORM.evidence(REPORT_DATA), [other, replace(VALUES, vmpl=2)], REPORT_DATA, NOW)


def test_the_sealing_key_depends_on_what_a_real_one_would_mix_in() -> None:
    key = PLATFORM.sealing_key()
    assert len(key) == SEALING_KEY_BYTES
    assert key == SimulatedPlatform(MEASUREMENT).sealing_key()
    assert key != SimulatedPlatform(changed(MEASUREMENT)).sealing_key()
    assert key != SimulatedPlatform(MEASUREMENT, policy=0x20000).sealing_key()


def test_the_simulated_platform_says_that_it_protects_nothing() -> None:
    assert PLATFORM.tee.simulated
    assert PLATFORM.protects.startswith("nothing")
    with pytest.raises(ValueError, match="48 bytes"):
        SimulatedPlatform(b"short")
    with pytest.raises(ValueError, match="expected 64 bytes"):
        PLATFORM.evidence(b"short")

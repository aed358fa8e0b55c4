"""Nitro documents of our own hypervisor: what one is, which part is refused, and what it commits to."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from case_names import named
from certificate_builder import SIGNER, issue
from synthetic_nitro import FAMILY, NOW, REPORT_DATA, hypervisor, reference_values, register

from attestation import Evidence, EvidenceMalformed, EvidenceNotAuthentic, EvidenceRefused, ReferenceValuesError, Tee
from attestation.appraisal import judge
from attestation.nitro.cose import ES384, CoseSign1
from attestation.nitro.document import AttestationDocument
from attestation.nitro.reference_values import Presence
from attestation.recognise import recognise
from attestation.simulated.reference_values import simulated_reference_values
from attestation.terms import Covers, Revocation
from attestation.verdict import Verdict

GOOD = hypervisor().evidence()
PAYLOAD = CoseSign1.parse(GOOD.report).payload


def appraised(evidence: Evidence = GOOD, report_data: bytes | None = REPORT_DATA, **changes: Any) -> Verdict:
    return FAMILY.authenticate(evidence, NOW).appraise(reference_values(**changes), report_data)


def test_our_own_document_is_accepted_by_our_own_root_only() -> None:
    verdict = appraised()
    assert verdict.report_data == REPORT_DATA
    assert verdict.measurement == register("image")
    assert [check.number for check in verdict.checks if check.name == "report_data"] == [17]
    with pytest.raises(EvidenceNotAuthentic, match="^root: expected the pinned CN=aws.nitro-enclaves") as refused:
        judge(GOOD, [reference_values()], REPORT_DATA, NOW)
    assert refused.value.number == 2


@pytest.mark.parametrize(
    ("document", "values", "field"),
    [
        ({"pcrs": {0: bytes(48), 1: bytes(48), 2: bytes(48)}}, {}, "debug"),
        ({"pcrs": {1: register("kernel")}}, {}, "debug"),
        ({"pcrs": {0: register("image"), 2: register("application")}}, {}, "pcr1"),
        ({}, {"pcr3": (register("another role"),)}, "pcr3"),
        ({}, {"pcr8": (register("a signer"),)}, "pcr8"),
        ({"module_id": "i-1-enc1"}, {"module_ids": ("i-0-enc0",)}, "module_ids"),
        ({"nonce": b"n"}, {}, "nonce"),
        ({"nonce": b""}, {}, "nonce"),
        ({"public_key": b"k"}, {}, "public_key"),
        ({"timestamp_ms": int(NOW.timestamp() * 1000) + 31_000}, {}, "timestamp"),
        ({"timestamp_ms": int(NOW.timestamp() * 1000) - 300_001}, {}, "maximum_age_seconds"),
        ({"user_data": None}, {}, "report_data"),
        ({"user_data": REPORT_DATA[:63]}, {}, "report_data"),
        ({"user_data": REPORT_DATA + b"\0"}, {}, "report_data"),
    ],
)
def test_an_authentic_document_is_refused_by_field(
    document: dict[str, Any], values: dict[str, Any], field: str
) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        appraised(hypervisor().evidence(**document), **values)
    assert refused.value.field == field


def test_what_may_be_there_is_accepted() -> None:
    measured = {index: register(text) for index, text in enumerate(("image", "kernel", "application"))}
    evidence = hypervisor().evidence(nonce=b"n", public_key=b"k", pcrs=measured)
    anywhere = {"pcr3": "any", "pcr4": "any", "pcr8": "any"}
    appraised(evidence, nonce=Presence.ANY, public_key=Presence.ANY, module_ids=("i-0-enc0",), **anywhere)
    clock_ahead = hypervisor().evidence(timestamp_ms=int(NOW.timestamp() * 1000) + 30_000)
    appraised(clock_ahead, maximum_age_seconds=0)
    assert appraised(hypervisor().evidence(user_data=None), report_data=None).report_data is None


def test_a_tagged_document_is_the_same() -> None:
    evidence = hypervisor().sign(PAYLOAD, tagged=True)
    assert evidence.report[:1] == b"\xd2"
    assert FAMILY.recognises(evidence.report)
    appraised(evidence)


def test_a_document_with_endorsements_is_refused() -> None:
    """It brings its own chain; nothing of a peer's is passed over in silence."""
    with pytest.raises(EvidenceNotAuthentic, match="^endorsements: expected none") as refused:
        FAMILY.authenticate(replace(GOOD, endorsements=(hypervisor().region.der,)), NOW)
    assert refused.value.number == 1


def test_the_chain_is_read_in_the_documents_order() -> None:
    chain = hypervisor()
    good = (chain.root.der, chain.region.der, chain.zone.der, chain.instance.der)
    for bundle, field in (
        (good[:0] + good[1:], "root"),
        ((good[0],), "signature of CN=test enclave,O=Strongroom tests"),
        ((good[0], good[2], good[1], good[3]), "signature of CN=test zone,O=Strongroom tests"),
        ((*good, good[3]), "signature of CN=test instance,O=Strongroom tests"),
    ):
        with pytest.raises(EvidenceNotAuthentic) as refused:
            appraised(chain.evidence(cabundle=bundle))
        assert refused.value.field == field


def test_a_certificate_of_another_enclave_signs_nothing() -> None:
    chain = hypervisor()
    other = issue("another enclave", chain.zone.key, chain.instance, extensions=SIGNER)
    with pytest.raises(EvidenceNotAuthentic, match="^signature: ") as refused:
        appraised(chain.evidence(certificate=other.der))
    assert refused.value.number == 5


def envelope(*items: object) -> bytes:
    return cbor2.dumps(list(items))


SIGNATURE = bytes(96)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "document"),
        (b"\x00", "document"),
        (GOOD.report + b"\0", "document"),
        (b"\xd2\xd2" + GOOD.report, "document"),
        (b"\xd1" + GOOD.report, "document"),
        (GOOD.report[:-1], "document"),
        (envelope(ES384, {}, PAYLOAD), "document"),
        (envelope(b"", {}, PAYLOAD, SIGNATURE), "protected header"),
        (envelope(cbor2.dumps({1: -7}), {}, PAYLOAD, SIGNATURE), "protected header"),
        (envelope(cbor2.dumps({1: -35, 4: b"k"}), {}, PAYLOAD, SIGNATURE), "protected header"),
        (envelope(bytes.fromhex("a1183f3822"), {}, PAYLOAD, SIGNATURE), "protected header"),
        (envelope({1: -35}, {}, PAYLOAD, SIGNATURE), "protected header"),
        (envelope(ES384, {1: -35}, PAYLOAD, SIGNATURE), "unprotected header"),
        (envelope(ES384, [], PAYLOAD, SIGNATURE), "unprotected header"),
        (envelope(ES384, {}, None, SIGNATURE), "payload"),
        (envelope(ES384, {}, b"", SIGNATURE), "payload"),
        (envelope(ES384, {}, PAYLOAD, SIGNATURE[1:]), "signature"),
        (envelope(ES384, {}, PAYLOAD, SIGNATURE + b"\0"), "signature"),
        (b"\x9f" + GOOD.report[1:] + b"\xff", "document"),
        (b"\x84\x58\x04" + GOOD.report[2:], "document"),
        (bytes(17000), "document"),
    ],
    ids=named,
)
def test_an_envelope_in_another_form_is_malformed(data: bytes, field: str) -> None:
    with pytest.raises(EvidenceMalformed) as refused:
        CoseSign1.parse(data)
    assert refused.value.field == field


def members(**changes: object) -> dict[str, object]:
    good = cbor2.loads(PAYLOAD)
    for name, value in changes.items():
        if value is ...:
            del good[name]
        else:
            good[name] = value
    return good


CERTIFICATE = hypervisor().signer.der


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"module_id": ...}, "module_id"),
        ({"module_id": ""}, "module_id"),
        ({"module_id": b"i-0"}, "module_id"),
        ({"module_id": "i\n0"}, "module_id"),
        ({"digest": ...}, "digest"),
        ({"digest": "SHA256"}, "digest"),
        ({"timestamp": 0}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": 2**63}, "timestamp"),
        ({"pcrs": {}}, "pcrs"),
        ({"pcrs": []}, "pcrs"),
        ({"pcrs": {32: bytes(48)}}, "pcrs"),
        ({"pcrs": {-1: bytes(48)}}, "pcrs"),
        ({"pcrs": {"0": bytes(48)}}, "pcrs"),
        ({"pcrs": {True: bytes(48)}}, "pcrs"),
        ({"pcrs": {0: bytes(32)}}, "pcr0"),
        ({"pcrs": {0: "00" * 48}}, "pcr0"),
        ({"certificate": b""}, "certificate"),
        ({"certificate": bytes(1025)}, "certificate"),
        ({"cabundle": []}, "cabundle"),
        ({"cabundle": {}}, "cabundle"),
        ({"cabundle": [b""]}, "cabundle"),
        ({"cabundle": [bytes(1025)]}, "cabundle"),
        ({"public_key": b""}, "public_key"),
        ({"public_key": bytes(1025)}, "public_key"),
        ({"user_data": bytes(513)}, "user_data"),
        ({"user_data": "text"}, "user_data"),
        ({"nonce": bytes(513)}, "nonce"),
        ({"pcr0": bytes(48)}, "payload"),
    ],
    ids=named,
)
def test_a_document_in_another_form_is_malformed(changes: dict[str, object], field: str) -> None:
    with pytest.raises(EvidenceMalformed) as refused:
        AttestationDocument.parse(cbor2.dumps(members(**changes)))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "payload",
    [
        cbor2.dumps([members()]),
        PAYLOAD + b"\0",
        PAYLOAD.replace(b"\x63pcr", b"\x63pcr") + PAYLOAD,
        b"\xaa" + PAYLOAD[1:] + cbor2.dumps("nonce") + b"\xf6",
        cbor2.dumps(members(timestamp=cbor2.CBORTag(1, 1))),
        cbor2.dumps(members(nonce=cbor2.CBORTag(36, "text"))),
        cbor2.dumps(members(nonce=cbor2.CBORTag(4711, b"n"))),
        cbor2.dumps(members(timestamp=cbor2.CBORTag(2, b"\1"))),
        b"\x81" * 9000,
    ],
    ids=["array", "trailing", "twice", "duplicate key", "date", "mail", "unknown tag", "bignum", "deep"],
)
def test_cbor_that_two_readers_may_read_differently_is_malformed(payload: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="^payload:"):
        AttestationDocument.parse(payload)


def test_documents_may_leave_out_optional_fields_or_write_null() -> None:
    left_out = cbor2.dumps(members(public_key=..., user_data=..., nonce=...))
    null = cbor2.dumps(members(public_key=None, user_data=None, nonce=None))
    assert AttestationDocument.parse(left_out) == AttestationDocument.parse(null)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tee", Tee.SEV_SNP),
        ("pcr0", ()),
        ("pcr0", (bytes(48),)),
        ("pcr1", (register("a"), register("a"))),
        ("pcr2", (b"short",)),
        ("pcr3", ()),
        ("pcr8", (bytes(32),)),
        ("module_ids", ()),
        ("maximum_age_seconds", -1),
        ("maximum_age_seconds", 10801),
        ("nonce", "absent"),
        ("public_key", "any"),
        ("revocation", Revocation.CRL),
        ("revocation", Revocation.MINIMUM_TCB),
    ],
)
def test_bad_reference_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        reference_values(**{field: value})
    assert refused.value.field == field


def test_values_of_another_kind_are_our_own_mistake() -> None:
    values = simulated_reference_values(bytes(range(48)))
    with pytest.raises(ReferenceValuesError, match="^tee:"):
        FAMILY.authenticate(GOOD, NOW).appraise(values, None)


def test_values_that_stop_at_firmware_warn() -> None:
    assert "firmware only" in appraised(covers=Covers.FIRMWARE_ONLY).warnings[0]
    assert appraised().warnings == ()


def test_reference_accepts_a_later_launch_of_the_same_image() -> None:
    values = FAMILY.reference(GOOD)
    later = hypervisor().evidence(module_id="i-0-enc1", timestamp_ms=int((NOW - timedelta(hours=1)).timestamp() * 1000))
    FAMILY.authenticate(later, NOW).appraise(values, REPORT_DATA)
    with pytest.raises(EvidenceRefused, match="^pcr2:"):
        FAMILY.reference(hypervisor().evidence(pcrs={0: register("image"), 1: register("kernel"), 2: bytes(48)}))


def test_a_document_is_found_in_somebodys_container() -> None:
    """Where a file is handed in; what stands after a bare document is never passed over."""
    for carried in (b"\0\2\xb9F" + GOOD.report + b"more of his", bytes(100) + GOOD.report):
        assert CoseSign1.inside(carried) == GOOD.report
        assert recognise(carried) == GOOD
    assert recognise(GOOD.report.hex().encode()) == GOOD
    for other in (GOOD.report, GOOD.report + b"\0", b"nothing", b"\0" + GOOD.report[:40]):
        assert CoseSign1.inside(other) is None
    with pytest.raises(EvidenceMalformed, match="nothing after the CBOR item, found 1 bytes"):
        FAMILY.authenticate(recognise(GOOD.report + b"\0"), NOW)

"""A host's certificate table: read in both byte orders of GUIDs, strictly, and good as an endorsement."""

from dataclasses import replace
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from synthetic_snp import NOW, REPORT_DATA, revocation_list, root, simulated_evidence, simulated_values

from attestation import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable, Verdict, appraise
from attestation.reference_values import Revocation
from attestation.snp.cert_table import CertTable, TableEntry, TableEntryKind

VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes
VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes
ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes
ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes
CRL = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes
OTHER = UUID("9f4116cd-c503-4f4a-8f6f-fb68882f4ce2").bytes
EVIDENCE = simulated_evidence()
(LEAF,) = EVIDENCE.endorsements
FOREIGN = root().certificate.public_bytes(Encoding.DER)


def table(*entries: tuple[bytes, bytes]) -> bytes:
    return CertTable(entries=tuple(TableEntry(guid=guid, data=data) for guid, data in entries)).encode()


def entry(guid: bytes, offset: int, length: int) -> bytes:
    return guid + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


def judged(*endorsements: bytes, **changes: object) -> Verdict:
    evidence = replace(EVIDENCE, endorsements=endorsements)
    return appraise(evidence, [simulated_values(**changes)], REPORT_DATA, NOW)


def test_entries_are_found_by_guid_offset_and_length() -> None:
    data = entry(ARK, 75, 3) + entry(VCEK, 72, 2) + bytes(24) + b"vc\0ark" + bytes(4096 - 78)
    parsed = CertTable.parse(data)
    assert [(item.kind, item.data) for item in parsed.entries] == [
        (TableEntryKind.ARK, b"ark"),
        (TableEntryKind.VCEK, b"vc"),
    ]
    assert parsed.endorsements() == (b"vc",)


@pytest.mark.parametrize("guid", [VCEK, VLEK, ASK, ARK, CRL])
def test_guids_are_read_in_either_byte_order(guid: bytes) -> None:
    mixed = UUID(bytes=guid).bytes_le
    straight, swapped = (CertTable.parse(table((form, b"x"))).entries[0] for form in (guid, mixed))
    assert straight.kind is swapped.kind is not None
    assert straight.useful is swapped.useful is (guid in (VCEK, VLEK, CRL))


def test_a_vendors_own_guid_has_no_kind_and_its_name() -> None:
    (item,) = CertTable.parse(table((OTHER, b"x"))).entries
    assert (item.kind, item.useful, item.name) == (None, False, "9f4116cd-c503-4f4a-8f6f-fb68882f4ce2")


def test_no_entries_are_an_empty_table() -> None:
    assert CertTable.parse(bytes(24)) == CertTable.parse(bytes(4096)) == CertTable(entries=())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(23),
        entry(VCEK, 48, 4) + b"four",
        entry(VCEK, 48, 4) + bytes(24),
        entry(VCEK, 48, 4) + bytes(24) + b"thr",
        entry(VCEK, 48, 0) + bytes(24),
        entry(VCEK, 24, 24) + bytes(24),
        entry(VCEK, 0, 24) + bytes(24),
        entry(VCEK, 48, 0xFFFFFFFF) + bytes(24) + b"four",
        entry(VCEK, 0xFFFFFFFF, 2) + bytes(24) + b"four",
        entry(VCEK, 72, 4) + entry(CRL, 75, 4) + bytes(24) + b"sevenby",
        entry(VCEK, 72, 4) + entry(VCEK, 76, 4) + bytes(24) + b"fourfour",
        entry(VCEK, 72, 4) + entry(UUID(bytes=VCEK).bytes_le, 76, 4) + bytes(24) + b"fourfour",
        entry(VCEK, 48, 4) + bytes(24) + b"four!",
        entry(VCEK, 50, 4) + bytes(24) + b"\0!four",
        entry(bytes(16), 48, 4) + bytes(23) + b"four",
        b"".join(entry(index.to_bytes(16, "big"), 24 * 41 + index, 1) for index in range(1, 41)) + bytes(24 + 41),
        bytes(64 * 1024 + 1),
        LEAF,
    ],
)
def test_anything_else_is_malformed(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="certificate table"):
        CertTable.parse(data)


def test_a_table_is_an_endorsement() -> None:
    judged(table((VCEK, LEAF)))
    judged(table((UUID(bytes=VCEK).bytes_le, LEAF)) + bytes(100))
    judged(table((CRL, revocation_list()), (VCEK, LEAF)), revocation=Revocation.CRL)
    judged(table((VCEK, LEAF)), revocation_list(), revocation=Revocation.CRL)


def test_what_a_host_puts_there_besides_is_set_aside_and_named() -> None:
    """Its guests don't choose it, and some hosts' ASK and ARK can't even be read."""
    verdict = judged(table((ASK, b"malformed"), (ARK, FOREIGN), (VCEK, LEAF), (OTHER, b"x")))
    (line,) = [check for check in verdict.checks if check.number == 1]
    assert line.found.endswith("set aside from the host's table: ASK, ARK, 9f4116cd-c503-4f4a-8f6f-fb68882f4ce2")


def test_what_a_party_sends_itself_is_not() -> None:
    with pytest.raises(EvidenceNotAuthentic, match="endorsement 1: expected .* one of the pinned ones"):
        judged(LEAF, FOREIGN)
    with pytest.raises(EvidenceMalformed, match="endorsement 1"):
        judged(LEAF, b"malformed")


def test_a_leaf_in_a_table_is_judged_like_any_other() -> None:
    with pytest.raises(EvidenceMalformed, match=r"endorsement 0 \(VCEK\): expected a certificate"):
        judged(table((VCEK, LEAF[:-1])))
    with pytest.raises(EvidenceNotAuthentic, match=r"endorsement 0 \(VLEK\): expected a VCEK or VLEK certificate"):
        judged(table((VLEK, FOREIGN)))
    with pytest.raises(EvidenceMalformed, match="one VCEK or VLEK certificate, found 2"):
        judged(LEAF, table((VCEK, LEAF)))
    with pytest.raises(EvidenceUncheckable, match="endorsements"):
        judged(table((ASK, LEAF)))


def test_an_empty_table_and_an_endless_endorsement_are_malformed() -> None:
    with pytest.raises(EvidenceMalformed, match="endorsement 1: expected an endorsement, found an empty"):
        judged(LEAF, bytes(4096))
    with pytest.raises(EvidenceMalformed, match="endorsement 1: expected at most 65536 bytes"):
        judged(LEAF, bytes(65537))

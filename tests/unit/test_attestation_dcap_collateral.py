"""Collateral in all its forms, and all that is wrong with it: Open Enclave's negative documents and their like."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attestation_cases.dcap import DATA, read_endorsement
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from synthetic_dcap import CA, FAMILIES, NOW, ROOT, evidence, lists, pem, qe_identity, signed_json, tcb_info

from attestation import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable, Tee
from attestation.checklist import Checklist
from attestation.dcap.authenticate import authenticate, verifies
from attestation.dcap.certificates import public_key_of
from attestation.dcap.chain import choose_pck_chain, verify_pck_chain
from attestation.dcap.collateral import Collateral
from attestation.dcap.qe_identity import EnclaveId, QeIdentity
from attestation.dcap.quote import Quote
from attestation.dcap.roots import Root
from attestation.dcap.roots import intel_root as intel
from attestation.dcap.tcb_info import TcbInfo
from attestation.families import FAMILIES as REAL_FAMILIES

STARTS = (b'{"tcbInfo"', b'{"enclaveIdentity"')
OPEN_ENCLAVE = DATA / "openenclave-openenclave"
INTEL = DATA / "intel-SGX-TDX-DCAP-QuoteVerificationLibrary"
NEGATIVE_TCB_INFOS = sorted((OPEN_ENCLAVE / "tcbinfo_negative").glob("*.json"))
NEGATIVE_IDENTITIES = sorted((OPEN_ENCLAVE / "qeidentity_negative").glob("*.json"))
GOOD_IDENTITIES = {"qe_identity_ok.json", "qe_identity_with_advisoryids.json", "qve_identity_ok.json"}
FIELD_OF_IDENTITY = {
    "attributes": "attributes",
    "attributesmask": "attributesMask",
    "id": "id",
    "issuedate": "issueDate",
    "isvprodid": "isvprodid",
    "isvsvn": "endorsement 0",  # no JSON either
    "miscselect": "miscselect",
    "miscselectmask": "miscselectMask",
    "mrsigner": "mrsigner",
    "nextupdate": "nextUpdate",
    "qeidentity": "endorsement 0",
    "signature": "endorsement 0",
    "tcb_date": "tcbDate",
    "tcb_eval_data_num": "tcbEvaluationDataNumber",
    "tcb_levels": "tcbLevels",
    "tcb_status": "tcbStatus",
    "version": "version",
}


@pytest.mark.parametrize("path", NEGATIVE_IDENTITIES, ids=lambda path: path.stem)
def test_open_enclaves_identities(path: Path) -> None:
    if path.name in GOOD_IDENTITIES:
        found = Collateral.gather((path.read_bytes(),)).qe_identity
        assert found is not None
        assert found.content.id is (EnclaveId.QVE if path.name.startswith("qve") else EnclaveId.QE)
        assert found.content.levels[0].isv_svn == 2
        return
    with pytest.raises(EvidenceMalformed) as refused:
        Collateral.gather((path.read_bytes(),))
    assert refused.value.field.endswith(FIELD_OF_IDENTITY[path.stem.removeprefix("qe_identity_missing_")])


@pytest.mark.parametrize("path", NEGATIVE_TCB_INFOS, ids=lambda path: path.stem)
def test_open_enclaves_tcb_infos(path: Path) -> None:
    """All of them are of version 1, its good ones included, which we don't read any more."""
    with pytest.raises(EvidenceMalformed):
        Collateral.gather((path.read_bytes(),))


DAMAGED = {
    "tcbInfoNegativeCompSvn": ('"svn":3', '"svn":257', "svn"),
    "tcbInfoNegativeFloat": ('"version":3', '"version":3.0', "endorsement 0"),
    "tcbInfoNegativeIntegerOverflow": ('"version":3', f'"version":{10**34}', "endorsement 0"),
    "tcbInfoNegativeIntegerWithSign": ('"version":3', '"version":-3', "version"),
    "tcbInfoNegativeInvalidIssueDate": ('"issueDate":"2026-10', '"issueDate":"2026-16', "issueDate"),
    "tcbInfoNegativeInvalidNextUpdate": ('"nextUpdate":"2026-11', '"nextUpdate":"2026-16', "nextUpdate"),
    "tcbInfoNegativeMissingNextUpdate": ('"nextUpdate"', '"nextUpdat"', "nextUpdate"),
    "tcbInfoNegativePceSvn": ('"pcesvn":13', '"pcesvn":65537', "pcesvn"),
    "tcbInfoNegativePropertyMissingLevel1": ('"fmspc"', '"FMSPC"', "fmspc"),
    "tcbInfoNegativePropertyMissingLevel2": ('"tcbStatus"', '"status"', "tcbStatus"),
    "tcbInfoNegativePropertyMissingLevel3": ('"pcesvn"', '"PCESVN"', "pcesvn"),
    "tcbInfoNegativePropertyWrongTypeLevel1": ('"fmspc":"90C06F000000"', '"fmspc":90610000', "fmspc"),
    "tcbInfoNegativePropertyWrongTypeLevel2": ('"tcbStatus":"UpToDate"', '"tcbStatus":1', "tcbStatus"),
    "tcbInfoNegativePropertyWrongTypeLevel3": ('"svn":3', '"svn":"3"', "svn"),
    "tcbInfoNegativeStringEscape": ('"issueDate":"2026-', '"issueDate":"2026-\\n', "issueDate"),
    "a key twice": ('"tcbType":0', '"tcbType":0,"tcbType":0', "endorsement 0"),
    "no JSON's number": ('"tcbType":0', '"tcbType":NaN', "endorsement 0"),
    "another type": ('"tcbType":0', '"tcbType":1', "tcbType"),
    "another version": ('"version":3', '"version":2', "version"),
    "another id": ('"id":"TDX"', '"id":"TDY"', "id"),
    "no module": ('"tdxModule":', '"tdxmodule":', "tdxModule"),
    "two of one module": ('"TDX_03"', '"tdx_01"', "tdxModuleIdentities.id"),
    "a module of no version": ('"TDX_03"', '"TDX_G3"', "tdxModuleIdentities.id"),
    "an advisory in free words": ('"INTEL-SA-00106"', '"<b>none</b>"', "advisoryIDs"),
    "levels that are none": ('"tcbLevels":[{"tcb":{"sgx', '"tcbLevels":[1,{"tcb":{"sgx', "tcbLevels[0]"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_the_same_damage_to_a_document_of_version_3(name: str) -> None:
    """Signed again each time: it is the parser that refuses, and names the field."""
    before, after, field = DAMAGED[name]
    text = json.dumps(tcb_info(), separators=(",", ":"))
    assert before in text
    TcbInfo.parse(text.encode())
    with pytest.raises(EvidenceMalformed) as refused:
        Collateral.gather((signed_json("tcbInfo", text.replace(before, after)),))
    assert refused.value.field.endswith(field), refused.value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b'{"tcbInfo":{}}',
        b'{"tcbInfo":{},"signature":"00"}',
        b'{"tcbInfo":{},"enclaveIdentity":{},"signature":"00"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"pck_crl":"00"}',
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        b"-----BEGIN CERTIFICATE-----",
        b"0123456789abcdef",
        b"\x30\x82\xff\xff",
        b"hello",
        "ä".encode("latin-1"),
    ],
)
def test_what_is_no_collateral_is_malformed(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        Collateral.gather((data,))


def test_all_forms_say_the_same() -> None:
    """PEM, DER, hexadecimal, one file for all certificates, or one bundle."""
    given, quote = lists(), evidence().report
    first, second, certificates, root_crl, pck_crl = given.endorsements()
    documents = [json.loads(document) for document in (first, second)]
    texts = [
        json.dumps(document[key], separators=(",", ":"))
        for document, key in zip(documents, ("tcbInfo", "enclaveIdentity"), strict=True)
    ]
    bundle = {
        "pck_crl_issuer_chain": pem(CA, ROOT).decode(),
        "root_ca_crl": root_crl.hex(),
        "pck_crl": pck_crl.hex().upper(),
        "tcb_info_issuer_chain": certificates.decode(),
        "tcb_info": texts[0],
        "tcb_info_signature": documents[0]["signature"],
        "qe_identity_issuer_chain": certificates.decode() + "\0",
        "qe_identity": texts[1],
        "qe_identity_signature": documents[1]["signature"],
        "pck_certificate_chain": None,
    }
    lists_pem = b"".join(x509.load_der_x509_crl(item).public_bytes(Encoding.PEM) for item in (root_crl, pck_crl))
    ders = [item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(certificates)]
    for endorsements in (
        (json.dumps(bundle).encode(),),
        (json.dumps(bundle, indent=2).encode() + b"\n",),
        (lists_pem + certificates, second, first),
        (b"".join(ders), first, second, lists_pem),
        (*ders, first, second, root_crl.hex().encode(), pck_crl.hex().encode() + b"\n"),
    ):
        found = authenticate(Quote.parse(quote), endorsements, Root(certificate=ROOT), NOW)
        assert found.standing.status == "UpToDate"


def test_a_bundle_says_all_and_nothing_else() -> None:
    bundle = json.loads(read_endorsement("Phala-Network-dcap-qvl/tdx_quote_collateral.json"))
    for name in bundle:
        fewer = {key: value for key, value in bundle.items() if key != name}
        with pytest.raises(EvidenceMalformed):
            Collateral.gather((json.dumps(fewer).encode(),))
        with pytest.raises(EvidenceMalformed):
            Collateral.gather((json.dumps({**bundle, name: 7}).encode(),))
        with pytest.raises(EvidenceMalformed):
            Collateral.gather((json.dumps({**bundle, name: "x"}).encode(),))
    with pytest.raises(EvidenceMalformed):
        Collateral.gather((json.dumps({**bundle, "more": ""}).encode(),))


def test_open_enclaves_dump_holds_a_complete_set() -> None:
    """Of March 2025, for a TD that outlived its TDX module."""
    dump = (OPEN_ENCLAVE / "tdx_endorsement.bin").read_bytes()
    quote = Quote.parse((OPEN_ENCLAVE / "tdx_quote-moduleupdate-seamldr5.dat").read_bytes())
    documents = [dump[dump.index(start) : dump.index(b"\0", dump.index(start))] for start in STARTS]
    hexadecimal = re.findall(rb"3082[0-9a-fA-F]{400,}", dump)
    certificates = re.findall(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", dump)
    found = authenticate(quote, (*hexadecimal, *certificates, *documents), intel(), datetime(2025, 3, 15, tzinfo=UTC))
    assert found.standing.status == "TDRelaunchAdvised"
    assert found.tcb_info.tcb_evaluation_data_number == found.qe_identity.tcb_evaluation_data_number == 18


def intel_root(folder: str) -> Root:
    return Root(certificate=x509.load_pem_x509_certificate((INTEL / f"{folder}-trustedRootCaCert.pem").read_bytes()))


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_intels_synthetic_quote_is_signed_under_its_own_root(tee: Tee) -> None:
    """Everything but its TCB information, in which security versions are greater than a byte or of version 2."""
    quote, root = Quote.parse((INTEL / f"{tee}-quote.dat").read_bytes()), intel_root(tee)
    more = (INTEL / f"{tee}-pckCert.pem").read_bytes(), (INTEL / f"{tee}-pckSignChain.pem").read_bytes()
    endorsements = more if tee is Tee.SGX else ()
    chain = choose_pck_chain(quote, Collateral.gather(endorsements), root)
    verify_pck_chain(Checklist(EvidenceNotAuthentic), 2, chain, root)
    with pytest.raises(EvidenceUncheckable, match="tcb_info: expected one among the endorsements") as refused:
        authenticate(quote, endorsements, root, datetime(2024, 1, 1, tzinfo=UTC))
    assert {check.number for check in refused.value.passed} == {1, 2, 3, 4, 5, 6}
    with pytest.raises(
        EvidenceMalformed, match="svn: expected a whole number from 0 to 255|tcbInfo.version: expected 3"
    ):
        authenticate(
            quote, (*endorsements, (INTEL / f"{tee}-tcbInfo.json").read_bytes()), root, datetime(2024, 1, 1, tzinfo=UTC)
        )


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_intels_synthetic_identity_is_signed_and_parses(tee: Tee) -> None:
    found = Collateral.gather(
        ((INTEL / f"{tee}-qeIdentity.json").read_bytes(), (INTEL / f"{tee}-tcbSignChain.pem").read_bytes())
    )
    assert found.qe_identity is not None
    signers = [item for item in found.certificates if "TCB Signing" in item.subject.rfc4514_string()]
    assert [verifies(public_key_of(item), found.qe_identity.data, found.qe_identity.signature) for item in signers] == [
        True
    ]
    assert not verifies(public_key_of(signers[0]), found.qe_identity.data + b" ", found.qe_identity.signature)


def test_a_document_reads_back_what_was_written() -> None:
    info = TcbInfo.parse(json.dumps(tcb_info()).encode())
    assert [level.status for level in info.levels] == ["UpToDate", "OutOfDate"]
    assert info.module(1) is not None
    assert info.module(0) is not None
    assert info.module(2) is None
    identity = QeIdentity.parse(json.dumps(qe_identity()).encode())
    assert identity.id is EnclaveId.TD_QE
    assert FAMILIES.keys() <= REAL_FAMILIES.keys()

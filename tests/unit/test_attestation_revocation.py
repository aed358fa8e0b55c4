"""Revocation lists beside a report: checked if they came along, and asked for where the reference values say so.

AMD's own lists are not public vectors; these are synthetic, under the simulated and the test root.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from synthetic_snp import (
    MEASUREMENT,
    NOW,
    PROVIDER,
    REPORT_DATA,
    authenticated,
    endorsement,
    intermediate,
    private_key,
    report,
    revocation_list,
    root,
    roots,
    simulated_evidence,
    simulated_root,
    simulated_values,
    values,
)

from attestation import (
    AttestationError,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceUncheckable,
    EvidenceWithdrawn,
    Verdict,
    appraise,
)
from attestation.claims import as_json
from attestation.reference_values import Revocation
from attestation.simulated.authority import Authority
from attestation.simulated.roots import simulated_roots
from attestation.snp.appraise import appraise as appraise_authentic
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.revocation import RevocationList

BY_LIST = simulated_values(revocation=Revocation.CRL)
BY_TCB = simulated_values(revocation=Revocation.MINIMUM_TCB)
CHAIN = simulated_roots().chains[0]
PSS = padding.PSS(padding.MGF1(SHA384()), 48)


def verdict(*lists: bytes, by: object = BY_LIST) -> Verdict:
    return appraise(simulated_evidence(more=lists), [by], REPORT_DATA, NOW)


def refused(*lists: bytes, by: object = BY_LIST) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        verdict(*lists, by=by)
    return caught.value


def test_a_fresh_list_is_accepted_and_reported() -> None:
    found = verdict(revocation_list())
    claim = as_json(found.claims)["revocation"]
    assert claim == {"lists": 1, "next_update": (NOW + timedelta(days=1)).isoformat()}
    (line,) = [check for check in found.checks if check.number == 8 and check.name == "revocation"]
    assert line.found == "1 along with the report"


def test_it_may_stand_anywhere_and_beside_another() -> None:
    evidence = simulated_evidence(more=(revocation_list(), revocation_list(serials=(5, 7))))
    for endorsements in (evidence.endorsements, evidence.endorsements[::-1]):
        appraise(replace(evidence, endorsements=endorsements), [BY_LIST], REPORT_DATA, NOW)


def test_where_one_is_asked_for_and_none_came_it_could_not_be_checked() -> None:
    error = refused()
    assert type(error) is EvidenceUncheckable
    assert (error.field, error.expected, error.found) == ("revocation", "a revocation list of ARK-Genoa", "none")
    assert error.number == 8
    assert {check.number for check in error.passed} == set(range(1, 9))


def test_where_the_minimum_tcb_does_none_is_needed() -> None:
    claim = as_json(verdict(by=BY_TCB).claims)["revocation"]
    assert claim == {"lists": 0, "next_update": None}


@pytest.mark.parametrize("by", [BY_LIST, BY_TCB], ids=["crl", "minimum-tcb"])
class TestAListThatCameAlongIsChecked:
    @pytest.mark.parametrize("days", [-1, 0, 1])
    def test_inside_its_window_to_both_ends(self, by: object, days: int) -> None:
        moved = NOW - timedelta(days=days)
        edges = {"this_update": moved - timedelta(days=1), "next_update": moved + timedelta(days=1)}
        verdict(revocation_list(**edges), by=by)

    @pytest.mark.parametrize(("earlier", "later"), [(-3, -1), (1, 3)], ids=["expired", "not yet valid"])
    def test_outside_it_is_refused(self, by: object, earlier: int, later: int) -> None:
        window = {"this_update": NOW + timedelta(days=earlier), "next_update": NOW + timedelta(days=later)}
        error = refused(revocation_list(**window), by=by)
        assert type(error) is EvidenceNotAuthentic
        assert (error.field, error.number) == ("validity of endorsement 1", 5)

    @pytest.mark.parametrize("which", ["ark", "intermediate"])
    def test_a_revoked_certificate_of_the_chain_is_refused(self, by: object, which: str) -> None:
        certificate = getattr(CHAIN, which)
        for serials in ((certificate.serial_number,), (1, certificate.serial_number, 3)):
            error = refused(revocation_list(serials=serials), by=by)
            assert type(error) is EvidenceWithdrawn
            assert error.field.startswith(f"revocation of CN={'ARK' if which == 'ark' else 'SEV'}-Simulated")
            assert error.number == 5

    @pytest.mark.parametrize("reason", [x509.ReasonFlags.certificate_hold, x509.ReasonFlags.superseded])
    def test_for_whatever_reason(self, by: object, reason: x509.ReasonFlags) -> None:
        serials = (CHAIN.intermediate.serial_number,)
        listed = revocation_list(serials=serials, entry_extensions={x509.CRLReason(reason): False})
        assert type(refused(listed, by=by)) is EvidenceWithdrawn

    def test_on_the_second_list_too(self, by: object) -> None:
        listed = revocation_list(serials=(CHAIN.intermediate.serial_number,))
        assert type(refused(revocation_list(), listed, by=by)) is EvidenceWithdrawn

    def test_another_roots_list_is_refused(self, by: object) -> None:
        error = refused(revocation_list(root()), by=by)
        assert type(error) is EvidenceNotAuthentic
        assert error.field == "issuer of endorsement 1"
        assert "ARK-Simulated" in error.expected
        assert "ARK-Test" in error.found

    def test_so_is_one_of_the_intermediate(self, by: object) -> None:
        own = Authority(certificate=CHAIN.intermediate, key=private_key("ask"))
        assert refused(revocation_list(own), by=by).field == "issuer of endorsement 1"

    def test_so_is_one_in_the_roots_name_by_another_key(self, by: object) -> None:
        forged = Authority(certificate=simulated_root().certificate, key=private_key("ask"))
        error = refused(revocation_list(forged), by=by)
        assert type(error) is EvidenceNotAuthentic
        assert (error.field, error.found) == ("signature of endorsement 1", "does not verify")

    @pytest.mark.parametrize(
        ("algorithm", "scheme"),
        [
            (SHA384(), padding.PSS(padding.MGF1(SHA384()), 32)),
            (SHA384(), padding.PSS(padding.MGF1(SHA256()), 48)),
            (SHA256(), padding.PSS(padding.MGF1(SHA256()), 48)),
            (SHA512(), padding.PSS(padding.MGF1(SHA512()), 48)),
            (SHA384(), padding.PKCS1v15()),
        ],
        ids=["salt 32", "MGF1 SHA-256", "SHA-256", "SHA-512", "PKCS 1 v1.5"],
    )
    def test_so_is_another_algorithm_by_the_right_key(self, by: object, algorithm: object, scheme: object) -> None:
        error = refused(revocation_list(algorithm=algorithm, scheme=scheme), by=by)
        assert type(error) is EvidenceNotAuthentic
        assert (error.field, error.found) == ("signature of endorsement 1", "another algorithm")

    @pytest.mark.parametrize("spoil", [lambda der: der + b"\0", lambda der: der[:-1], lambda der: der[:200]])
    def test_trailing_or_missing_bytes_are_malformed(self, by: object, spoil: object) -> None:
        error = refused(spoil(revocation_list()), by=by)
        assert type(error) is EvidenceMalformed
        assert (error.field, error.number) == ("endorsement 1", 1)


@pytest.mark.parametrize(
    ("extension", "critical"),
    [
        (x509.DeltaCRLIndicator(1), True),
        (x509.DeltaCRLIndicator(1), False),
        (
            x509.IssuingDistributionPoint(
                full_name=None,
                relative_name=None,
                only_contains_user_certs=True,
                only_contains_ca_certs=False,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            ),
            True,
        ),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True),
    ],
    ids=["delta", "delta, not critical", "user certificates only", "critical and unknown"],
)
def test_a_list_that_covers_only_a_part_is_malformed(extension: x509.ExtensionType, critical: bool) -> None:
    error = refused(revocation_list(extensions={extension: critical}))
    assert type(error) is EvidenceMalformed
    assert error.field == "endorsement 1 extension"


def test_so_is_one_whose_entries_are_anothers() -> None:
    other = x509.CertificateIssuer([x509.DirectoryName(root().certificate.subject)])
    error = refused(revocation_list(serials=(1,), entry_extensions={other: True}))
    assert type(error) is EvidenceMalformed


def test_an_extension_that_does_not_matter_is_passed_over() -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    verdict(revocation_list(extensions={extension: False}))


def test_a_list_that_never_expires_is_no_fresh_one() -> None:
    """The library doesn't write such a list: the time of the next update is cut out, and it is signed again."""
    listed = RevocationList.parse(revocation_list(serials=tuple(range(1, 9))), "list")
    signed = bytearray(listed.crl.tbs_certlist_bytes)
    next_update = b"\x17\x0d" + listed.next_update.strftime("%y%m%d%H%M%SZ").encode()
    assert signed.count(next_update) == 1
    place = signed.index(next_update)
    del signed[place : place + len(next_update)]
    signed[2:4] = (len(signed) - 4).to_bytes(2, "big")
    outside = listed.crl.public_bytes(Encoding.DER)[4 + len(listed.crl.tbs_certlist_bytes) : -512]
    body = bytes(signed) + outside + private_key("ark").sign(bytes(signed), PSS, SHA384())
    error = refused(b"\x30\x82" + len(body).to_bytes(2, "big") + body)
    assert type(error) is EvidenceNotAuthentic
    assert (error.field, error.number) == ("validity of endorsement 1", 5)
    assert error.found == "none: it never expires"


def test_a_leafs_serial_number_says_nothing() -> None:
    """AMD's leaves all carry 0: a list of the root that has it is about no leaf, and neither is one that lacks it.

    (The library writes no 0; the simulated leaf has 1, and its chain others.)
    """
    leaf = x509.load_der_x509_certificate(simulated_evidence().endorsements[0])
    assert leaf.serial_number == 1
    assert leaf.serial_number not in (CHAIN.ark.serial_number, CHAIN.intermediate.serial_number)
    found = verdict(revocation_list(serials=(leaf.serial_number,)))
    assert not [check for check in found.checks if check.name.startswith("revocation of CN=SEV-VCEK")]


@pytest.mark.parametrize("kind", list(SigningKey))
@pytest.mark.parametrize("product", list(Product))
def test_every_product_and_kind_of_key(product: Product, kind: SigningKey) -> None:
    """ASK and ASVK alike; with a VLEK, which lives a year and has no other way to be withdrawn than its TCB."""
    vlek = kind is SigningKey.VLEK
    signed = report(product, signing_key=kind, **({"chip_id": bytes(64)} if vlek else {}))
    changes = {"signing_keys": (kind,), "csp_ids": (PROVIDER,) if vlek else (), "revocation": Revocation.CRL}
    certificate, chain = endorsement(product, kind), roots(product, kind)
    fresh = authenticated(signed, certificate, chain, more=(revocation_list(root()),))
    assert appraise_authentic(fresh, values(product, **changes), REPORT_DATA).measurement == MEASUREMENT
    listed = revocation_list(root(), serials=(intermediate().certificate.serial_number,))
    with pytest.raises(EvidenceNotAuthentic, match="revocation of CN=SEV-Test"):
        authenticated(signed, certificate, chain, more=(listed,))


def test_every_sampled_bit_of_a_list_counts() -> None:
    whole = revocation_list(serials=(77,))
    for bit in range(0, 8 * len(whole), 37):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert isinstance(refused(bytes(flipped)), EvidenceMalformed | EvidenceNotAuthentic)


def test_a_certificate_in_a_lists_place_is_no_list() -> None:
    error = refused(simulated_evidence().endorsements[0][:-1])
    assert type(error) is EvidenceMalformed
    assert error.expected == "a certificate, revocation list or certificate table"


def test_a_list_by_a_key_that_is_no_rsa_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    builder = x509.CertificateRevocationListBuilder().issuer_name(simulated_root().certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + timedelta(days=1))
    error = refused(builder.sign(key, SHA384()).public_bytes(Encoding.DER))
    assert (error.field, error.found) == ("signature of endorsement 1", "another algorithm")

"""Chains that nobody pinned, or that are not what AMD issues; and the products and keys that public vectors lack.

Everything here is synthetic, under test roots made from the simulated keys: VLEKs of Genoa and Turin, Turin's and
Milan's layouts, a masked chip key.
"""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from synthetic_snp import (
    NOW,
    PROVIDER,
    REPORT_DATA,
    TCB,
    VALIDITY,
    authenticated,
    chip_id,
    endorsement,
    intermediate,
    of_version,
    private_key,
    report,
    roots,
    values,
)

from attestation import AttestationError, EvidenceMalformed, EvidenceNotAuthentic, EvidenceRefused, Tee
from attestation.claims import as_json
from attestation.reference_values import Covers, IdBlock
from attestation.simulated.authority import issue_endorsement, issue_intermediate, issue_root
from attestation.simulated.chip import SIMULATED_CHIP_ID, SIMULATED_TCB, sign_report, simulated_chip
from attestation.simulated.roots import simulated_roots
from attestation.snp.appraise import MILAN_WARNING, appraise
from attestation.snp.authenticate import authenticate
from attestation.snp.certificates import EndorsementKey
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.report import SignedReport
from attestation.terms import FIRMWARE_ONLY_WARNING


@pytest.mark.parametrize("product", list(Product))
def test_a_chips_key_of_every_product_is_accepted(product: Product) -> None:
    authentic = authenticated(report(product), endorsement(product), roots(product))
    verdict = appraise(authentic, values(product), REPORT_DATA)
    assert verdict.product is product
    assert as_json(verdict.claims)["tcb"]["reported"] == TCB[product].components()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("product", list(Product))
def test_a_providers_key_of_every_product_is_accepted_with_or_without_a_masked_chip(
    product: Product, masked: bool
) -> None:
    signed = report(product, signing_key=SigningKey.VLEK, mask_chip_key=masked, chip_id=bytes(64))
    certificate = endorsement(product, SigningKey.VLEK)
    authentic = authenticated(signed, certificate, roots(product, SigningKey.VLEK))
    accepted = values(product, signing_keys=(SigningKey.VLEK,), csp_ids=(PROVIDER,))
    assert appraise(authentic, accepted, REPORT_DATA).product is product
    with pytest.raises(EvidenceRefused, match="signing_keys: expected vcek, found vlek"):
        appraise(authentic, values(product), REPORT_DATA)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("product", list(Product))
def test_every_version_of_the_report_is_read_on_every_product(product: Product, version: int) -> None:
    authentic = authenticated(of_version(version, report(product)), endorsement(product), roots(product))
    claims = as_json(appraise(authentic, values(product), REPORT_DATA).claims)
    assert (claims["product"], claims["version"]) == (product, version)
    assert (claims["cpuid"] is None, claims["mitigations"] is None) == (version < 3, version < 5)
    with pytest.raises(EvidenceRefused) as refused:
        appraise(authentic, values(product, mitigations_required=1), REPORT_DATA)
    assert refused.value.field == "mitigations_required"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_a_version_does_not_have_is_reserved_there(version: int) -> None:
    signed = sign_report(report(current_mitigations=1), simulated_chip().key)
    data = bytes([version]) + signed.encode()[1:]
    with pytest.raises(EvidenceMalformed, match=r"reserved bytes 0x(188|200)"):
        SignedReport.parse(data)


def test_a_masked_chip_key_is_for_vleks_only_and_said() -> None:
    authentic = authenticated(report(mask_chip_key=True), endorsement(), roots(Product.GENOA))
    with pytest.raises(EvidenceRefused) as refused:
        appraise(authentic, values(Product.GENOA), REPORT_DATA)
    assert (refused.value.field, refused.value.number) == ("key_info.mask_chip_key", 11)
    signed = report(mask_chip_key=True, signing_key=SigningKey.VLEK, chip_id=bytes(64))
    chain = roots(Product.GENOA, SigningKey.VLEK)
    masked = authenticated(signed, endorsement(kind=SigningKey.VLEK), chain)
    accepted = values(Product.GENOA, signing_keys=(SigningKey.VLEK,), csp_ids=(PROVIDER,))
    signer = as_json(appraise(masked, accepted, REPORT_DATA).claims)["signer"]
    assert signer == {"kind": "vlek", "csp_id": PROVIDER, "chip_key_masked": True}
    with pytest.raises(EvidenceRefused, match="chip_ids"):
        appraise(masked, replace(accepted, chip_ids=(SIMULATED_CHIP_ID,)), REPORT_DATA)


def test_an_author_key_is_used_if_and_only_if_its_digest_is_there() -> None:
    block = IdBlock(
        id_key_digest=b"k" * 48,
        author_key_digest=b"a" * 48,
        family_id=bytes(16),
        image_id=bytes(16),
        minimum_guest_svn=0,
    )
    launched = report(id_key_digest=b"k" * 48, author_key_digest=b"a" * 48, author_key_enabled=True)
    accepted = values(Product.GENOA, id_block=block)
    verdict = appraise(authenticated(launched, endorsement(), roots(Product.GENOA)), accepted, REPORT_DATA)
    assert as_json(verdict.claims)["id_block"]["author_key_enabled"] is True
    unused = authenticated(replace(launched, author_key_enabled=False), endorsement(), roots(Product.GENOA))
    with pytest.raises(EvidenceRefused, match="key_info.author_key_en"):
        appraise(unused, accepted, REPORT_DATA)


@pytest.mark.parametrize("covers", list(Covers))
@pytest.mark.parametrize("product", list(Product))
def test_what_is_weak_is_accepted_with_a_warning(product: Product, covers: Covers) -> None:
    authentic = authenticated(report(product), endorsement(product), roots(product))
    verdict = appraise(authentic, values(product, covers=covers), REPORT_DATA)
    milan = (MILAN_WARNING,) if product is Product.MILAN else ()
    code = (FIRMWARE_ONLY_WARNING,) if covers is Covers.FIRMWARE_ONLY else ()
    assert verdict.warnings == milan + code


def test_milan_is_accepted_only_where_it_is_named() -> None:
    authentic = authenticated(report(Product.MILAN), endorsement(Product.MILAN), roots(Product.MILAN))
    both = replace(values(Product.GENOA), products=(Product.GENOA, Product.TURIN), minimum_tcb=(
        TCB[Product.GENOA], TCB[Product.TURIN]))  # fmt: skip
    with pytest.raises(EvidenceRefused) as refused:
        appraise(authentic, both, REPORT_DATA)
    assert (refused.value.field, refused.value.found) == ("products", "Milan")


def test_a_genoa_under_another_name_is_a_genoa() -> None:
    """Siena and Bergamo have names of their own and Genoa's root."""
    certificate = with_extension(endorsement(), AMD + "2", b"\x16\x05Siena")
    authentic = authenticated(report(), certificate, roots(Product.GENOA))
    assert appraise(authentic, values(Product.GENOA), REPORT_DATA).product is Product.GENOA


def test_a_refusal_says_which_line_failed_and_what_was_checked_before() -> None:
    cases = {
        1: (b"junk", roots(Product.GENOA), NOW),
        2: (endorsement(), roots(Product.GENOA, SigningKey.VLEK), NOW),
        3: (endorsement(), roots(Product.GENOA, ark=simulated_roots().chains[0].ark), NOW),
        4: (endorsement(), roots(Product.GENOA), NOW + timedelta(days=99)),
    }
    for number, (certificate, chain, now) in cases.items():
        with pytest.raises(AttestationError) as refused:
            authenticated(report(), certificate, chain, now)
        assert refused.value.number == number
        assert {check.number for check in refused.value.passed} == set(range(1, number))


@pytest.mark.parametrize(("product", "other"), list(permutations(Product, 2)))
def test_certificate_chain_and_report_are_of_one_product(product: Product, other: Product) -> None:
    authentic = authenticated(report(product), endorsement(product), roots(other))
    with pytest.raises(EvidenceRefused, match=f"productName: expected {other}, found {product}"):
        appraise(authentic, values(other), REPORT_DATA)
    authentic = authenticated(report(product), endorsement(other), roots(other))
    with pytest.raises(EvidenceRefused, match=f"cpuid: expected {other}, found {product}"):
        appraise(authentic, values(other), REPORT_DATA)


def test_a_certificate_under_a_provider_chain_is_not_a_chips() -> None:
    with pytest.raises(EvidenceNotAuthentic, match="issuer of the VCEK"):
        authenticated(report(), endorsement(), roots(Product.GENOA, SigningKey.VLEK))


def test_a_root_of_the_same_name_is_not_the_pinned_one() -> None:
    """The peer's own hierarchy, with every name right."""
    foreign_root = issue_root("ARK-Test", private_key("ask"), **VALIDITY)
    foreign = issue_intermediate("SEV-Test", private_key("ark"), foreign_root, **VALIDITY)
    with pytest.raises(EvidenceNotAuthentic, match=r"signature of CN=SEV-VCEK.*expected one by CN=SEV-Test"):
        authenticated(report(), endorsement(issuer=foreign), roots(Product.GENOA))
    for extra in (foreign_root, foreign):
        endorsements = (endorsement(), extra.certificate.public_bytes(Encoding.DER))
        with pytest.raises(EvidenceNotAuthentic, match=r"endorsement 1: expected .* one of the pinned ones"):
            authenticate(sign_report(report(), simulated_chip().key), endorsements, roots(Product.GENOA), NOW)


def test_an_intermediate_that_the_root_did_not_sign_is_refused() -> None:
    foreign_root = issue_root("ARK-Test", private_key("ask"), **VALIDITY)
    foreign = issue_intermediate("SEV-Test", private_key("ark"), foreign_root, **VALIDITY)
    with pytest.raises(EvidenceNotAuthentic, match="signature of CN=SEV-Test"):
        authenticated(report(), endorsement(issuer=foreign), roots(Product.GENOA, intermediate=foreign.certificate))
    with pytest.raises(EvidenceNotAuthentic, match="signature of CN=SEV-Test"):
        authenticated(report(), endorsement(), roots(Product.GENOA, ark=foreign_root.certificate))
    with pytest.raises(EvidenceNotAuthentic, match=r"signature of CN=SEV-Test.*expected issued by CN=ARK-Simulated"):
        authenticated(report(), endorsement(), roots(Product.GENOA, ark=simulated_roots().chains[0].ark))


@pytest.mark.parametrize(
    ("hash_algorithm", "scheme"),
    [
        (SHA384(), padding.PSS(padding.MGF1(SHA384()), 32)),
        (SHA384(), padding.PSS(padding.MGF1(SHA256()), 48)),
        (SHA256(), padding.PSS(padding.MGF1(SHA256()), 48)),
        (SHA512(), padding.PSS(padding.MGF1(SHA512()), 48)),
        (SHA384(), padding.PKCS1v15()),
    ],
    ids=["salt 32", "MGF1 SHA-256", "SHA-256", "SHA-512", "PKCS 1 v1.5"],
)
def test_other_signature_parameters_are_refused_though_the_right_key_signed(
    hash_algorithm: object, scheme: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = x509.CertificateBuilder.sign

    def sign(self: x509.CertificateBuilder, key: object, algorithm: object, **_: object) -> x509.Certificate:
        return original(self, key, hash_algorithm, rsa_padding=scheme)

    monkeypatch.setattr(x509.CertificateBuilder, "sign", sign)
    certificate = endorsement()
    with pytest.raises(EvidenceNotAuthentic, match="found another algorithm"):
        authenticated(report(), certificate, roots(Product.GENOA))


def test_a_smaller_rsa_key_is_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    weak_root = issue_root("ARK-Test", small, **VALIDITY)
    weak = issue_intermediate("SEV-Test", small, weak_root, **VALIDITY)
    with pytest.raises(EvidenceNotAuthentic, match="4096 bits"):
        authenticated(
            report(),
            endorsement(issuer=weak),
            roots(Product.GENOA, ark=weak_root.certificate, intermediate=weak.certificate),
        )


@pytest.mark.parametrize("link", ["ark", "intermediate", "leaf"])
@pytest.mark.parametrize("when", ["not yet", "no longer"])
def test_each_certificate_of_the_chain_has_to_be_valid_now(link: str, when: str) -> None:
    short = (
        {"not_before": NOW + timedelta(days=1), "not_after": NOW + timedelta(days=9)}
        if when == "not yet"
        else {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)}
    )
    ark = issue_root("ARK-Test", private_key("ark"), **(short if link == "ark" else VALIDITY))
    ask = issue_intermediate("SEV-Test", private_key("ask"), ark, **(short if link == "intermediate" else VALIDITY))
    leaf = endorsement(issuer=ask, **(short if link == "leaf" else VALIDITY))
    root_set = roots(Product.GENOA, ark=ark.certificate, intermediate=ask.certificate)
    name = {"ark": "ARK-Test", "intermediate": "SEV-Test", "leaf": "SEV-VCEK"}[link]
    with pytest.raises(EvidenceNotAuthentic, match=f"validity of CN={name}"):
        authenticated(report(), leaf, root_set)


def test_a_time_inside_the_window_and_its_edges_is_accepted() -> None:
    for now in (VALIDITY["not_before"], NOW, VALIDITY["not_after"]):
        authenticated(report(), endorsement(), roots(Product.GENOA), now)


def test_a_report_signed_by_another_key_is_refused() -> None:
    signed = sign_report(report(), ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(EvidenceNotAuthentic, match="report signature"):
        authenticate(signed, (endorsement(),), roots(Product.GENOA), NOW)


def with_extension(certificate: bytes, oid: str, value: bytes | None, *, critical: bool = False) -> bytes:
    """The same certificate with one extension replaced, added or (None) left out, signed again by the right key."""
    original = x509.load_der_x509_certificate(certificate)
    builder = x509.CertificateBuilder().subject_name(original.subject).issuer_name(original.issuer).serial_number(1)
    builder = builder.not_valid_before(VALIDITY["not_before"]).not_valid_after(VALIDITY["not_after"])
    builder = builder.public_key(original.public_key())
    kept = [extension for extension in original.extensions if extension.oid.dotted_string != oid]
    for extension in kept:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    if value is not None:
        added = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(added, critical=critical)
    signed = builder.sign(private_key("ask"), SHA384(), rsa_padding=padding.PSS(padding.MGF1(SHA384()), 48))
    return signed.public_bytes(Encoding.DER)


AMD = "1.3.6.1.4.1.3704.1."


@pytest.mark.parametrize(
    ("product", "number", "value"),
    [
        (Product.GENOA, "1", b"\x02\x01\x01"),
        (Product.TURIN, "1", b"\x02\x01\x00"),
        (Product.GENOA, "2", b"\x16\x05genoa"),
        (Product.GENOA, "2", b"\x0c\x05Genoa"),
        (Product.GENOA, "2", b"\x16\x04Genoa"),
        (Product.GENOA, "2", b"\x16\x06Genoa\n"),
        (Product.GENOA, "2", b"\x16\x07Geno\xc3\xa4"),
        (Product.GENOA, "2", b""),
        (Product.GENOA, "2", None),
        (Product.GENOA, "3.1", b"\x02\x02\x00\x0a"),
        (Product.GENOA, "3.1", b"\x02\x01\x8a"),
        (Product.GENOA, "3.1", b"\x02\x81\x01\x0a"),
        (Product.GENOA, "3.1", b"\x02\x01\x0a\x00"),
        (Product.GENOA, "3.1", b"\x02\x02\x01\x00"),
        (Product.GENOA, "3.1", b"\x0a\x01\x0a"),
        (Product.GENOA, "3.1", b""),
        (Product.GENOA, "3.1", None),
        (Product.GENOA, "3.4", b"\x02\x01\x01"),
        (Product.GENOA, "3.4", None),
        (Product.GENOA, "3.9", b"\x02\x01\x00"),
        (Product.TURIN, "3.9", None),
        (Product.TURIN, "3.4", b"\x02\x01\x00"),
        (Product.GENOA, "4", bytes(63)),
        (Product.GENOA, "4", b"\x04\x40" + bytes(63)),
        (Product.GENOA, "4", bytes(8)),
        (Product.TURIN, "4", bytes(64)),
        (Product.GENOA, "4", None),
        (Product.GENOA, "5", b"\x16\x04CN=x"),
        (Product.GENOA, "6", b"\x02\x01\x00"),
    ],
)
def test_certificates_that_amd_does_not_issue_are_malformed(product: Product, number: str, value: bytes | None) -> None:
    certificate = with_extension(endorsement(product), AMD + number, value)
    with pytest.raises(EvidenceMalformed):
        authenticated(report(product), certificate, roots(product))


@pytest.mark.parametrize("oid", [AMD + "3.1", "1.2.3.4"])
def test_a_critical_extension_is_malformed(oid: str) -> None:
    certificate = with_extension(endorsement(), oid, b"\x02\x01\x0a", critical=True)
    with pytest.raises(EvidenceMalformed, match="none marked critical"):
        authenticated(report(), certificate, roots(Product.GENOA))


def test_an_ordinary_extension_that_does_not_matter_is_passed_over() -> None:
    certificate = with_extension(endorsement(), "1.2.3.4", b"\x05\x00")
    authenticated(report(), certificate, roots(Product.GENOA))


def test_a_wrapped_hardware_id_is_read_like_a_bare_one() -> None:
    for product, size in ((Product.GENOA, 64), (Product.TURIN, 8)):
        wrapped = bytes((0x04, size)) + chip_id(product)[:size]
        certificate = with_extension(endorsement(product), AMD + "4", wrapped)
        appraise(authenticated(report(product), certificate, roots(product)), values(product), REPORT_DATA)


def test_turins_short_hardware_id_is_the_whole_chip_id() -> None:
    signed = report(Product.TURIN, chip_id=chip_id(Product.TURIN)[:63] + b"\1")
    authentic = authenticated(signed, endorsement(Product.TURIN), roots(Product.TURIN))
    with pytest.raises(EvidenceRefused, match="hwID"):
        appraise(authentic, values(Product.TURIN), REPORT_DATA)


def test_a_zero_chip_id_is_nobody_even_if_a_certificate_says_so() -> None:
    certificate = endorsement(identity=bytes(64))
    authentic = authenticated(report(chip_id=bytes(64)), certificate, roots(Product.GENOA))
    with pytest.raises(EvidenceRefused, match="chip_id: expected an identity, not zero bytes"):
        appraise(authentic, values(Product.GENOA), REPORT_DATA)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()], ids=["P-256", "P-521"])
def test_a_leaf_key_on_another_curve_is_malformed(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    certificate = issue_endorsement(
        SigningKey.VCEK, key.public_key(), intermediate(), tcb=SIMULATED_TCB, identity=SIMULATED_CHIP_ID, **VALIDITY
    )
    with pytest.raises(EvidenceMalformed, match="key: expected P-384"):
        EndorsementKey.parse(certificate)


@pytest.mark.parametrize("junk", [b"", b"\x30\x00", b"not a certificate", bytes(4096)])
def test_endorsements_that_are_no_certificates_are_malformed(junk: bytes) -> None:
    signed = sign_report(report(), simulated_chip().key)
    for endorsements in ((junk,), (endorsement(), junk), (endorsement() + junk + b"\0",)):
        with pytest.raises(EvidenceMalformed):
            authenticate(signed, endorsements, roots(Product.GENOA), NOW)


def test_a_report_vouched_for_by_simulated_roots_is_refused_by_real_reference_values() -> None:
    """Even if somebody called the floors by hand with the wrong roots."""
    real = replace(values(Product.GENOA), tee=Tee.SEV_SNP)
    authentic = authenticated(report(), endorsement(), roots(Product.GENOA))
    with pytest.raises(EvidenceRefused, match="roots: expected sev-snp, found simulated"):
        appraise(authentic, real, REPORT_DATA)

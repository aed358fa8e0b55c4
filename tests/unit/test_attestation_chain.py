"""Chains to a pinned root: every link is checked, whatever the certificates propose."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from certificate_builder import AUTHORITY, NOT_AFTER, NOT_BEFORE, SIGNER, Party, issue, name, usage
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID
from synthetic_keys import rsa_key

from attestation.chain import P384_SHA384, RSA_SHA256, key_of, require_dates, require_root, verify_links
from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic

KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(4)]
ROOT = issue("root", KEYS[0])


@dataclass(frozen=True)
class Chain:
    """How to build one: what is given of each certificate is passed on to `issue`."""

    intermediate: dict[str, Any]
    leaf: dict[str, Any]
    root: Party = ROOT

    def build(self) -> list[x509.Certificate]:
        upper = issue("intermediate", KEYS[1], self.root, **self.intermediate)
        leaf = {"extensions": SIGNER, **self.leaf}
        lower = issue("leaf", leaf.pop("key", KEYS[2]), upper, **leaf)
        return [lower.certificate, upper.certificate, self.root.certificate]


GOOD = Chain({}, {})


def constraints(**values: Any) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(**values), True


def test_a_good_chain_is_accepted_between_its_dates() -> None:
    chain = GOOD.build()
    require_root(chain, ROOT.certificate)
    verify_links(chain, P384_SHA384)
    checks = Checklist(EvidenceNotAuthentic)
    for now in (NOT_BEFORE, NOT_AFTER):
        require_dates(checks, 4, chain, now)
    assert [check.number for check in checks.made()] == [4] * 6


@pytest.mark.parametrize("now", [NOT_BEFORE - timedelta(seconds=1), NOT_AFTER + timedelta(seconds=1)])
def test_each_certificate_must_be_valid(now: datetime) -> None:
    with pytest.raises(EvidenceNotAuthentic, match="^validity of CN=root"):
        require_dates(Checklist(EvidenceNotAuthentic), 4, GOOD.build(), now)


CERT_SIGN = (usage(key_cert_sign=True), True)
NAME_CONSTRAINTS = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.org")], excluded_subtrees=None)
OCSP_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])


@pytest.mark.parametrize(
    ("chain", "error"),
    [
        (
            Chain({"extensions": (CERT_SIGN,)}, {}),
            "extensions of CN=intermediate.*basicConstraints with CA, found none",
        ),
        (
            Chain({"extensions": ((x509.BasicConstraints(ca=True, path_length=None), False), CERT_SIGN)}, {}),
            "extensions of CN=intermediate.*critical basicConstraints",
        ),
        (
            Chain({"extensions": (constraints(ca=False, path_length=None), CERT_SIGN)}, {}),
            "extensions of CN=intermediate.*basicConstraints with CA, found another one",
        ),
        (Chain({"extensions": AUTHORITY[:1]}, {}), "extensions of CN=intermediate.*keyCertSign, found none"),
        (
            Chain({"extensions": (AUTHORITY[0], (usage(digital_signature=True), True))}, {}),
            "extensions of CN=intermediate.*keyCertSign, found another one",
        ),
        (
            Chain({"extensions": (*AUTHORITY, (NAME_CONSTRAINTS, True))}, {}),
            "extensions of CN=intermediate.*no critical one but",
        ),
        (Chain({}, {"extensions": (*SIGNER, (OCSP_ONLY, True))}), "extensions of CN=leaf.*no critical one but"),
        (Chain({}, {"extensions": AUTHORITY}), "extensions of CN=leaf.*expected no CA"),
        (Chain({}, {"extensions": SIGNER[:1]}), "extensions of CN=leaf.*digitalSignature, found none"),
        (
            Chain({}, {"extensions": (SIGNER[0], (usage(key_cert_sign=True), False))}),
            "extensions of CN=leaf.*digitalSignature, found another one",
        ),
        (Chain({"digest": SHA512()}, {}), "signature of CN=intermediate.*expected 1.2.840.10045.4.3.3"),
        (Chain({}, {"digest": SHA256()}), "signature of CN=leaf.*expected 1.2.840.10045.4.3.3"),
        (Chain({}, {"issuer": name("root")}), "signature of CN=leaf.*expected one by CN=intermediate"),
        (Chain({}, {"signing_key": KEYS[3]}), "signature of CN=leaf.*does not verify"),
        (Chain({"signing_key": KEYS[3]}, {}), "signature of CN=intermediate.*does not verify"),
        (Chain({}, {"key": ec.generate_private_key(ec.SECP256R1())}), "key of CN=leaf.*P-384, found another"),
        (Chain({}, {"key": rsa_key("leaf")}), "key of CN=leaf.*expected P-384"),
    ],
)
def test_a_bad_link_is_refused_by_name(chain: Chain, error: str) -> None:
    with pytest.raises(EvidenceNotAuthentic, match=error):
        verify_links(chain.build(), P384_SHA384)


def test_a_path_length_counts_the_authorities_below() -> None:
    for limit, good in ((0, False), (1, True), (5, True)):
        root = issue("root", KEYS[0], extensions=(constraints(ca=True, path_length=limit), AUTHORITY[1]))
        chain = replace(GOOD, root=root).build()
        if good:
            verify_links(chain, P384_SHA384)
        else:
            with pytest.raises(EvidenceNotAuthentic, match="pathLenConstraint of at least 1, found 0"):
                verify_links(chain, P384_SHA384)


def test_the_root_is_compared_byte_for_byte() -> None:
    """Another certificate over the same key with the same name is not the pinned one."""
    twin = issue("root", KEYS[0])
    chain = replace(GOOD, root=twin).build()
    verify_links(chain, P384_SHA384)
    with pytest.raises(EvidenceNotAuthentic, match="^root: expected the pinned CN=root"):
        require_root(chain, ROOT.certificate)
    with pytest.raises(EvidenceNotAuthentic, match="no certificate"):
        require_root([], ROOT.certificate)


def test_a_root_alone_signs_nothing() -> None:
    with pytest.raises(EvidenceNotAuthentic, match="expected no CA"):
        verify_links([ROOT.certificate], P384_SHA384)


def test_a_chain_in_another_order_is_refused() -> None:
    leaf, upper, root = GOOD.build()
    for order in ([upper, leaf, root], [leaf, root, upper], [leaf, root], [leaf, upper, upper, root]):
        with pytest.raises(EvidenceNotAuthentic):
            verify_links(order, P384_SHA384)


def test_an_rsa_chain_needs_keys_of_a_usual_size() -> None:
    root = issue("root", rsa_key("root"))
    leaf = issue("leaf", rsa_key("leaf"), root, extensions=((x509.BasicConstraints(ca=False, path_length=None), True),))
    verify_links([leaf.certificate, root.certificate], RSA_SHA256)
    for key in (rsa_key("short", bits=1024), rsa_key("odd", exponent=3), KEYS[0]):
        stranger = issue("leaf", key, root, extensions=SIGNER)
        with pytest.raises(EvidenceNotAuthentic, match="key of CN=leaf.*expected RSA of 2048 to 4096 bits"):
            verify_links([stranger.certificate, root.certificate], RSA_SHA256)
        with pytest.raises(EvidenceNotAuthentic):
            key_of(stranger.certificate, RSA_SHA256)

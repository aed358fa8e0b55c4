"""Tokens under keys of our own: what Google's and Microsoft's services would say, said by nobody.

Public tokens come without their issuer's key (Azure's) or in one form only (Google's). Claims are those of public
tokens and documentation; the keys and the root are ours, and `GOOGLE` trusts that root and is registered nowhere.
"""

import base64
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from certificate_builder import AUTHORITY, Party, issue
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from synthetic_keys import rsa_key

from attestation.evidence import Evidence
from attestation.tee import Tee
from attestation.token.confidential_space.family import ConfidentialSpaceFamily
from attestation.token.jwks import thumbprint
from attestation.token.jws import Jws, encode_base64url
from attestation.token.nonce import token_nonce

DATA = Path(__file__).parent / "vectors" / "data" / "token"
NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
REPORT_DATA = bytes(range(64))
KID = "test-key-1"
MAA_ISSUER = "https://strongroom-tests.weu.attest.azure.net"


def encoded(part: Mapping[str, Any] | bytes) -> bytes:
    return encode_base64url(part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode())


def signed(header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes, key: rsa.RSAPrivateKey) -> bytes:
    """A compact token; header or payload may be bytes that no service would write."""
    signing_input = encoded(header) + b"." + encoded(payload)
    signature = key.sign(signing_input, padding.PKCS1v15(), SHA256())
    return signing_input + b"." + encode_base64url(signature)


def jwk(key: rsa.RSAPrivateKey, **changes: Any) -> dict[str, Any]:
    """The public half as an issuer publishes it."""
    numbers = key.public_key().public_numbers()
    n, e = (value.to_bytes((value.bit_length() + 7) // 8) for value in (numbers.n, numbers.e))
    bare = {"n": encode_base64url(n).decode(), "e": encode_base64url(e).decode()}
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, **bare, **changes}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def service_key() -> rsa.RSAPrivateKey:
    """The key that publishes itself in `key_set(jwk(service_key()))`."""
    return rsa_key("service")


def pinned() -> tuple[bytes, ...]:
    return (thumbprint(service_key().public_key()),)


def lifetime(seconds: int) -> dict[str, int]:
    return {"iat": SECONDS, "nbf": SECONDS, "exp": SECONDS + seconds}


def changed(claims: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Claims with members replaced by path ("submods.gce.zone"), or taken away where the value is `...`."""
    result = deepcopy(dict(claims))
    for path, value in changes.items():
        *parents, name = path.split("/")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is ...:
            inner.pop(name, None)
        else:
            inner[name] = deepcopy(value)
    return result


# Google


@cache
def google_chain() -> tuple[Party, Party, Party]:
    """Leaf, intermediate, root: as Google's are, with a leaf that says nothing of its use."""
    root = issue("test root", rsa_key("google root"))
    intermediate = issue("test intermediate", rsa_key("google intermediate"), root, extensions=AUTHORITY)
    constraints = ((x509.BasicConstraints(ca=False, path_length=None), True),)
    leaf = issue("test leaf", rsa_key("google leaf"), intermediate, extensions=constraints)
    return leaf, intermediate, root


def google_root() -> x509.Certificate:
    return google_chain()[-1].certificate


GOOGLE = ConfidentialSpaceFamily(google_root)


def google_claims(**changes: Any) -> dict[str, Any]:
    """Oak's production claims, of now and committed to `REPORT_DATA`; `changes` by path with "/"."""
    public = json.loads((DATA / "project-oak-oak" / "claims" / "claims.json").read_text())
    return changed({**public, **lifetime(3600), "eat_nonce": token_nonce(REPORT_DATA)}, changes)


TDX = {
    "hwmodel": "GCP_INTEL_TDX",
    "attester_tcb": ["INTEL"],
    "tdx": {"gcp_attester_tcb_status": "UpToDate", "gcp_attester_tcb_date": "2026-03-13T00:00:00Z"},
}


def x5c(*parties: Party) -> list[str]:
    return [base64.b64encode(party.der).decode() for party in parties]


def pki_header(**changes: Any) -> dict[str, Any]:
    return changed({"alg": "RS256", "kid": KID, "typ": "JWT", "x5c": x5c(*google_chain())}, changes)


def pki_token(claims: Mapping[str, Any] | bytes | None = None, **header: Any) -> Evidence:
    """Under our root's chain."""
    report = signed(pki_header(**header), google_claims() if claims is None else claims, google_chain()[0].key)
    return Evidence(tee=Tee.CONFIDENTIAL_SPACE, report=report, endorsements=())


def oidc_token(claims: Mapping[str, Any] | bytes | None = None, **header: Any) -> Evidence:
    """Under a published key of ours, which comes along."""
    good = {"alg": "RS256", "kid": KID, "typ": "JWT"}
    report = signed(changed(good, header), google_claims() if claims is None else claims, service_key())
    return Evidence(tee=Tee.CONFIDENTIAL_SPACE, report=report, endorsements=(key_set(jwk(service_key())),))


# Microsoft


def maa_token(claims: Mapping[str, Any] | bytes, **header: Any) -> Evidence:
    """Under a published key of ours, which comes along."""
    good = {"alg": "RS256", "jku": f"{MAA_ISSUER}/certs", "kid": KID, "typ": "JWT"}
    report = signed(changed(good, header), claims, service_key())
    return Evidence(tee=Tee.AZURE_MAA, report=report, endorsements=(key_set(jwk(service_key())),))


def _public(path: str) -> dict[str, Any]:
    payload = dict(Jws.parse((DATA / path).read_bytes()).payload)
    return {**payload, **lifetime(8 * 3600), "iss": MAA_ISSUER}


def azure_vm(**changes: Any) -> dict[str, Any]:
    """A confidential VM's public claims, with a nonce of ours."""
    claims = _public("Azure-confidential-computing-cvm-guest-attestation/clientlib_token_0.jwt")
    nonce = base64.b64encode(token_nonce(REPORT_DATA).encode()).decode()
    return changed(claims, {"x-ms-runtime/client-payload/nonce": nonce, **changes})


def sev_snp_vm(**changes: Any) -> dict[str, Any]:
    """A confidential container group's public claims, with report data of ours."""
    claims = _public("Azure-Samples-microsoft-azure-attestation/maa_sevsnpvm_2025-04-08.jwt")
    return changed(claims, {"x-ms-sevsnpvm-reportdata": REPORT_DATA.hex(), **changes})


def tdx_vm(**changes: Any) -> dict[str, Any]:
    """A TDX guest, in the form of Microsoft's documented example."""
    zero = "00" * 48
    claims = {
        **lifetime(8 * 3600),
        "iss": MAA_ISSUER,
        "attester_tcb_status": "UpToDate",
        "dbgstat": "disabled",
        "eat_profile": "https://aka.ms/maa-eat-profile-tdxvm",
        "intuse": "generic",
        **dict.fromkeys(("tdx_mrconfigid", "tdx_mrowner", "tdx_mrownerconfig", "tdx_mrsignerseam"), zero),
        "tdx_mrseam": "2f" * 48,
        "tdx_mrtd": "5b" * 48,
        **{f"tdx_rtmr{index}": f"{index + 1:02x}" * 48 for index in range(4)},
        "tdx_report_data": REPORT_DATA.hex(),
        "tdx_seam_attributes": "00" * 8,
        "tdx_td_attributes": "0000001000000000",
        "tdx_td_attributes_debug": False,
        "tdx_xfam": "e718060000000000",
        "x-ms-attestation-type": "tdxvm",
        "x-ms-policy-hash": "B56nbp5slhw66peoRYkpdq1WykMkEworvdol08hnMXE",
        "x-ms-ver": "1.0",
    }
    return changed(claims, changes)


def sgx(**changes: Any) -> dict[str, Any]:
    """An SGX enclave, in the form of Microsoft's documented example."""
    claims = {
        **lifetime(8 * 3600),
        "iss": MAA_ISSUER,
        "x-ms-attestation-type": "sgx",
        "x-ms-policy-hash": "B56nbp5slhw66peoRYkpdq1WykMkEworvdol08hnMXE",
        "x-ms-sgx-is-debuggable": False,
        "x-ms-sgx-mrenclave": "90" * 32,
        "x-ms-sgx-mrsigner": "6b" * 32,
        "x-ms-sgx-product-id": 1,
        "x-ms-sgx-report-data": REPORT_DATA.hex(),
        "x-ms-sgx-svn": 3,
        "x-ms-ver": "1.0",
    }
    return changed(claims, changes)

"""`strongroom attest` on documents of Nitro's and tokens: from files as people have them to an exit code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from synthetic_keys import rsa_key
from synthetic_tokens import DATA, NOW, REPORT_DATA, google_claims, jwk, key_set, maa_token, oidc_token, sev_snp_vm

from strongroom.cli import cli

NITRO = DATA.parent / "nitro"
DSTACK = NITRO / "Dstack-TEE-dstack" / "dstack_attest_nitro_attestation.bin"
IN_CERTIFICATE = (
    NITRO / "evervault-attestation-doc-validation" / "non-debug-cert-containing-attestation-document-18-1-23.pem"
)
DEBUG = NITRO / "evervault-attestation-doc-validation" / "valid-attestation-doc-base64"
GOOGLE = DATA / "project-oak-oak" / "gcp_cs_tdx_2025-09-05.jwt"


def attest(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["attest", *map(str, arguments)])


def policy_for(folder: Path, evidence: Path, *endorsements: Path) -> Path:
    done = attest("reference", evidence, *(part for file in endorsements for part in ("--endorsement", file)))
    assert done.exit_code == 0, done.output
    policy = folder / "policy.toml"
    policy.write_text(done.output)
    return policy


@pytest.mark.parametrize(
    ("evidence", "time", "report_data"),
    [
        (DSTACK, "2025-12-25T16:04:19Z", None),
        (IN_CERTIFICATE, "2023-01-18T13:07:19Z", None),
        (GOOGLE, "2025-09-05T08:17:30Z", "75a91c8dbe289f190d5e70ab1cb70c93cc14d7243f0ef3ff5326a622ead220a6"),
    ],
    ids=["container", "certificate", "token"],
)
def test_from_file_to_verdict(tmp_path: Path, evidence: Path, time: str, report_data: str | None) -> None:
    policy = policy_for(tmp_path, evidence)
    options = ["--report-data", report_data] if report_data else []
    done = attest("verify", evidence, "--policy", policy, "--at", time, "--json", *options)
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["verdict"] == "accepted"
    assert verdict["claims"]["debug"] is False
    assert {"product", "measurements", "report_data", "tcb", "signer", "nonce"} <= verdict["claims"].keys()
    assert [check["passed"] for check in verdict["checks"]].count(False) == 0
    late = attest("verify", evidence, "--policy", policy, "--at", f"2026{time[4:]}")
    assert late.exit_code == 4, late.output
    other = attest("verify", evidence, "--policy", policy, "--at", time, "--report-data", "00ff")
    assert other.exit_code == 5, other.output


def test_debugging_has_no_policy() -> None:
    done = attest("reference", DEBUG)
    assert done.exit_code == 5
    assert "debug" in done.output


@pytest.mark.parametrize("good", [oidc_token(google_claims()), maa_token(sev_snp_vm())], ids=["google", "azure"])
def test_a_token_under_a_published_key_needs_the_key_set(tmp_path: Path, good: object) -> None:
    token, keys, strangers = tmp_path / "token.jwt", tmp_path / "keys.json", tmp_path / "other.json"
    token.write_bytes(good.report + b"\n")  # type: ignore[attr-defined]
    keys.write_bytes(good.endorsements[0])  # type: ignore[attr-defined]
    strangers.write_bytes(key_set(jwk(rsa_key("google leaf"))))
    policy = policy_for(tmp_path, token, keys)
    at = ["--policy", policy, "--at", NOW.isoformat(), "--report-data", REPORT_DATA.hex()]
    assert attest("verify", token, "--endorsement", keys, *at).exit_code == 0
    assert attest("verify", token, *at).exit_code == 6
    assert attest("reference", token).exit_code == 6
    assert attest("verify", token, "--endorsement", strangers, *at).exit_code == 4
    shown = attest("inspect", token)
    assert shown.exit_code == 0
    assert "not judged" in shown.output
    broken = tmp_path / "broken.jwt"
    broken.write_bytes(good.report[:-20])  # type: ignore[attr-defined]
    assert attest("verify", broken, "--endorsement", keys, *at).exit_code in (3, 4)

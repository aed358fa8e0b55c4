"""Agreements about Nitro, Confidential Space and Azure Attestation: what is written reads back."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from attestation_cases.azure_maa import good_cases as azure_cases
from attestation_cases.confidential_space import good_cases as google_cases
from attestation_cases.nitro import good_cases as nitro_cases
from synthetic_nitro import reference_values as nitro_values

from attestation.reference_values import ReferenceValues
from attestation.terms import Covers
from attestation.token.confidential_space.reference_values import Gpu
from protocol.agreement_tees import render_tee
from protocol.agreement_toml import AgreementError
from protocol.policy import read_policy


def values() -> Iterator[tuple[str, Any]]:
    for cases in (nitro_cases, google_cases, azure_cases):
        for case in cases():
            yield case.name, case.values
    yield (
        "nitro by name",
        nitro_values(module_ids=("i-0-enc0", 'with "quotes"'), pcr3="any", covers=Covers.FIRMWARE_ONLY),
    )
    google = next(iter(google_cases())).values
    yield (
        "google, more",
        replace(
            google,
            signing_keys=(bytes(32), bytes(31) + b"\1"),
            cmd_override=("a", "", 'b "c" \\ ü'),
            env_override=(("A B", "1"), ("C", "")),
            gpu=Gpu.ON,
            zones="any",
            service_accounts="any",
            image_references="any",
        ),
    )
    azure = {case.name: case.values for case in azure_cases()}
    yield "azure, any vm", replace(azure["azurevm"], vm_ids="any")
    yield "azure, any key", replace(azure["azurevm"], hardware=replace(azure["azurevm"].hardware, id_key_digests="any"))
    yield (
        "sgx, by signer",
        replace(azure["sgx"], hardware=replace(azure["sgx"].hardware, mr_enclaves="any"), covers=Covers.FIRMWARE_ONLY),
    )


ALL = list(values())
BY_NAME = dict(ALL)


@pytest.mark.parametrize(("name", "value"), ALL, ids=[name for name, _ in ALL])
@pytest.mark.parametrize("explained", [True, False])
def test_what_is_written_reads_back(name: str, value: ReferenceValues, explained: bool) -> None:
    text = render_tee(value, "appliance.tee", explained=explained)
    assert read_policy(text.encode(), "policy.toml") == (value,)
    comments = text.count("\n# ")
    assert comments == (text.count("\n") - 1 - comments if explained else 0)


@pytest.mark.parametrize("name", ["gcp_cs_tdx", "google, more", "azurevm", "sevsnpvm", "tdxvm", "sgx", "nitro by name"])
def test_every_line_is_asked_for(name: str) -> None:
    """Without any one of them the table is refused, and the error names it and says what to write."""
    lines = render_tee(BY_NAME[name], "tee").splitlines()
    for line in lines[2:]:
        key = line.partition(" = ")[0]
        rest = "\n".join(other for other in lines if other is not line)
        with pytest.raises(AgreementError) as refused:
            read_policy(rest.encode(), "policy.toml")
        assert f"{key.rpartition('.')[2]}: expected " in str(refused.value).replace("hardware ", "")


@pytest.mark.parametrize(
    ("name", "line", "instead", "error"),
    [
        ("nitro by name", 'pcr3 = "any"', "pcr3 = []", "pcr3: expected a list of 1 to 4096 items"),
        ("nitro by name", 'pcr3 = "any"', 'pcr3 = "all"', "pcr3: expected \"any\" or a list, found 'all'"),
        ("nitro by name", 'nonce = "absent"', 'nonce = "none"', 'nonce: expected one of "absent", "any"'),
        ("nitro by name", 'revocation = "short-lived"', 'revocation = "crl"', "revocation: expected \"short-lived\""),
        ("nitro by name", "maximum_age_seconds = 300", "maximum_age_seconds = 10801", "from 0 to 10800"),
        ("gcp_cs_tdx", 'signing_keys = "google-root"', 'signing_keys = "any"', 'expected "google-root" or a list'),
        ("gcp_cs_tdx", 'signing_keys = "google-root"', "signing_keys = []", "expected a list of 1 to 4096 items"),
        ("gcp_cs_tdx", 'hwmodels = ["GCP_INTEL_TDX"]', 'hwmodels = ["GCP_SHIELDED_VM"]', "hwmodels: expected each"),
        ("gcp_cs_tdx", 'hwmodels = ["GCP_INTEL_TDX"]', 'hwmodels = ["GCP_AMD_SEV"]', "tcb_statuses: expected no such"),
        ("gcp_cs_tdx", 'cmd_override = "none"', 'cmd_override = "any"', 'cmd_override: expected "none" or a list'),
        ("gcp_cs_tdx", 'env_override = "none"', "env_override = {}", 'env_override: expected "none" or a table'),
        ("gcp_cs_tdx", 'env_override = "none"', "env_override = { A = 1 }", 'env_override: expected "none" or a table'),
        ("azurevm", 'covers = "firmware-only"', 'covers = "code"', "covers: expected \"firmware-only\": only Azure's"),
        ("azurevm", 'hardware.type = "sevsnpvm"', 'hardware.type = "azurevm"', "hardware type: expected one of"),
        ("sgx", 'vm_ids = "none"', 'vm_ids = "any"', 'vm_ids: expected "any" or some for azurevm, "none" for others'),
        ("sgx", "hardware.product_ids = [1]", "hardware.product_ids = [65536]", "product_ids: expected each item"),
        ("sgx", "hardware.minimum_svn = 3", "hardware.svn = 3\nhardware.minimum_svn = 3", "svn: expected no such"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_in_words(name: str, line: str, instead: str, error: str) -> None:
    text = render_tee(BY_NAME[name], "tee")
    assert line in text
    with pytest.raises(AgreementError) as refused:
        read_policy(text.replace(line, instead).encode(), "policy.toml")
    assert error in str(refused.value)

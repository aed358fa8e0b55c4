"""The upper floor: does an authentic token say what we ask for? From an authentic token to a verdict.

Trusts that `authenticate` made its input, and the reference values. A debug image, a machine without secure boot and an
image that is not Confidential Space are refused always.

The checklist continues that of `authenticate`, by the numbers above each block:

 8. the signer: Google's root, or a pinned key, as the reference values say;
 9. swname, dbgstat, secboot: Confidential Space, not debuggable since boot, with secure boot;
10. the audience;
11. the token is not older than the maximum age;
12. hardware: Google's, an accepted model, and Intel's own word for it where it is TDX;
13. the TCB status of Intel TDX;
14. the Confidential Space image's version; 15. its support attributes; 16. memory monitoring;
17. the workload image's digest; 18. where it came from;
19. the operator's override of the command; 20. of the environment;
21. project; 22. zone; 23. service accounts; 24. GPU;
25. a nonce that is ours for the report data.

Source: Google, "Attestation token claims" and "Attestation assertions" (Confidential Space documentation).
"""

from typing import Final, Literal

from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic, EvidenceRefused
from attestation.terms import coverage_warnings
from attestation.token.confidential_space.authenticate import AuthenticToken
from attestation.token.confidential_space.claims import DEBUG_DISABLED, PRODUCT, claims_of
from attestation.token.confidential_space.reference_values import (
    ANY,
    GOOGLE_ROOT,
    ConfidentialSpaceReferenceValues,
    Gpu,
    HardwareModel,
)
from attestation.token.confidential_space.token import ConfidentialSpaceToken
from attestation.token.nonce import require_nonce
from attestation.token.published_key import require_pinned
from attestation.verdict import Verdict

GOOGLE_OEM_ID: Final = 11129
"""Google's Private Enterprise Number."""
INTEL: Final = ("INTEL",)
BY_SERVICE: Final = (
    "the root of trust is Google's attestation service: nobody else can tell that it verified the hardware"
)
NOT_SNP: Final = (
    "AMD SEV without SNP: the memory is encrypted, and its integrity is not protected from the machine's owner"
)


def appraise(authentic: AuthenticToken, values: ConfidentialSpaceReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic token with one set of reference values and what it must commit to, if given.

    Raises `EvidenceNotAuthentic` for another signer, `EvidenceRefused` naming the first field that differs.
    """
    token = authentic.token
    checks = Checklist(EvidenceRefused, authentic.checks)
    _check_signer(checks, authentic, values)

    # 9. what no reference value can allow
    for name, expected, found in (
        ("swname", "CONFIDENTIAL_SPACE", token.software_name),
        ("dbgstat", DEBUG_DISABLED, token.debug_status),
        ("secboot", True, token.secure_boot),
    ):
        checks.require(found == expected, 9, name, _shown(expected), _shown(found))

    # 10. for whom
    _check_among(checks, 10, "audiences", values.audiences, token.audience)

    # 11. fresh at the time given
    token.lifetime.require_age(checks, 11, values.maximum_age_seconds, authentic.now)

    _check_hardware(checks, token, values)
    _check_image(checks, token, values)
    _check_workload(checks, token, values)
    _check_place(checks, token, values)

    # 25. what the token commits to
    require_nonce(checks, 25, report_data, [nonce.encode("utf-8") for nonce in token.nonces])
    not_snp = token.hardware_model in (HardwareModel.GCP_AMD_SEV, HardwareModel.GCP_AMD_SEV_ES)
    return Verdict(
        tee=values.tee,
        product=PRODUCT,
        measurement=token.image_digest or b"",
        report_data=report_data,
        claims=claims_of(token),
        checks=checks.made(),
        warnings=(BY_SERVICE, *((NOT_SNP,) if not_snp else ()), *coverage_warnings(values.covers)),
        simulated=False,
    )


def _check_signer(checks: Checklist, authentic: AuthenticToken, values: ConfidentialSpaceReferenceValues) -> None:
    # 8. who may vouch
    pinned, key = values.signing_keys, authentic.signing_key
    if pinned != GOOGLE_ROOT and key is not None:
        require_pinned(checks, 8, key, pinned)
    elif pinned == GOOGLE_ROOT and key is None:
        checks.passed(8, "signing_keys", GOOGLE_ROOT, "a chain to it")
    else:
        expected = "a token with a chain to Google's root" if pinned == GOOGLE_ROOT else "a token under a pinned key"
        found = "one with a chain" if key is None else f"one under the key {key.thumbprint.hex()}"
        raise checks.failed(EvidenceNotAuthentic("signing_keys", expected=expected, found=found), 8)


def _check_hardware(checks: Checklist, token: ConfidentialSpaceToken, values: ConfidentialSpaceReferenceValues) -> None:
    # 12. the machine
    checks.require(token.oem_id == GOOGLE_OEM_ID, 12, "oemid", f"{GOOGLE_OEM_ID} (Google)", _shown(token.oem_id))
    _check_among(checks, 12, "hwmodels", values.hwmodels, token.hardware_model)
    if token.hardware_model != HardwareModel.GCP_INTEL_TDX:
        return
    checks.require(token.attester_tcb == INTEL, 12, "attester_tcb", "INTEL", _shown(token.attester_tcb))

    # 13. its firmware
    _check_among(checks, 13, "tcb_statuses", values.tcb_statuses, token.tcb_status)


def _check_image(checks: Checklist, token: ConfidentialSpaceToken, values: ConfidentialSpaceReferenceValues) -> None:
    # 14. how old Google's image is
    version = token.software_version
    checks.require(
        version is not None and version >= values.minimum_swversion,
        14,
        "minimum_swversion",
        f"at least {values.minimum_swversion}",
        _shown(version),
    )

    # 15. what Google calls it
    missing = [name for name in values.support_attributes if name not in token.support_attributes]
    checks.require(
        not missing, 15, "support_attributes", ", ".join(values.support_attributes), _shown(token.support_attributes)
    )

    # 16. who watches it
    monitored = token.memory_monitoring is not False
    checks.require(
        values.memory_monitoring or not monitored,
        16,
        "memory_monitoring",
        "any" if values.memory_monitoring else "False",
        _shown(token.memory_monitoring),
    )


def _check_workload(checks: Checklist, token: ConfidentialSpaceToken, values: ConfidentialSpaceReferenceValues) -> None:
    # 17. the code
    accepted = " or ".join(digest.hex() for digest in values.image_digests)
    found = "nothing" if token.image_digest is None else token.image_digest.hex()
    checks.require(token.image_digest in values.image_digests, 17, "image_digests", accepted, found)

    # 18. where it came from
    _check_among(checks, 18, "image_references", values.image_references, token.image_reference)

    # 19. and 20. what the operator made of it
    for number, name, expected, override in (
        (19, "cmd_override", values.cmd_override, token.command_override),
        (20, "env_override", values.env_override, token.environment_override),
    ):
        checks.require(override == expected, number, name, _shown(expected), _shown(override))


def _check_place(checks: Checklist, token: ConfidentialSpaceToken, values: ConfidentialSpaceReferenceValues) -> None:
    # 21. and 22. where it runs
    _check_among(checks, 21, "project_ids", values.project_ids, token.project_id)
    _check_among(checks, 22, "zones", values.zones, token.zone)

    # 23. as whom
    if values.service_accounts == ANY:
        checks.passed(23, "service_accounts", ANY, _shown(token.service_accounts))
    else:
        strangers = set(token.service_accounts) - set(values.service_accounts)
        checks.require(
            bool(token.service_accounts) and not strangers,
            23,
            "service_accounts",
            " or ".join(values.service_accounts),
            _shown(token.service_accounts),
        )

    # 24. with what
    accepted = (None,) if values.gpu is Gpu.ABSENT else (None, "ON")
    checks.require(token.gpu_mode in accepted, 24, "gpu", values.gpu, token.gpu_mode or "none")


def _check_among(
    checks: Checklist, number: int, name: str, accepted: tuple[str, ...] | Literal["any"], found: str | None
) -> None:
    if accepted == ANY:
        checks.passed(number, name, ANY, _shown(found))
    else:
        checks.require(found in accepted, number, name, " or ".join(accepted), _shown(found))


def _shown(value: object) -> str:
    if value is None or value == ():
        return "nothing"
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)[:400]
    return ascii(value)[1:-1][:400] if isinstance(value, str) else str(value)

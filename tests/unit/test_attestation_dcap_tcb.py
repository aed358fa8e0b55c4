"""How a platform stands by Intel's lists: levels, TDX module, quoting enclave, relaunch; as the library finds, too."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from synthetic_dcap import (
    CA,
    ENCLAVE,
    FAMILIES,
    NOW,
    ROOT,
    TD,
    TD_15,
    Platform,
    QuotingEnclave,
    component_level,
    evidence,
    level,
    lists,
    module,
)

from attestation import AttestationError, EvidenceNotAuthentic, EvidenceUncheckable
from attestation.dcap.enclave_report import EnclaveReport
from attestation.dcap.intel_json import COMPONENT_STATUSES, PLATFORM_STATUSES, TcbStatus
from attestation.dcap.tcb import TcbStanding
from attestation.dcap.td_report import TdReport

Change = Callable[[dict, dict], None]
NEVER = ("Revoked", "NotSupported")


def standing(
    body: TdReport | EnclaveReport, change: Change | None = None, platform: Platform | None = None
) -> TcbStanding:
    chain = None if platform is None else (platform.certificate(), CA, ROOT)
    quote = QuotingEnclave().quote(body, chain=chain)
    tee = quote.header.tee
    return FAMILIES[tee].authenticate(evidence(quote, lists(tee, change)), NOW).quote.standing


def svns(*numbers: int) -> bytes:
    return bytes(numbers).ljust(16, b"\0")


def worst(platform: str, *parts: str) -> str:
    """Intel's rule, in one line a case."""
    if "Revoked" in (platform, *parts):
        return "Revoked"
    if "OutOfDate" not in parts:
        return platform
    return "OutOfDateConfigurationNeeded" if "Configuration" in platform else "OutOfDate"


@pytest.mark.parametrize("platform", PLATFORM_STATUSES)
@pytest.mark.parametrize("part", COMPONENT_STATUSES)
def test_the_worst_of_platform_module_and_quoting_enclave_counts(platform: str, part: str) -> None:
    def outdated(kind: str) -> Change:
        def change(tcb_info: dict, identity: dict) -> None:
            tcb_info["tcbLevels"][0].update(tcbStatus=platform, advisoryIDs=["INTEL-SA-00001"])
            if kind == "module":
                tcb_info["tdxModuleIdentities"][0]["tcbLevels"][0].update(tcbStatus=part)
            else:
                identity["tcbLevels"][0].update(tcbStatus=part, advisoryIDs=["INTEL-SA-00003", "INTEL-SA-00001"])

        return change

    expected = worst(platform, part)
    assert standing(TD, outdated("module")).status == expected
    found = standing(TD, outdated("quoting enclave"))
    assert found.status == expected
    assert found.advisory_ids == ("INTEL-SA-00001", "INTEL-SA-00003")
    assert standing(ENCLAVE, outdated("quoting enclave")).status == expected
    # The newest module itself being outdated, launching again would not help.
    assert standing(replace(TD_15, tee_tcb_svn2=svns(9, 1, 9)), outdated("module")).status == expected


@pytest.mark.parametrize("index", range(16))
def test_each_sgx_component_counts(index: int) -> None:
    components = Platform().components
    lower = tuple(max(0, svn - (place == index)) for place, svn in enumerate(components))
    higher = tuple(svn + (place == index) for place, svn in enumerate(components))
    needs_more = lambda tcb_info, _: tcb_info["tcbLevels"][0].update(level(sgx=higher, tdx=None))  # noqa: E731
    assert standing(ENCLAVE, needs_more).status == "OutOfDate"
    assert standing(ENCLAVE, platform=Platform(components=higher)).status == "UpToDate"
    if components[index]:
        assert standing(ENCLAVE, platform=Platform(components=lower)).status == "OutOfDate"


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("index", range(16))
def test_each_tdx_component_counts_but_a_listed_modules_own(version: int, index: int) -> None:
    wanted = (5, 0, 3, *[0] * 13)
    higher = tuple(svn + (place == index) for place, svn in enumerate(wanted))
    body = replace(TD, tee_tcb_svn=svns(6 if version else 5, version, 3))
    raised = lambda tcb_info, _: tcb_info["tcbLevels"][0].update(level(tdx=higher))  # noqa: E731
    expected = "UpToDate" if version and index < 2 else "OutOfDate"
    assert standing(body, raised).status == expected


def test_the_pce_counts_and_nothing_below_the_last_level_is_known() -> None:
    assert standing(ENCLAVE, platform=Platform(pce_svn=12)).status == "OutOfDate"
    found = standing(ENCLAVE, platform=Platform(pce_svn=4))
    assert (found.status, found.platform, found.date) == ("NotSupported", "NotSupported", None)
    assert standing(TD, platform=Platform(pce_svn=4)).status == "NotSupported"


def test_levels_are_compared_from_the_highest_in_whatever_order_they_come() -> None:
    def turned(tcb_info: dict, identity: dict) -> None:
        tcb_info["tcbLevels"].reverse()

    assert standing(TD, turned).status == "UpToDate"
    assert standing(ENCLAVE, turned).status == "UpToDate"


def test_a_level_has_sixteen_components_of_a_byte_each() -> None:
    for key, value in (
        ("sgxtcbcomponents", [{"svn": 1}] * 15),
        ("sgxtcbcomponents", [{"svn": 1}] * 17),
        ("tdxtcbcomponents", []),
        ("sgxtcbcomponents", [{"svn": 256}] * 16),
        ("sgxtcbcomponents", [{"svn": -1}] * 16),
        ("sgxtcbcomponents", [{"svn": True}] * 16),
        ("pcesvn", 65536),
    ):
        with pytest.raises(AttestationError, match=f"tcbLevels.*{key}"):
            standing(TD, lambda tcb_info, _, k=key, v=value: tcb_info["tcbLevels"][0]["tcb"].update({k: v}))  # type: ignore[misc]


def test_a_quoting_enclave_below_every_level_is_not_supported() -> None:
    found = standing(TD, lambda _, identity: identity.update(tcbLevels=[component_level(7)]))
    assert (found.status, found.quoting_enclave) == ("NotSupported", "NotSupported")
    assert standing(TD, lambda _, identity: identity.update(tcbLevels=[])).status == "NotSupported"


def test_a_tdx_module_below_every_level_is_not_supported() -> None:
    found = standing(replace(TD, tee_tcb_svn=svns(3, 1, 3)))
    assert (found.status, found.module) == ("NotSupported", "NotSupported")
    outdated = standing(replace(TD, tee_tcb_svn=svns(4, 1, 3)))
    assert (outdated.status, outdated.advisory_ids) == ("OutOfDate", ("INTEL-SA-01036",))


def test_a_revoked_level_counts_even_where_the_tdx_part_is_lower() -> None:
    def change(tcb_info: dict, identity: dict) -> None:
        tcb_info["tcbLevels"].insert(0, level("Revoked", tdx=(5, 0, 9, *[0] * 13)))

    assert standing(TD, change).status == "Revoked"


RELAUNCH = [
    ((6, 1, 3), "TDRelaunchAdvised"),
    ((3, 3, 3), "TDRelaunchAdvised"),
    ((6, 0, 3), "TDRelaunchAdvised"),
    ((5, 1, 3), "OutOfDate"),
    ((6, 1, 2), "OutOfDate"),
    ((4, 1, 3), "OutOfDate"),
    ((2, 3, 3), "NotSupported"),
]


@pytest.mark.parametrize(("now", "expected"), RELAUNCH)
def test_relaunch_is_advised_where_only_the_module_at_launch_was_outdated(now: tuple[int, ...], expected: str) -> None:
    body = replace(TD_15, tee_tcb_svn=svns(4, 1, 3), tee_tcb_svn2=svns(*now))
    assert standing(body).status == expected
    configuration = lambda tcb_info, _: tcb_info["tcbLevels"][0].update(tcbStatus="ConfigurationNeeded")  # noqa: E731
    if expected not in NEVER:
        assert standing(body, configuration).status == expected + "ConfigurationNeeded"
    outdated = lambda _, identity: identity["tcbLevels"][0].update(tcbStatus="OutOfDate")  # noqa: E731
    assert standing(body, outdated).status == (expected if expected in NEVER else "OutOfDate")


def test_a_module_that_nobody_lists_runs_nothing() -> None:
    with pytest.raises(EvidenceNotAuthentic, match="tdx_module: expected a listed version, found version 9"):
        standing(replace(TD_15, tee_tcb_svn2=svns(9, 9, 9)))


def test_an_unknown_status_is_malformed() -> None:
    for name in ("TDRelaunchAdvised", "uptodate", "", "Fine", "NotSupported"):
        with pytest.raises(AttestationError, match="tcbStatus"):
            standing(TD, lambda tcb_info, _, n=name: tcb_info["tcbLevels"][0].update(tcbStatus=n))  # type: ignore[misc]
    with pytest.raises(AttestationError, match="tcbStatus"):
        standing(TD, lambda _, identity: identity["tcbLevels"][0].update(tcbStatus="SWHardeningNeeded"))


@pytest.mark.parametrize("seed", range(4))
def test_two_verifiers_find_the_same_on_platforms_and_lists_at_random(seed: int) -> None:
    """Ours and the library's. Where they differ, the evidence is refused, and they do in one known place only.

    There the library advises a relaunch where the current TDX module is good, Intel's rule where it is the newest.
    """
    rng, agreed, refused = random.Random(seed), 0, []
    for _ in range(60):
        body = rng.choice((TD_15, TD_15, TD, ENCLAVE))
        if isinstance(body, TdReport):
            body = replace(body, tee_tcb_svn=_module_svns(rng))
        if isinstance(body, TdReport) and body.tee_tcb_svn2 is not None:
            body = replace(body, tee_tcb_svn2=_module_svns(rng))
        platform = Platform(components=(4, 3, 2, 2, 4, 1, 0, 5, *[0] * 8), pce_svn=11)
        try:
            found = standing(body, lambda *documents: _shuffle(rng, *documents), platform)
        except AttestationError as error:
            refused.append(error)
        else:
            agreed += found.status not in NEVER
    assert agreed >= 12
    assert all(isinstance(error, EvidenceUncheckable) and "Relaunch" in error.found for error in refused)


def _module_svns(rng: random.Random) -> bytes:
    return svns(rng.randrange(6), rng.randrange(4), rng.randrange(4))


def _shuffle(rng: random.Random, tcb_info: dict, identity: dict) -> None:
    def components() -> tuple[int, ...]:
        return (3 + rng.randrange(2), 3, 2, 2, 4, 1, 0, 4 + rng.randrange(2), *[0] * 8)

    def tdx() -> tuple[int, ...] | None:
        if tcb_info["id"] == "SGX":
            return None
        return (rng.randrange(5), rng.choice((0, 0, 0, 0, 1)), rng.randrange(4), *[0] * 13)

    def newest_first(limit: int, statuses: tuple[TcbStatus, ...]) -> list[dict]:
        numbers = sorted(rng.sample(range(limit), rng.randrange(1, 4)), reverse=True)
        return [component_level(n, rng.choice(statuses), (f"INTEL-SA-{rng.randrange(9):05}",)) for n in numbers]

    tcb_info["tcbLevels"] = [
        level(
            rng.choice(PLATFORM_STATUSES[: rng.choice((1, 4, 6, 7))]), components(), rng.choice((5, 10, 11, 12)), tdx()
        )
        for _ in range(rng.randrange(1, 6))
    ]
    if tcb_info["id"] == "TDX":
        tcb_info["tdxModuleIdentities"] = [module(v, *newest_first(6, COMPONENT_STATUSES)) for v in (1, 2, 3)]
    identity["tcbLevels"] = newest_first(8, COMPONENT_STATUSES[:2])

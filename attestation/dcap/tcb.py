"""How a platform stands by Intel's lists: from security versions to one status and the advisories that apply.

The rules are those of Intel's SGX-TDX-DCAP-QuoteVerificationLibrary (checks 4.1.2.4.15 and 4.1.2.4.17), in its order:
platform level, TDX module, relaunch, quoting enclave. Called with unverified lists by `reference`, and with verified
ones by `authenticate`.
"""

from dataclasses import dataclass
from datetime import datetime

from attestation.dcap.intel_json import TcbStatus
from attestation.dcap.pck import PckIdentity
from attestation.dcap.qe_identity import QeIdentity
from attestation.dcap.quote import Quote
from attestation.dcap.tcb_info import ComponentLevel, TcbInfo, TcbLevel
from attestation.dcap.td_report import TdReport
from attestation.errors import EvidenceNotAuthentic

_CONFIGURATION = (
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
)
_OUT_OF_DATE = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)
_OUTDATED = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
"""What a status becomes beside an outdated module or quoting enclave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbStanding:
    """One status for all of it, its parts, and the advisories of all levels it came from, sorted.

    `module` is None for SGX, and where the TDX module has no levels of its own. `date` is the platform level's: all
    advisories until then are dealt with or named.
    """

    status: TcbStatus
    platform: TcbStatus
    module: TcbStatus | None
    quoting_enclave: TcbStatus
    date: datetime | None
    advisory_ids: tuple[str, ...]


def standing_of(quote: Quote, pck: PckIdentity, tcb_info: TcbInfo, identity: QeIdentity) -> TcbStanding:
    """Compare a quote's platform, TDX module and quoting enclave with Intel's lists.

    Raises `EvidenceNotAuthentic` for a TDX module that Intel doesn't list.
    """
    td = quote.body if isinstance(quote.body, TdReport) else None
    reached = [level for level in tcb_info.levels if _reaches_platform(pck, level)]
    level = next((level for level in reached if td is None or _reaches_module(td.tee_tcb_svn, level)), None)
    qe_level = _component_level(quote.qe_report.isv_svn, identity.levels)
    qe_status = TcbStatus.NOT_SUPPORTED if qe_level is None else qe_level.status
    module_level, module_status = None, None
    if level is not None and td is not None and td.tee_tcb_svn[1]:
        module_level = _module_level(td.tee_tcb_svn, tcb_info)
        module_status = TcbStatus.NOT_SUPPORTED if module_level is None else module_level.status
    status = TcbStatus.NOT_SUPPORTED
    if level is not None:
        # Stricter than Intel's: a revoked level that the platform reaches counts, even if its TDX part is lower.
        revoked = TcbStatus.REVOKED if reached[0].status is TcbStatus.REVOKED else None
        status = _converge(_converge(level.status, module_status), revoked)
        if td is not None and td.tee_tcb_svn2 is not None and status in _OUT_OF_DATE:
            states = (reached[0].status, status, module_status, qe_status)
            status = _relaunch(td.tee_tcb_svn2, tcb_info, states)
        status = _converge(status, qe_status)
    sources = (level, module_level, qe_level)
    return TcbStanding(
        status=status,
        platform=TcbStatus.NOT_SUPPORTED if level is None else level.status,
        module=module_status,
        quoting_enclave=qe_status,
        date=None if level is None else level.date,
        advisory_ids=tuple(sorted({name for source in sources if source for name in source.advisory_ids})),
    )


def require_listed_module(td: TdReport, tcb_info: TcbInfo) -> None:
    """Raise `EvidenceNotAuthentic` unless the TDX module is of a version that Intel lists, and signed by its signer."""
    version = td.tee_tcb_svn[1]
    module = tcb_info.module(version)
    if module is None:
        raise EvidenceNotAuthentic("tdx_module", expected="a listed version", found=f"version {version}")
    if td.mr_signer_seam != module.mr_signer:
        raise EvidenceNotAuthentic("mr_signer_seam", expected=module.mr_signer.hex(), found=td.mr_signer_seam.hex())
    if any(td.seam_attributes) or td.seam_attributes != module.attributes:
        expected = f"zero bits, as in {module.attributes.hex()}"
        raise EvidenceNotAuthentic("seam_attributes", expected=expected, found=td.seam_attributes.hex())


def _reaches_platform(pck: PckIdentity, level: TcbLevel) -> bool:
    return pck.pce_svn >= level.pce_svn and _reaches(pck.components, level.sgx)


def _reaches_module(tee_tcb_svn: bytes, level: TcbLevel) -> bool:
    # From module version 1 on, the first two are compared with the module's own levels instead.
    first = 2 if tee_tcb_svn[1] else 0
    return _reaches(tuple(tee_tcb_svn[first:]), level.tdx[first:])


def _reaches(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(a >= b for a, b in zip(found, wanted, strict=True))


def _component_level(isv_svn: int, levels: tuple[ComponentLevel, ...]) -> ComponentLevel | None:
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def _module_level(tee_tcb_svn: bytes, tcb_info: TcbInfo) -> ComponentLevel | None:
    module = tcb_info.module(tee_tcb_svn[1])
    if module is None:
        raise EvidenceNotAuthentic("tdx_module", expected="a listed version", found=f"version {tee_tcb_svn[1]}")
    return _component_level(tee_tcb_svn[0], module.levels)


def _converge(status: TcbStatus, part: TcbStatus | None) -> TcbStatus:
    if part in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED):
        return part
    return _OUTDATED.get(status, status) if part is TcbStatus.OUT_OF_DATE else status


def _relaunch(
    tee_tcb_svn2: bytes, tcb_info: TcbInfo, states: tuple[TcbStatus, TcbStatus, TcbStatus | None, TcbStatus]
) -> TcbStatus:
    """Whether launching the TD again would do: only the module was outdated at its launch, and no longer is."""
    sgx, status, module, quoting_enclave = states
    if (
        quoting_enclave is not TcbStatus.UP_TO_DATE
        or module is not TcbStatus.OUT_OF_DATE
        or sgx not in (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED, *_CONFIGURATION[:2])
    ):
        return status
    latest, current = tcb_info.levels[0], tcb_info.module(tee_tcb_svn2[1])
    if current is None:
        raise EvidenceNotAuthentic("tdx_module", expected="a listed version", found=f"version {tee_tcb_svn2[1]} now")
    if current.version is not None and not current.levels:
        return TcbStatus.NOT_SUPPORTED
    newest = current.levels[0].isv_svn if current.levels else latest.tdx[0]
    if tee_tcb_svn2[0] < newest or tee_tcb_svn2[2] < latest.tdx[2]:
        return status
    configured = sgx not in _CONFIGURATION and status not in _CONFIGURATION
    return TcbStatus.TD_RELAUNCH_ADVISED if configured else TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED

"""How a platform stands by Intel's lists: from security versions to one status and the advisories that apply.

The rules are those of Intel's SGX-TDX-DCAP-QuoteVerificationLibrary (checks 4.1.2.4.15 and 4.1.2.4.17), in its order:
platform level, TDX module, relaunch, quoting enclave. Called with unverified lists by `reference`, and with verified
ones by `authenticate`.
"""

from dataclasses import dataclass
from datetime import datetime

from attestation.dcap.intel_json import NEVER_ACCEPTED, TcbStatus
from attestation.dcap.pck import PckIdentity
from attestation.dcap.qe_identity import QeIdentity
from attestation.dcap.quote import Quote
from attestation.dcap.tcb_info import ComponentLevel, TcbInfo, TcbLevel, TdxModule
from attestation.dcap.td_report import TdReport
from attestation.errors import EvidenceNotAuthentic, EvidenceWithdrawn

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """The levels that a platform is at, with one set of TDX versions if it has them. None where it is at none."""

    level: TcbLevel | None
    module: ComponentLevel | None
    module_status: TcbStatus | None
    status: TcbStatus


def standing_of(quote: Quote, pck: PckIdentity, tcb_info: TcbInfo, identity: QeIdentity) -> TcbStanding:
    """Compare a quote's platform, TDX module and quoting enclave with Intel's lists.

    Raises `EvidenceNotAuthentic` for a TDX module that Intel doesn't list.
    """
    td = quote.body if isinstance(quote.body, TdReport) else None
    platform = [level for level in tcb_info.levels if _reaches_platform(pck, level)]
    reached = _reached(platform, tcb_info, None if td is None else td.tee_tcb_svn)
    qe_level = next((level for level in identity.levels if quote.qe_report.isv_svn >= level.isv_svn), None)
    qe_status = TcbStatus.NOT_SUPPORTED if qe_level is None else qe_level.status
    status = reached.status
    if td is not None and td.tee_tcb_svn2 is not None:
        now = _reached(platform, tcb_info, td.tee_tcb_svn2)
        if now.status in NEVER_ACCEPTED:
            # Stricter than Intel's, which asks for the versions now only where those at launch are outdated.
            status = _worse(status, now.status)
        elif qe_status is TcbStatus.UP_TO_DATE and _newest(td.tee_tcb_svn2, tcb_info, now):
            status = _relaunch(reached, platform[0].status)
    sources = (reached.level, reached.module, qe_level)
    return TcbStanding(
        status=_converge(status, qe_status),
        platform=TcbStatus.NOT_SUPPORTED if reached.level is None else reached.level.status,
        module=reached.module_status,
        quoting_enclave=qe_status,
        date=None if reached.level is None else reached.level.date,
        advisory_ids=tuple(sorted({name for source in sources if source for name in source.advisory_ids})),
    )


def require_listed_module(td: TdReport, tcb_info: TcbInfo) -> None:
    """Raise `EvidenceNotAuthentic` unless the TDX module is of a version that Intel lists, and signed by its signer."""
    module = _listed_module(td.tee_tcb_svn, tcb_info)
    if td.mr_signer_seam != module.mr_signer:
        raise EvidenceNotAuthentic("mr_signer_seam", expected=module.mr_signer.hex(), found=td.mr_signer_seam.hex())
    if any(td.seam_attributes) or td.seam_attributes != module.attributes:
        expected = f"zero bits, as in {module.attributes.hex()}"
        raise EvidenceNotAuthentic("seam_attributes", expected=expected, found=td.seam_attributes.hex())


def _reached(platform: list[TcbLevel], tcb_info: TcbInfo, tee_tcb_svn: bytes | None) -> _Reached:
    """Of the levels that the platform reaches, the first that the TDX module reaches as well."""
    level = next((level for level in platform if tee_tcb_svn is None or _reaches_module(tee_tcb_svn, level)), None)
    module, module_status = None, None
    if tee_tcb_svn is not None and tee_tcb_svn[1]:
        listed = _listed_module(tee_tcb_svn, tcb_info)
        module = next((item for item in listed.levels if tee_tcb_svn[0] >= item.isv_svn), None)
        module_status = TcbStatus.NOT_SUPPORTED if module is None else module.status
    status = TcbStatus.NOT_SUPPORTED
    if level is not None:
        status = _converge(level.status, module_status)
        if platform[0].status is TcbStatus.REVOKED:
            # Stricter than Intel's: a revoked level that the platform reaches counts, even if its TDX part is lower.
            status = TcbStatus.REVOKED
    return _Reached(level=level, module=module, module_status=module_status, status=status)


def _listed_module(tee_tcb_svn: bytes, tcb_info: TcbInfo) -> TdxModule:
    module = tcb_info.module(tee_tcb_svn[1])
    if module is None:
        raise EvidenceWithdrawn("tdx_module", expected="a listed version", found=f"version {tee_tcb_svn[1]}")
    return module


def _reaches_platform(pck: PckIdentity, level: TcbLevel) -> bool:
    return pck.pce_svn >= level.pce_svn and _reaches(pck.components, level.sgx)


def _reaches_module(tee_tcb_svn: bytes, level: TcbLevel) -> bool:
    # From module version 1 on, the first two are compared with the module's own levels instead.
    first = 2 if tee_tcb_svn[1] else 0
    return _reaches(tuple(tee_tcb_svn[first:]), level.tdx[first:])


def _reaches(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(a >= b for a, b in zip(found, wanted, strict=True))


def _converge(status: TcbStatus, part: TcbStatus | None) -> TcbStatus:
    if part in NEVER_ACCEPTED:
        return _worse(status, part)
    return _OUTDATED.get(status, status) if part is TcbStatus.OUT_OF_DATE else status


def _worse(status: TcbStatus, other: TcbStatus) -> TcbStatus:
    return TcbStatus.REVOKED if TcbStatus.REVOKED in (status, other) else other


def _relaunch(reached: _Reached, platform: TcbStatus) -> TcbStatus:
    """What becomes of a TD's standing at launch when the newest TDX module runs now: only that had been outdated."""
    outdated = reached.status in _OUTDATED.values() and reached.module_status is TcbStatus.OUT_OF_DATE
    if not outdated or platform not in _OUTDATED:
        return reached.status
    if TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED in (reached.status, _OUTDATED[platform]):
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def _newest(tee_tcb_svn2: bytes, tcb_info: TcbInfo, now: _Reached) -> bool:
    """Whether the newest TDX module runs now, and nothing is outdated with it."""
    latest, current = tcb_info.levels[0], _listed_module(tee_tcb_svn2, tcb_info)
    newest = current.levels[0].isv_svn if current.levels else latest.tdx[0]
    return now.status in _OUTDATED and tee_tcb_svn2[0] >= newest and tee_tcb_svn2[2] >= latest.tdx[2]

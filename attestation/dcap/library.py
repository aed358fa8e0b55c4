"""The library `dcap-qvl`, behind one function: a second opinion on all of it, by code that shares nothing with ours.

Offline: what it would fetch by itself is never asked of it. It returns statuses such as "OutOfDate" as a string and
accepts bytes behind the quote: both are the caller's to judge. Source: dcap-qvl 0.7.0, `verify_with_root_ca`.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dcap_qvl

from attestation.dcap.collateral import Signed
from attestation.dcap.qe_identity import QeIdentity
from attestation.dcap.tcb_info import TcbInfo

LEFT_TO_THE_APPRAISAL: Final = frozenset(
    {
        "Debug mode is enabled",
        "TD profiling is enabled",
        "TD migration is enabled",
        "SERVTD_EXT is enabled",
        "SEPT_VE_DISABLE is not enabled",
        "Reserved bits in TD attributes are set",
        "Invalid MR service TD",
    }
)
"""The library's objections that are a matter of policy. It raises them last of all, after it has verified the rest."""
_PREFIX = "Verification failed: "


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryInput:
    """All that it needs, as it wants it: PEM chains, DER lists, Intel's JSON as signed, the trusted root in DER."""

    quote: bytes
    pck_chain: str
    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info: Signed[TcbInfo]
    tcb_info_chain: str
    qe_identity: Signed[QeIdentity]
    qe_identity_chain: str
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What it said: a status with its advisories, sorted, or an objection, in its words."""

    status: str | None
    advisory_ids: tuple[str, ...]
    objection: str | None


def opinion_on(given: LibraryInput, now: datetime) -> Opinion:
    """Let the library verify a quote with its collateral at the aware time `now`; never raises."""
    try:
        report = dcap_qvl.verify_with_root_ca(given.quote, _collateral(given), given.root, int(now.timestamp()))
    except ValueError as error:
        return Opinion(status=None, advisory_ids=(), objection=str(error).removeprefix(_PREFIX))
    except BaseException as error:  # a panic in Rust is no Exception
        if not _is_panic(error):
            raise
        return Opinion(status=None, advisory_ids=(), objection="it panicked")
    return Opinion(status=report.status, advisory_ids=tuple(sorted(set(report.advisory_ids))), objection=None)


def _collateral(given: LibraryInput) -> dcap_qvl.QuoteCollateralV3:
    # As JSON, because its constructor takes no PCK chain: only so does it read the one that we verified.
    return dcap_qvl.QuoteCollateralV3.from_json(
        json.dumps(
            {
                "pck_crl_issuer_chain": given.pck_crl_issuer_chain,
                "root_ca_crl": given.root_ca_crl.hex(),
                "pck_crl": given.pck_crl.hex(),
                "tcb_info_issuer_chain": given.tcb_info_chain,
                "tcb_info": given.tcb_info.data.decode("utf-8"),
                "tcb_info_signature": given.tcb_info.signature.hex(),
                "qe_identity_issuer_chain": given.qe_identity_chain,
                "qe_identity": given.qe_identity.data.decode("utf-8"),
                "qe_identity_signature": given.qe_identity.signature.hex(),
                "pck_certificate_chain": given.pck_chain,
            }
        )
    )


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"

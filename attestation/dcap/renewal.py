"""The same quote, with Intel's collateral of another day in place of the one that it brought.

Trusts nothing: what is chosen here, by what it says of itself, is still to be verified (`authenticate`).
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import subject
from attestation.dcap.certificates import Role, role_of
from attestation.dcap.chain import PckChain, choose_pck_chain
from attestation.dcap.collateral import Collateral, Signed
from attestation.dcap.qe_identity import EnclaveId, QeIdentity
from attestation.dcap.quote import Quote
from attestation.dcap.roots import Root
from attestation.dcap.tcb_info import TcbInfo
from attestation.errors import EvidenceMalformed, EvidenceUncheckable
from attestation.evidence import Evidence
from attestation.tee import Tee

_IDENTITIES = {Tee.SGX: EnclaveId.QE, Tee.TDX: EnclaveId.TD_QE}


def renewed(evidence: Evidence, quote: Quote, endorsements: Sequence[bytes], root: Root, now: datetime) -> Evidence:
    """As `attestation.family.Family` says. The platform's own certificate and its authority's stay."""
    chain = choose_pck_chain(quote, Collateral.gather(evidence.endorsements), root)
    gathered = [found for item in dict.fromkeys(endorsements) if (found := _gathered(item)) is not None]
    tcb_info, identity = _documents(gathered, quote.header.tee, chain, now)
    lists = [_list_of(authority, gathered, now) for authority in (root.certificate, chain.authority)]
    return Evidence(
        tee=evidence.tee,
        report=evidence.report,
        endorsements=(
            _written("tcbInfo", tcb_info),
            _written("enclaveIdentity", identity),
            *(item.public_bytes(Encoding.DER) for item in lists),
            *(item.public_bytes(Encoding.DER) for item in (*_signers(gathered, now), chain.leaf, chain.authority)),
        ),
    )


def _gathered(item: bytes) -> Collateral | None:
    """What is in one file, each apart, as several may hold the same kind of thing; None for another vendor's."""
    try:
        return Collateral.gather((item,))
    except EvidenceMalformed:
        return None


def _documents(
    gathered: list[Collateral], tee: Tee, chain: PckChain, now: datetime
) -> tuple[Signed[TcbInfo], Signed[QeIdentity]]:
    """Of this platform and of one evaluation: the newest pair."""
    infos = [
        item.tcb_info
        for item in gathered
        if item.tcb_info is not None
        and (item.tcb_info.content.tee, item.tcb_info.content.fmspc) == (tee, chain.identity.fmspc)
    ]
    identities = [
        item.qe_identity
        for item in gathered
        if item.qe_identity is not None and item.qe_identity.content.id is _IDENTITIES[tee]
    ]
    if not infos:
        expected = f"{tee.upper()} TCB information of FMSPC {chain.identity.fmspc.hex()}"
        raise EvidenceUncheckable("tcb_info", expected=expected, found="none")
    if not identities:
        raise EvidenceUncheckable("qe_identity", expected=_IDENTITIES[tee], found="none")
    pairs = [(info, identity) for info in infos for identity in identities]

    def order(pair: tuple[Signed[TcbInfo], Signed[QeIdentity]]) -> tuple[bool, bool, int, datetime, datetime]:
        info, identity = pair[0].content, pair[1].content
        number = info.tcb_evaluation_data_number
        current = all(item.issue_date <= now <= item.next_update for item in (info, identity))
        return number == identity.tcb_evaluation_data_number, current, number, info.issue_date, identity.issue_date

    return max(pairs, key=order)


def _list_of(authority: x509.Certificate, gathered: list[Collateral], now: datetime) -> x509.CertificateRevocationList:
    lists = [item for found in gathered for item in found.revocation_lists if item.issuer == authority.subject]
    if not lists:
        raise EvidenceUncheckable("revocation_lists", expected=f"one of {subject(authority)}", found="none")

    def order(item: x509.CertificateRevocationList) -> tuple[bool, datetime]:
        start, end = item.last_update_utc, item.next_update_utc
        return end is not None and start <= now <= end, start

    return max(lists, key=order)


def _signers(gathered: list[Collateral], now: datetime) -> list[x509.Certificate]:
    """The newest two over keys that sign TCB information: while Intel changes it, either may have."""
    signers = {item: None for found in gathered for item in found.certificates if role_of(item) is Role.TCB_SIGNING}
    if not signers:
        raise EvidenceUncheckable("certificates", expected=f"that of {Role.TCB_SIGNING}", found="none")
    current = [item for item in signers if item.not_valid_before_utc <= now <= item.not_valid_after_utc]
    return sorted(current or signers, key=lambda item: item.not_valid_before_utc)[-2:]


def _written(kind: str, document: Signed[TcbInfo] | Signed[QeIdentity]) -> bytes:
    """In the form in which Intel hands it out, the signed bytes as they are."""
    return b'{"%s":%s,"signature":"%s"}' % (kind.encode(), document.data, document.signature.hex().encode())

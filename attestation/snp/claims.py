"""What a report says, name by name and in words: of verdicts, and of reports that nobody has verified.

Judges nothing. Numbers of 64 bits are hexadecimal strings, as JSON's numbers don't hold them.
"""

from typing import Final

from attestation.claims import Claim, Claims, Json
from attestation.errors import EvidenceMalformed
from attestation.snp.certificates import EndorsementKey
from attestation.snp.flags import (
    PlatformFlag,
    PolicyFlag,
    SigningKey,
    describe_platform,
    describe_policy,
    known_flags,
)
from attestation.snp.product import Product
from attestation.snp.report import Report
from attestation.snp.revocation import RevocationList
from attestation.snp.tcb import TcbVersion

NO_MIGRATION_AGENT: Final = b"\xff" * 32
REQUESTED_BY_HOST: Final = 0xFFFFFFFF


def report_claims(report: Report, product: Product | None, key: EndorsementKey | None) -> Claims:
    """The claims of a report. `product` None leaves the TCB versions raw; `key` is the one that signed, if known."""
    return (
        Claim(name="product", value=product, words=product or "not known from this report"),
        Claim(name="version", value=report.version, words=f"version {report.version} of the report"),
        _bytes("measurements", report.measurement, "launch measurement"),
        _bytes("report_data", report.report_data),
        _bytes("host_data", report.host_data),
        _tcb(report, product),
        _firmware(report),
        _debug(report),
        _policy(report),
        _migration_agent(report),
        _platform(report),
        _mitigations(report),
        _vmpl(report),
        _signer(report, key),
        _bytes("chip_id", report.chip_id, zero="masked"),
        _id_block(report),
        Claim(name="guest_svn", value=report.guest_svn, words=_guest_svn(report)),
        _bytes("report_id", report.report_id),
        _cpuid(report),
    )


def endorsement_claims(key: EndorsementKey, lists: tuple[RevocationList, ...]) -> Claims:
    """What a verdict knows besides: until when the signing key is vouched for, and the lists that were looked at."""
    not_before, not_after = key.certificate.not_valid_before_utc, key.certificate.not_valid_after_utc
    until = min([item.next_update for item in lists if item.next_update is not None], default=None)
    return (
        Claim(
            name="certificate",
            value={"not_before": not_before.isoformat(), "not_after": not_after.isoformat()},
            words=f"of the signing key, valid from {not_before.isoformat()} to {not_after.isoformat()}",
        ),
        Claim(
            name="revocation",
            value={"lists": len(lists), "next_update": None if until is None else until.isoformat()},
            words="no list came along"
            if until is None
            else f"neither root nor intermediate on any of {len(lists)}, good until {until.isoformat()}",
        ),
    )


def _bytes(name: str, value: bytes, what: str = "", zero: str = "none") -> Claim:
    words = f"{what} {value.hex()}".strip() if any(value) else f"{zero} (zero bytes)"
    return Claim(name=name, value=[value.hex()] if name == "measurements" else value.hex(), words=words)


def _tcb(report: Report, product: Product | None) -> Claim:
    raw = {
        "reported": report.reported_tcb,
        "current": report.current_tcb,
        "committed": report.committed_tcb,
        "launch": report.launch_tcb,
    }
    versions = {name: _tcb_version(value, product, name) for name, value in raw.items()}
    value: dict[str, Json] = {
        name: raw[name].hex() if version is None else dict(version.components()) for name, version in versions.items()
    }
    words = {name: f"{version or raw[name].hex()}" for name, version in versions.items()}
    if len(set(words.values())) == 1:
        return Claim(name="tcb", value=value, words=f"{words['reported']} (reported, current, committed and at launch)")
    return Claim(name="tcb", value=value, words="; ".join(f"{name} {text}" for name, text in words.items()))


def _tcb_version(data: bytes, product: Product | None, name: str) -> TcbVersion | None:
    """None for raw bytes: no product to read them by, or bytes set that it reserves."""
    try:
        return None if product is None else TcbVersion.parse(data, product, name)
    except EvidenceMalformed:
        return None


def _firmware(report: Report) -> Claim:
    current, committed = str(report.current_version), str(report.committed_version)
    provisional = current != committed or report.current_tcb != report.committed_tcb
    words = f"{current}, committed {committed}"
    if provisional:
        words += ": provisional, as its version or TCB is not committed, so that the host may roll it back"
    value: dict[str, Json] = {"current": current, "committed": committed, "provisional": provisional}
    return Claim(name="firmware", value=value, words=words)


def _debug(report: Report) -> Claim:
    allowed = PolicyFlag.DEBUG.is_set(report.policy)
    words = "allowed: the host reads and writes the guest's memory" if allowed else "not allowed"
    return Claim(name="debug", value=allowed, words=words)


def _policy(report: Report) -> Claim:
    policy = report.policy
    value: dict[str, Json] = {
        "value": f"{policy:#x}",
        "abi": f"{policy >> 8 & 0xFF}.{policy & 0xFF}",
        "flags": [flag.name.lower() for flag in known_flags(policy)],
    }
    return Claim(name="policy", value=value, words=describe_policy(policy))


def _migration_agent(report: Report) -> Claim:
    if report.report_id_ma == NO_MIGRATION_AGENT:
        return Claim(name="migration_agent", value=None, words="none")
    return Claim(name="migration_agent", value=report.report_id_ma.hex(), words=report.report_id_ma.hex())


def _platform(report: Report) -> Claim:
    info = report.platform_info
    value: dict[str, Json] = {"value": f"{info:#x}", "flags": [flag for flag in PlatformFlag if flag.is_set(info)]}
    return Claim(name="platform", value=value, words=describe_platform(info))


def _mitigations(report: Report) -> Claim:
    launch, current = report.launch_mitigations, report.current_mitigations
    if launch is None or current is None:
        return Claim(name="mitigations", value=None, words=f"not said by version {report.version}")
    value: dict[str, Json] = {"launch": f"{launch:#x}", "current": f"{current:#x}"}
    return Claim(name="mitigations", value=value, words=f"{launch:#x} at launch, {current:#x} now")


def _vmpl(report: Report) -> Claim:
    words = {0: "0 (the most privileged)", REQUESTED_BY_HOST: "none: the host asked for this report"}
    return Claim(name="vmpl", value=report.vmpl, words=words.get(report.vmpl, str(report.vmpl)))


def _signer(report: Report, key: EndorsementKey | None) -> Claim:
    kind = report.signing_key
    value: dict[str, Json] = {"kind": kind, "chip_key_masked": report.mask_chip_key}
    masked = ", whose key is masked" * report.mask_chip_key
    if kind is SigningKey.VCEK:
        value["chip_id"] = report.chip_id.hex()
        words = f"the chip's own key (VCEK), of chip {report.chip_id.hex()}{masked}"
    elif kind is SigningKey.VLEK:
        value["csp_id"] = None if key is None else key.csp_id
        whose = "of the one that its certificate names" if key is None else f"of {key.csp_id}"
        words = f"a cloud provider's key (VLEK), {whose}, on a chip of its choice{masked}"
    else:
        words = f"nobody: the report is unsigned{masked}"
    return Claim(name="signer", value=value, words=words)


def _id_block(report: Report) -> Claim:
    digests = {
        "id_key_digest": report.id_key_digest,
        "author_key_digest": report.author_key_digest,
        "family_id": report.family_id,
        "image_id": report.image_id,
    }
    if not any(map(any, digests.values())) and not report.author_key_enabled:
        return Claim(name="id_block", value=None, words="none: nobody signed the launch")
    value: dict[str, Json] = {name: digest.hex() for name, digest in digests.items()}
    value["author_key_enabled"] = report.author_key_enabled
    words = ", ".join(f"{name} {digest.hex()}" for name, digest in digests.items() if any(digest))
    return Claim(
        name="id_block", value=value, words=f"{words}, author key {'' if report.author_key_enabled else 'not '}used"
    )


def _guest_svn(report: Report) -> str:
    pinned = any(report.id_key_digest)
    return f"{report.guest_svn}" + ("" if pinned else " (means nothing without an ID key)")


def _cpuid(report: Report) -> Claim:
    cpuid = report.cpuid
    if cpuid is None:
        return Claim(name="cpuid", value=None, words=f"not said by version {report.version}")
    value: dict[str, Json] = {"family": cpuid.family, "model": cpuid.model, "stepping": cpuid.stepping}
    return Claim(
        name="cpuid",
        value=value,
        words=f"family {cpuid.family:#x}, model {cpuid.model:#x}, stepping {cpuid.stepping}",
    )

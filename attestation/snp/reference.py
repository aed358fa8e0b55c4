"""Reference values out of a report: what an agreement would say that accepts this guest and little else.

Nothing is verified here: whoever pastes the result must know where the report came from.
"""

from attestation.checklist import Checklist
from attestation.errors import EvidenceRefused, EvidenceUncheckable, ReferenceValuesError
from attestation.snp.appraise import check_guest
from attestation.snp.certificates import EndorsementKey
from attestation.snp.endorsements import Endorsements
from attestation.snp.flags import PlatformFlag, SigningKey, describe_policy
from attestation.snp.product import Product, product_of_cpuid
from attestation.snp.reference_values import ANY_CHIP, IdBlock, SnpReferenceValues
from attestation.snp.report import Report
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Covers, Revocation

# These say what else the machine does, not what it protects from.
_NO_PROTECTION = (PlatformFlag.SMT, PlatformFlag.TIO)
_WRITABLE = 2**53 - 1  # as an agreement writes integers


def reference_values(report: Report, came: Endorsements, tee: Tee) -> SnpReferenceValues:
    """Reference values that accept a report, with what came along.

    That the measurement covers the code can't be seen from a report: they say `FIRMWARE_ONLY`, but for simulated
    reports, whose measurement is made of our code. Chip, host data and security version are pinned.

    Raises `EvidenceUncheckable` if only a certificate could tell the product or the provider, `EvidenceRefused` if no
    reference values accept the report, `EvidenceMalformed` for a certificate that AMD does not issue.
    """
    key = came.key() if came.leaves else None
    kind = report.signing_key
    if kind is None:
        raise EvidenceRefused("key_info.signing_key", expected="vcek or vlek", found="none (unsigned)")
    if kind is SigningKey.VCEK and report.mask_chip_key:
        raise EvidenceRefused("key_info.mask_chip_key", expected="0", found="1")
    if report.policy > _WRITABLE:
        raise EvidenceRefused("policies", expected="no unknown bits from 53 on", found=describe_policy(report.policy))
    product = _product(report, key)
    values = _values(report, kind, product, key, tee, Revocation.CRL if came.lists else Revocation.MINIMUM_TCB)
    check_guest(Checklist(EvidenceRefused), report, product, values)
    return values


def _values(
    report: Report,
    kind: SigningKey,
    product: Product,
    key: EndorsementKey | None,
    tee: Tee,
    revocation: Revocation,
) -> SnpReferenceValues:
    provisional = report.current_tcb != report.committed_tcb or report.current_version != report.committed_version
    try:
        return SnpReferenceValues(
            tee=tee,
            products=(product,),
            measurements=(report.measurement,),
            covers=Covers.CODE if tee.simulated else Covers.FIRMWARE_ONLY,
            revocation=revocation,
            minimum_tcb=(_lowest_tcb(report, product),),
            provisional_firmware=provisional,
            policies=(report.policy,),
            platform_required=tuple(
                flag for flag in PlatformFlag if flag.is_set(report.platform_info) and flag not in _NO_PROTECTION
            ),
            mitigations_required=_mitigations(report),
            vmpl=report.vmpl,
            signing_keys=(kind,),
            csp_ids=(_csp_id(key),) if kind is SigningKey.VLEK else (),
            chip_ids=(report.chip_id,) if any(report.chip_id) else ANY_CHIP,
            host_data=report.host_data,
            id_block=_id_block(report),
        )
    except ReferenceValuesError as error:
        raise EvidenceRefused(error.field, expected=error.expected, found=error.found) from error


def _product(report: Report, key: EndorsementKey | None) -> Product:
    if report.cpuid is None:
        if key is None:
            raise EvidenceUncheckable(
                "endorsements",
                expected=f"a VCEK or VLEK certificate, as version {report.version} does not name the product",
                found="none",
            )
        return key.product
    product = product_of_cpuid(report.cpuid.family, report.cpuid.model)
    if product is None:
        found = f"{report.cpuid.family:#x}/{report.cpuid.model:#x}"
        raise EvidenceRefused("cpuid", expected=" or ".join(Product), found=found)
    return product


def _csp_id(key: EndorsementKey | None) -> str:
    if key is None or key.csp_id is None:
        raise EvidenceUncheckable(
            "endorsements", expected="a VLEK certificate, which names the cloud provider", found="none"
        )
    return key.csp_id


def _lowest_tcb(report: Report, product: Product) -> TcbVersion:
    """The minimum that all four versions reach, component by component."""
    raw = {
        "reported_tcb": report.reported_tcb,
        "current_tcb": report.current_tcb,
        "committed_tcb": report.committed_tcb,
        "launch_tcb": report.launch_tcb,
    }
    versions = [TcbVersion.parse(data, product, name).components() for name, data in raw.items()]
    return TcbVersion(product=product, **{name: min(version[name] for version in versions) for name in versions[0]})


def _mitigations(report: Report) -> int:
    """The bits of both vectors, as far as an agreement can hold them."""
    both = (report.launch_mitigations or 0) & (report.current_mitigations or 0)
    return both & _WRITABLE


def _id_block(report: Report) -> IdBlock | None:
    if not any(report.id_key_digest):
        return None
    return IdBlock(
        id_key_digest=report.id_key_digest,
        author_key_digest=report.author_key_digest,
        family_id=report.family_id,
        image_id=report.image_id,
        minimum_guest_svn=report.guest_svn,
    )

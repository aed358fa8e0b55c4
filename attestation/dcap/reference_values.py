"""Reference values for Intel TDX and SGX: what a quote must say to be accepted.

They come from the agreement. There are no defaults: every field that bears on security is given by name, an empty
allow-list is an error, and what an allow-list cannot say is refused always (debugging, a revoked platform).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from attestation.dcap.enclave_report import EnclaveFlag
from attestation.dcap.intel_json import NEVER_ACCEPTED, TcbStatus
from attestation.dcap.td_report import KNOWN_TD_ATTRIBUTES, MEASUREMENT_BYTES, TdFlag
from attestation.errors import ReferenceValuesError
from attestation.tee import Tee
from attestation.terms import Covers, Revocation, require_filled, require_range, require_size

ANY: Final = "any"
BytesOrAny: TypeAlias = tuple[bytes, ...] | Literal["any"]
FMSPC_BYTES = 6
PPID_BYTES = 16
_ADVISORY = re.compile(r"[A-Z0-9-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformReferenceValues:
    """Accepted platforms. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `tcb_statuses`: accepted standings by Intel's lists, by name; `Revoked` and `NotSupported` never are.
    - `advisory_ids`: advisories that may apply to the platform (`INTEL-SA-00615`); none if there are none.
    - `minimum_tcb_evaluation_data_number`: the oldest edition of Intel's lists, which it raises with each disclosure.
      Within the months that Intel signs several, this is what keeps a host from choosing the mildest.
    - `dynamic_platform`, `cached_keys`, `smt`: whether platforms are accepted that may get new packages, whose keys
      Intel holds, that run two threads a core; where false, the certificate has to say that it is not so.
    - `fmspcs`, `ppids`: accepted kinds of platform (6 bytes) and single platforms (16 bytes), or `ANY`.
    """

    tcb_statuses: tuple[TcbStatus, ...]
    advisory_ids: tuple[str, ...]
    minimum_tcb_evaluation_data_number: int
    dynamic_platform: bool
    cached_keys: bool
    smt: bool
    fmspcs: BytesOrAny
    ppids: BytesOrAny

    def __post_init__(self) -> None:
        require_filled("tcb_statuses", self.tcb_statuses)
        for status in self.tcb_statuses:
            if status in NEVER_ACCEPTED:
                raise ReferenceValuesError("tcb_statuses", expected="none that is never accepted", found=status)
        if self.advisory_ids:
            require_filled("advisory_ids", self.advisory_ids)
        for advisory_id in self.advisory_ids:
            if not _ADVISORY.fullmatch(advisory_id):
                raise ReferenceValuesError(
                    "advisory_ids", expected="names such as INTEL-SA-00615", found=ascii(advisory_id)[:80]
                )
        require_range("minimum_tcb_evaluation_data_number", self.minimum_tcb_evaluation_data_number, 2**32 - 1)
        _require_sizes("fmspcs", self.fmspcs, FMSPC_BYTES)
        _require_sizes("ppids", self.ppids, PPID_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxReferenceValues:
    """One accepted kind of trust domain. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `tee`: `TDX`.
    - `covers`: `CODE` only if `rtmr1` and `rtmr2`, where firmware measures what it loads, are pinned.
    - `revocation`: `CRL`; Intel's two lists must come along.
    - `platform`: on which machines.
    - `td_attributes`: accepted TD_ATTRIBUTES, 8 bytes as in the quote, compared as a whole. SEPT_VE_DISABLE is in each,
      DEBUG in none; MIGRATABLE needs `mr_service_td`, whose TD then decides where it goes.
    - `xfam`: accepted extended features, 8 bytes as in the quote.
    - `mr_seam`: accepted TDX modules, or `ANY` that Intel signed and lists.
    - `mr_td`, `rtmr0` to `rtmr3`: accepted measurements, 48 bytes each; the latter four may be `ANY`.
    - `mr_config_id`, `mr_owner`, `mr_owner_config`: what the host committed to at launch; zero bytes where it did not.
    - `mr_service_td`: the service TDs bound to it; zero bytes for none.
    """

    tee: Tee
    covers: Covers
    revocation: Revocation
    platform: PlatformReferenceValues
    td_attributes: tuple[bytes, ...]
    xfam: tuple[bytes, ...]
    mr_seam: BytesOrAny
    mr_td: tuple[bytes, ...]
    rtmr0: BytesOrAny
    rtmr1: BytesOrAny
    rtmr2: BytesOrAny
    rtmr3: BytesOrAny
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    mr_service_td: bytes

    def __post_init__(self) -> None:
        if self.tee is not Tee.TDX:
            raise ReferenceValuesError("tee", expected="tdx", found=str(self.tee))
        _require_lists(self.revocation)
        _require_sizes("td_attributes", self.td_attributes, 8)
        _require_sizes("xfam", self.xfam, 8)
        _require_sizes("mr_td", self.mr_td, MEASUREMENT_BYTES)
        for name in ("mr_seam", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
            _require_sizes(name, getattr(self, name), MEASUREMENT_BYTES)
        for name in ("mr_config_id", "mr_owner", "mr_owner_config", "mr_service_td"):
            require_size(name, getattr(self, name), MEASUREMENT_BYTES)
        for attributes in self.td_attributes:
            _require_td_attributes(attributes, any(self.mr_service_td))
        if self.covers is Covers.CODE and not reaches_code(self.rtmr1, self.rtmr2):
            raise ReferenceValuesError(
                "covers",
                expected=f'"{Covers.FIRMWARE_ONLY}", or rtmr1 and rtmr2, where firmware measures what it loads',
                found=f'"{Covers.CODE}"',
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KssReferenceValues:
    """Key separation and sharing: who configured the enclave. Sizes in bytes: 64, 16, 16; the number fits 16 bits."""

    config_id: bytes
    minimum_config_svn: int
    isv_ext_prod_id: bytes
    isv_family_id: bytes

    def __post_init__(self) -> None:
        require_size("kss.config_id", self.config_id, 64)
        require_range("kss.minimum_config_svn", self.minimum_config_svn, 2**16 - 1)
        require_size("kss.isv_ext_prod_id", self.isv_ext_prod_id, 16)
        require_size("kss.isv_family_id", self.isv_family_id, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxReferenceValues:
    """One accepted kind of enclave. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `tee`: `SGX`.
    - `covers`: `CODE` only if `mr_enclave` is pinned: a signer may sign anything.
    - `revocation`: `CRL`; Intel's two lists must come along.
    - `platform`: on which machines.
    - `mr_enclave`, `mr_signer`: accepted measurements and signers, 32 bytes each; one of them may be `ANY`.
    - `isv_prod_id`, `minimum_isv_svn`: the signer's product, and its oldest security version.
    - `attributes`: accepted flags, 8 bytes as in the quote, compared as a whole. INIT and MODE64BIT are in each, DEBUG
      in none.
    - `xfrm`: accepted extended features, 8 bytes as in the quote. `misc_select`: accepted, 4 bytes as in the quote.
    - `kss`: None for an enclave without it (its fields must then be zero).
    """

    tee: Tee
    covers: Covers
    revocation: Revocation
    platform: PlatformReferenceValues
    mr_enclave: BytesOrAny
    mr_signer: BytesOrAny
    isv_prod_id: int
    minimum_isv_svn: int
    attributes: tuple[bytes, ...]
    xfrm: tuple[bytes, ...]
    misc_select: tuple[bytes, ...]
    kss: KssReferenceValues | None

    def __post_init__(self) -> None:
        if self.tee is not Tee.SGX:
            raise ReferenceValuesError("tee", expected="sgx", found=str(self.tee))
        _require_lists(self.revocation)
        _require_sizes("mr_enclave", self.mr_enclave, 32)
        _require_sizes("mr_signer", self.mr_signer, 32)
        if self.mr_enclave == ANY and self.mr_signer == ANY:
            raise ReferenceValuesError("mr_enclave", expected="values here or for mr_signer", found='"any" for both')
        require_range("isv_prod_id", self.isv_prod_id, 2**16 - 1)
        require_range("minimum_isv_svn", self.minimum_isv_svn, 2**16 - 1)
        _require_sizes("attributes", self.attributes, 8)
        _require_sizes("xfrm", self.xfrm, 8)
        _require_sizes("misc_select", self.misc_select, 4)
        for attributes in self.attributes:
            _require_flags(attributes, self.kss is not None)
        if self.covers is Covers.CODE and self.mr_enclave == ANY:
            raise ReferenceValuesError(
                "covers",
                expected=f'"{Covers.FIRMWARE_ONLY}", or values for mr_enclave: a signer may sign anything',
                found=f'"{Covers.CODE}"',
            )


def reaches_code(rtmr1: BytesOrAny, rtmr2: BytesOrAny) -> bool:
    """Whether something that was loaded is pinned: no accepted TD has nothing measured in both registers."""
    nothing = bytes(MEASUREMENT_BYTES)
    return rtmr1 != ANY and rtmr2 != ANY and not (nothing in rtmr1 and nothing in rtmr2)


def _require_lists(revocation: Revocation) -> None:
    if revocation is not Revocation.CRL:
        raise ReferenceValuesError(
            "revocation", expected=f'"{Revocation.CRL}": Intel publishes lists of platforms', found=f'"{revocation}"'
        )


def _require_sizes(field: str, values: BytesOrAny, size: int) -> None:
    if isinstance(values, str):
        if values != ANY:
            raise ReferenceValuesError(field, expected=f'"{ANY}" or a list', found=ascii(values)[:80])
        return
    require_filled(field, values)
    for value in values:
        require_size(field, value, size)


def _require_td_attributes(attributes: bytes, bound_to_service: bool) -> None:
    unknown = int.from_bytes(attributes, "little") & ~KNOWN_TD_ATTRIBUTES
    if unknown or TdFlag.DEBUG.is_set(attributes):
        raise ReferenceValuesError("td_attributes", expected="neither DEBUG nor unknown bits", found=attributes.hex())
    if not TdFlag.SEPT_VE_DISABLE.is_set(attributes):
        raise ReferenceValuesError("td_attributes", expected="SEPT_VE_DISABLE (bit 28) set", found=attributes.hex())
    if TdFlag.MIGRATABLE.is_set(attributes) and not bound_to_service:
        raise ReferenceValuesError(
            "td_attributes", expected="MIGRATABLE (bit 29) only beside mr_service_td", found=attributes.hex()
        )


def _require_flags(attributes: bytes, kss: bool) -> None:
    for flag, wanted in (
        (EnclaveFlag.DEBUG, False),
        (EnclaveFlag.INIT, True),
        (EnclaveFlag.MODE64BIT, True),
        (EnclaveFlag.KSS, kss),
    ):
        if flag.is_set(attributes) is not wanted:
            why = " (as kss says)" if flag is EnclaveFlag.KSS else ""
            raise ReferenceValuesError(
                "attributes",
                expected=f"{flag.name} (bit {flag.value}) to be {int(wanted)}{why}",
                found=attributes.hex(),
            )

"""TCB information: what Intel says about the security versions of one kind of platform (FMSPC), version 3.

Trusts nothing: what parses is still to be verified (`authenticate`). Source: Intel SGX and TDX provisioning
certification service, API version 4, "Get TCB Info".
"""

import re
from dataclasses import dataclass
from datetime import datetime

from attestation.dcap.intel_json import COMPONENT_STATUSES, PLATFORM_STATUSES, JsonFields, TcbStatus
from attestation.dcap.pck import COMPONENTS
from attestation.dcap.strict_json import members
from attestation.errors import EvidenceMalformed
from attestation.tee import Tee

_IDS = {"SGX": Tee.SGX, "TDX": Tee.TDX}
_MODULE_ID = re.compile(r"TDX_[0-9A-F]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One level: a platform is at it if none of its versions is lower. `tdx` is empty in SGX's information."""

    sgx: tuple[int, ...]
    tdx: tuple[int, ...]
    pce_svn: int
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentLevel:
    """One level of a TDX module or a quoting enclave, by its ISVSVN."""

    isv_svn: int
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModule:
    """Who signs a major version of the TDX module (48 bytes), and its levels, newest first.

    `version` None is the one that stands for version 0, whose levels are the platform's.
    """

    version: int | None
    mr_signer: bytes
    attributes: bytes
    levels: tuple[ComponentLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """TCB information, not yet verified. `levels` are in descending order, whatever the order they came in."""

    tee: Tee
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    tcb_evaluation_data_number: int
    modules: tuple[TdxModule, ...]
    levels: tuple[TcbLevel, ...]

    @classmethod
    def parse(cls, data: bytes) -> "TcbInfo":
        """Read the inner object's bytes; raises `EvidenceMalformed` naming the field."""
        fields = JsonFields({key: member.value for key, member in members(data, "tcbInfo").items()}, "tcbInfo")
        version = fields.integer("version", 2**32 - 1)
        if version != 3:
            raise EvidenceMalformed("tcbInfo.version", expected="3", found=str(version))
        tee = _IDS[fields.text("id", tuple(_IDS))]
        fields.integer("tcbType", 0)
        levels = [_level(level, tee) for level in fields.children("tcbLevels")]
        # As Intel's own verifier orders them.
        levels.sort(key=lambda level: (level.sgx, level.pce_svn, level.tdx), reverse=True)
        return cls(
            tee=tee,
            issue_date=fields.date("issueDate"),
            next_update=fields.date("nextUpdate"),
            fmspc=fields.hexadecimal("fmspc", 6),
            pce_id=fields.hexadecimal("pceId", 2),
            tcb_evaluation_data_number=fields.integer("tcbEvaluationDataNumber", 2**32 - 1),
            modules=_modules(fields) if tee is Tee.TDX else (),
            levels=tuple(levels),
        )

    def module(self, version: int) -> TdxModule | None:
        """What is said about a major version of the TDX module, or None."""
        wanted = version or None
        return next((module for module in self.modules if module.version == wanted), None)


def component_levels(fields: JsonFields) -> tuple[ComponentLevel, ...]:
    """`tcbLevels` of a module or an enclave, newest first."""
    levels = [
        ComponentLevel(
            isv_svn=level.child("tcb").integer("isvsvn", 2**16 - 1),
            date=level.date("tcbDate"),
            status=level.status(COMPONENT_STATUSES),
            advisory_ids=level.advisory_ids(),
        )
        for level in fields.children("tcbLevels")
    ]
    return tuple(sorted(levels, key=lambda level: level.isv_svn, reverse=True))


def _level(level: JsonFields, tee: Tee) -> TcbLevel:
    tcb = level.child("tcb")
    return TcbLevel(
        sgx=_components(tcb, "sgxtcbcomponents"),
        tdx=_components(tcb, "tdxtcbcomponents") if tee is Tee.TDX else (),
        pce_svn=tcb.integer("pcesvn", 2**16 - 1),
        date=level.date("tcbDate"),
        status=level.status(PLATFORM_STATUSES),
        advisory_ids=level.advisory_ids(),
    )


def _components(tcb: JsonFields, key: str) -> tuple[int, ...]:
    return tuple(component.integer("svn", 255) for component in tcb.children(key, COMPONENTS))


def _modules(fields: JsonFields) -> tuple[TdxModule, ...]:
    modules = [_module(fields.child("tdxModule"), None, ())]
    identities = fields.children("tdxModuleIdentities") if fields.has("tdxModuleIdentities") else []
    for identity in identities:
        name = identity.name("id").upper()
        if not _MODULE_ID.fullmatch(name) or int(name[-2:], 16) in {module.version for module in modules}:
            raise EvidenceMalformed("tdxModuleIdentities.id", expected="TDX_01 to TDX_FF, none twice", found=name[:20])
        modules.append(_module(identity, int(name[-2:], 16), component_levels(identity)))
    return tuple(modules)


def _module(fields: JsonFields, version: int | None, levels: tuple[ComponentLevel, ...]) -> TdxModule:
    # All bits are compared, whatever the mask.
    fields.hexadecimal("attributesMask", 8)
    return TdxModule(
        version=version,
        mr_signer=fields.hexadecimal("mrsigner", 48),
        attributes=fields.hexadecimal("attributes", 8),
        levels=levels,
    )

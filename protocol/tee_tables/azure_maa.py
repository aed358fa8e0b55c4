"""`tee = "azure-maa"`: thumbprints, digests and registers in hexadecimal, the rest as Azure's token spells it.

`hardware` is a table, whose `type` says what else is in it; written here line by line (`hardware.vmpl = 0`).
`compliance_statuses` is "none" or a list, `vm_ids` a list or "any" for azurevm, else "none".
"""

from typing import Literal

from attestation.tee import Tee
from attestation.terms import Covers, Revocation
from attestation.token.maa.hardware import SVNS
from attestation.token.maa.reference_values import (
    ANY,
    MAXIMUM_AGE_SECONDS,
    NONE,
    THUMBPRINT_BYTES,
    MaaHardware,
    MaaReferenceValues,
    SgxHardware,
    SnpHardware,
    TdxHardware,
)
from attestation.token.maa.token import POLICY_HASH_BYTES, AttestationType
from protocol.agreement_toml import fields_of, toml_string
from protocol.fields import Fields
from protocol.tee_tables.lists import (
    hexadecimal_list,
    hexadecimal_list_or_any,
    hexadecimals,
    hexadecimals_or_any,
    items,
    string_list,
    texts,
)
from protocol.tee_tables.row import Row

_HARDWARE_TYPES = (AttestationType.SEV_SNP_VM, AttestationType.TDX_VM, AttestationType.SGX)


def rows(values: MaaReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    statuses, vm_ids = values.compliance_statuses, values.vm_ids
    return [
        Row("signing_keys", hexadecimal_list(values.signing_keys), "thumbprints (RFC 7638) of the issuers' keys"),
        Row("issuers", string_list(values.issuers), "whose token, exactly: instances of a region share keys"),
        Row("policy_hashes", hexadecimal_list(values.policy_hashes), "attestation policies of those issuers"),
        Row("maximum_age_seconds", str(values.maximum_age_seconds), "how old a token may be when it is judged"),
        Row("attestation_type", toml_string(values.attestation_type), "azurevm: a VM under Azure's own paravisor"),
        Row("compliance_statuses", _words(statuses), 'what Azure says of it; "none" where it says nothing'),
        Row("hardware.type", toml_string(values.hardware.type), "what it runs on"),
        *_hardware_rows(values.hardware),
        Row("vm_ids", _words(vm_ids), 'Azure VMs, or "any"; "none" where the type is another'),
        Row("revocation", toml_string(values.revocation), "tokens live eight hours"),
        Row("covers", toml_string(values.covers), 'how far the measurements reach: "code", or "firmware-only"'),
    ]


def read(fields: Fields, where: str, tee: Tee) -> MaaReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    return MaaReferenceValues(
        tee=tee,
        signing_keys=hexadecimals(fields, "signing_keys", THUMBPRINT_BYTES),
        issuers=texts(fields, "issuers"),
        policy_hashes=hexadecimals(fields, "policy_hashes", POLICY_HASH_BYTES),
        maximum_age_seconds=fields.integer("maximum_age_seconds", maximum=MAXIMUM_AGE_SECONDS),
        attestation_type=AttestationType(fields.choice("attestation_type", tuple(AttestationType))),
        compliance_statuses=_read_statuses(fields, where),
        hardware=_read_hardware(fields.table("hardware"), f"{where} hardware"),
        vm_ids=_read_vm_ids(fields, where),
        revocation=Revocation(fields.choice("revocation", tuple(Revocation))),
        covers=Covers(fields.choice("covers", tuple(Covers))),
    )


def _hardware_rows(hardware: MaaHardware) -> list[Row]:
    match hardware:
        case SnpHardware():
            found = _snp_rows(hardware)
        case TdxHardware():
            found = _tdx_rows(hardware)
        case SgxHardware():
            found = _sgx_rows(hardware)
    return [Row(f"hardware.{row.key}", row.value, row.meaning) for row in found]


def _read_hardware(fields: Fields, where: str) -> MaaHardware:
    found: MaaHardware
    match fields.choice("type", _HARDWARE_TYPES):
        case AttestationType.SEV_SNP_VM:
            found = _read_snp(fields, where)
        case AttestationType.TDX_VM:
            found = _read_tdx(fields, where)
        case _:
            found = _read_sgx(fields, where)
    fields.close()
    return found


def _snp_rows(hardware: SnpHardware) -> list[Row]:
    return [
        Row("measurements", hexadecimal_list(hardware.measurements), "launch measurements"),
        Row("host_data", hexadecimal_list(hardware.host_data), "container policies; zero where there is none"),
        Row("id_key_digests", hexadecimal_list_or_any(hardware.id_key_digests), 'who signed the launch, or "any"'),
        Row(
            "author_key_digest",
            toml_string(hardware.author_key_digest.hex()),
            "who vouches for that key; zero if nobody",
        ),
        Row("vmpl", str(hardware.vmpl), "the privilege level that asked for the report"),
        Row("smt_allowed", str(hardware.smt_allowed).lower(), "whether the host may use hyper-threading"),
        Row("minimum_guest_svn", str(hardware.minimum_guest_svn), "the guest's security version"),
        *(
            Row(f"minimum_{name}_svn", str(getattr(hardware, f"minimum_{name}_svn")), "the oldest firmware accepted")
            for name in SVNS
        ),
    ]


def _read_snp(fields: Fields, where: str) -> SnpHardware:
    return SnpHardware(
        measurements=hexadecimals(fields, "measurements", 48),
        host_data=hexadecimals(fields, "host_data", 32),
        id_key_digests=hexadecimals_or_any(fields, where, "id_key_digests", 48),
        author_key_digest=fields.hexadecimal("author_key_digest", size=48),
        vmpl=fields.integer("vmpl", maximum=3),
        smt_allowed=fields.boolean("smt_allowed"),
        minimum_guest_svn=fields.integer("minimum_guest_svn", maximum=2**32 - 1),
        minimum_bootloader_svn=fields.integer("minimum_bootloader_svn", maximum=255),
        minimum_tee_svn=fields.integer("minimum_tee_svn", maximum=255),
        minimum_snpfw_svn=fields.integer("minimum_snpfw_svn", maximum=255),
        minimum_microcode_svn=fields.integer("minimum_microcode_svn", maximum=255),
    )


def _tdx_rows(hardware: TdxHardware) -> list[Row]:
    registers = (hardware.rtmr0, hardware.rtmr1, hardware.rtmr2, hardware.rtmr3)
    exact = {name: getattr(hardware, name) for name in ("mrconfigid", "mrowner", "mrownerconfig")}
    return [
        Row("mrtd", hexadecimal_list(hardware.mrtd), "measurements of what the guest started with"),
        *(
            Row(f"rtmr{index}", hexadecimal_list_or_any(accepted), 'what it loaded after that, or "any"')
            for index, accepted in enumerate(registers)
        ),
        Row("mrseam", hexadecimal_list_or_any(hardware.mrseam), 'Intel\'s TDX modules, or "any"'),
        *(Row(name, toml_string(value.hex()), "given by the host; zero where unused") for name, value in exact.items()),
        Row("td_attributes", hexadecimal_list(hardware.td_attributes), "what the host may do, as in the quote"),
        Row("xfam", hexadecimal_list(hardware.xfam), "extended features, as in the quote"),
        Row("tcb_statuses", string_list(hardware.tcb_statuses), "accepted TCB statuses"),
    ]


def _read_tdx(fields: Fields, where: str) -> TdxHardware:
    return TdxHardware(
        mrtd=hexadecimals(fields, "mrtd", 48),
        rtmr0=hexadecimals_or_any(fields, where, "rtmr0", 48),
        rtmr1=hexadecimals_or_any(fields, where, "rtmr1", 48),
        rtmr2=hexadecimals_or_any(fields, where, "rtmr2", 48),
        rtmr3=hexadecimals_or_any(fields, where, "rtmr3", 48),
        mrseam=hexadecimals_or_any(fields, where, "mrseam", 48),
        mrconfigid=fields.hexadecimal("mrconfigid", size=48),
        mrowner=fields.hexadecimal("mrowner", size=48),
        mrownerconfig=fields.hexadecimal("mrownerconfig", size=48),
        td_attributes=hexadecimals(fields, "td_attributes", 8),
        xfam=hexadecimals(fields, "xfam", 8),
        tcb_statuses=texts(fields, "tcb_statuses"),
    )


def _sgx_rows(hardware: SgxHardware) -> list[Row]:
    product_ids = ", ".join(str(product_id) for product_id in hardware.product_ids)
    return [
        Row("mr_enclaves", hexadecimal_list_or_any(hardware.mr_enclaves), 'enclaves, or "any" of a signer\'s'),
        Row("mr_signers", hexadecimal_list_or_any(hardware.mr_signers), 'who signed them, or "any"'),
        Row("product_ids", f"[{product_ids}]", "which of the signer's products"),
        Row("minimum_svn", str(hardware.minimum_svn), "the oldest security version accepted"),
        Row("config_id", toml_string(hardware.config_id.hex()), "given by the host; zero where unused"),
    ]


def _read_sgx(fields: Fields, where: str) -> SgxHardware:
    return SgxHardware(
        mr_enclaves=hexadecimals_or_any(fields, where, "mr_enclaves", 32),
        mr_signers=hexadecimals_or_any(fields, where, "mr_signers", 32),
        product_ids=items(fields, "product_ids", "an integer from 0 to 65535", _product_id),
        minimum_svn=fields.integer("minimum_svn", maximum=2**16 - 1),
        config_id=fields.hexadecimal("config_id", size=64),
    )


def _product_id(item: object) -> int | None:
    return item if type(item) is int and 0 <= item < 2**16 else None


def _words(values: tuple[str, ...] | str) -> str:
    return toml_string(values) if isinstance(values, str) else string_list(values)


def _read_statuses(fields: Fields, where: str) -> tuple[str, ...] | Literal["none"]:
    rest = _list_or_word(fields, where, "compliance_statuses", (NONE,))
    return NONE if isinstance(rest, str) else texts(rest, "compliance_statuses")


def _read_vm_ids(fields: Fields, where: str) -> tuple[str, ...] | Literal["any", "none"]:
    rest = _list_or_word(fields, where, "vm_ids", (ANY, NONE))
    if isinstance(rest, str):
        return ANY if rest == ANY else NONE
    return texts(rest, "vm_ids")


def _list_or_word(fields: Fields, where: str, key: str, words: tuple[str, ...]) -> Fields | str:
    expected = " or ".join([*(f'"{word}"' for word in words), "a list of strings"])
    value = fields.take(key, expected)
    if isinstance(value, str) and value in words:
        return value
    if not isinstance(value, list):
        raise fields.error(key, expected, value)
    return fields_of({key: value}, where)

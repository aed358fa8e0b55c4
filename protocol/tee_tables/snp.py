"""`tee = "sev-snp"` and `tee = "simulated"`.

In TOML terms: digests and identifiers in hexadecimal, policies and mitigations as integers (`0x30000`), `chip_ids`
either a list or "any", `csp_ids` if and only if "vlek" is among `signing_keys`, `id_block` either a table or "none".
"""

from typing import Literal

from attestation.reference_values import ANY_CHIP, IdBlock, SnpReferenceValues
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.reference_values import REVOCATIONS
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Covers, Revocation
from protocol.agreement_toml import fields_of, toml_string
from protocol.fields import Fields
from protocol.tee_tables.lists import choices, hexadecimal_list, hexadecimals, items, string_list
from protocol.tee_tables.row import Row

_PRODUCTS = 'accepted product lines; "Milan", whose root seeds can be extracted in software, only if it is named here'
_COVERS = (
    'write "code" if kernel, initrd and command line are measured at launch; "firmware-only" proves nothing about them'
)
_REVOCATION = '"crl": a fresh revocation list must come with the report; "minimum-tcb": raising minimum_tcb must do'
_PLATFORM = "what the machine must have: alias-check-complete answers BadRAM (AMD-SB-3015)"
_MITIGATIONS = "bits that both mitigation vectors must have; 0 asks for none, and so accepts reports before version 5"
_SIGNING_KEYS = '"vcek": the chip\'s own key; "vlek": a cloud provider\'s, which may be on any of its chips'
_ID_BLOCK = 'who signed the launch: "none", or the digests of both keys, family, image and the lowest security version'


def rows(values: SnpReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    chip_ids = toml_string(ANY_CHIP) if values.chip_ids == ANY_CHIP else hexadecimal_list(values.chip_ids)
    tcbs = ", ".join(_render_tcb(tcb) for tcb in values.minimum_tcb)
    csp_ids = [Row("csp_ids", string_list(values.csp_ids), "the cloud providers whose VLEK is accepted, by CSP_ID")]
    policies = f"[{', '.join(f'{policy:#x}' for policy in values.policies)}]"
    provisional = str(values.provisional_firmware).lower()
    return [
        Row("products", string_list(values.products), _PRODUCTS),
        Row("measurements", hexadecimal_list(values.measurements), "accepted launch measurements (MEASUREMENT)"),
        Row("covers", toml_string(values.covers), _COVERS),
        Row("revocation", toml_string(values.revocation), _REVOCATION),
        Row("minimum_tcb", f"[{tcbs}]", "the oldest firmware and microcode accepted, component by component"),
        Row("provisional_firmware", provisional, "whether firmware is accepted that the host can still roll back"),
        Row("policies", policies, "accepted guest policies, as a whole; none that allows debugging or migration"),
        Row("platform_required", string_list(values.platform_required), _PLATFORM),
        Row("mitigations_required", f"{values.mitigations_required:#x}", _MITIGATIONS),
        Row("vmpl", str(values.vmpl), "the privilege level that asks for the report: 0 is the highest, 3 the lowest"),
        Row("signing_keys", string_list(values.signing_keys), _SIGNING_KEYS),
        *(csp_ids if values.csp_ids else []),
        Row("chip_ids", chip_ids, 'the machines it may run on, by CHIP_ID, or "any"'),
        Row("host_data", toml_string(values.host_data.hex()), "what the host committed to at launch, or zeros"),
        Row("id_block", _render_id_block(values.id_block), _ID_BLOCK),
    ]


def read(fields: Fields, where: str, tee: Tee) -> SnpReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    products = choices(fields, "products", Product)
    signing_keys = choices(fields, "signing_keys", SigningKey)
    return SnpReferenceValues(
        tee=tee,
        products=products,
        measurements=hexadecimals(fields, "measurements", 48),
        covers=Covers(fields.choice("covers", tuple(Covers))),
        revocation=Revocation(fields.choice("revocation", REVOCATIONS)),
        minimum_tcb=tuple(_read_tcb(table) for table in fields.tables("minimum_tcb", minimum=1, maximum=len(Product))),
        provisional_firmware=fields.boolean("provisional_firmware"),
        policies=items(fields, "policies", "an integer from 0 to 2^53-1", _policy),
        platform_required=choices(fields, "platform_required", PlatformFlag, 0),
        mitigations_required=fields.integer("mitigations_required"),
        vmpl=fields.integer("vmpl", maximum=3),
        signing_keys=signing_keys,
        csp_ids=_read_csp_ids(fields, signing_keys),
        chip_ids=_read_chip_ids(fields, where),
        host_data=fields.hexadecimal("host_data", size=32),
        id_block=_read_id_block(fields, where),
    )


def _read_tcb(fields: Fields) -> TcbVersion:
    product = Product(fields.choice("product", tuple(Product)))
    tcb = TcbVersion(
        product=product,
        bootloader=fields.integer("bootloader", maximum=255),
        tee=fields.integer("tee", maximum=255),
        snp=fields.integer("snp", maximum=255),
        microcode=fields.integer("microcode", maximum=255),
        fmc=fields.integer("fmc", maximum=255) if product is Product.TURIN else None,
    )
    fields.close()
    return tcb


def _render_tcb(tcb: TcbVersion) -> str:
    numbers = "".join(f", {name} = {value}" for name, value in tcb.components().items())
    return f"{{ product = {toml_string(tcb.product)}{numbers} }}"


def _read_csp_ids(fields: Fields, signing_keys: tuple[SigningKey, ...]) -> tuple[str, ...]:
    if SigningKey.VLEK in signing_keys:
        return items(fields, "csp_ids", "a string", lambda item: item if isinstance(item, str) and item else None)
    if fields.has("csp_ids"):
        expected = 'no such key without "vlek" among signing_keys'
        raise fields.error("csp_ids", expected, fields.take("csp_ids", expected))
    return ()


def _read_chip_ids(fields: Fields, where: str) -> tuple[bytes, ...] | Literal["any"]:
    expected = '"any" or a list of identifiers of 128 hexadecimal digits'
    value = fields.take("chip_ids", expected)
    if value == ANY_CHIP:
        return ANY_CHIP
    if not isinstance(value, list):
        raise fields.error("chip_ids", expected, value)
    return hexadecimals(fields_of({"chip_ids": value}, where), "chip_ids", 64)


def _read_id_block(fields: Fields, where: str) -> IdBlock | None:
    expected = '"none" or a table'
    value = fields.take("id_block", expected)
    if value == "none":
        return None
    if not isinstance(value, dict):
        raise fields.error("id_block", expected, value)
    table = fields_of(value, f"{where} id_block")
    block = IdBlock(
        id_key_digest=table.hexadecimal("id_key_digest", size=48),
        author_key_digest=table.hexadecimal("author_key_digest", size=48),
        family_id=table.hexadecimal("family_id", size=16),
        image_id=table.hexadecimal("image_id", size=16),
        minimum_guest_svn=table.integer("minimum_guest_svn", maximum=2**32 - 1),
    )
    table.close()
    return block


def _render_id_block(block: IdBlock | None) -> str:
    if block is None:
        return '"none"'
    digests = "".join(
        f"{name} = {toml_string(getattr(block, name).hex())}, "
        for name in ("id_key_digest", "author_key_digest", "family_id", "image_id")
    )
    return f"{{ {digests}minimum_guest_svn = {block.minimum_guest_svn} }}"


def _policy(item: object) -> int | None:
    return item if type(item) is int and 0 <= item < 2**53 else None

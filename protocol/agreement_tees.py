"""The `[[appliance.tee]]` and `[[silo.tee]]` tables: reference values for evidence, read and written.

Every field of `attestation`'s reference values stands in the agreement under its own name; there are no defaults.
In TOML terms: digests and identifiers in hexadecimal, policies and mitigations as integers (`0x30000`), `chip_ids`
either a list or "any", `csp_ids` if and only if "vlek" is among `signing_keys`, `id_block` either a table or "none".
"""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Literal, TypeVar

from attestation.errors import ReferenceValuesError
from attestation.reference_values import ANY_CHIP, IdBlock, ReferenceValues, SnpReferenceValues
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from protocol.agreement_toml import AgreementError, fields_of, toml_string
from protocol.fields import Fields

MAXIMUM_TEES = 64
MAXIMUM_ITEMS = 4096
_Value = TypeVar("_Value")
_Name = TypeVar("_Name", bound=StrEnum)


def read_tee(fields: Fields, where: str, allowed: tuple[Tee, ...]) -> ReferenceValues | None:
    """One tee table; None stands for `tee = "none"`. Raises `AgreementError` naming `where` and the key."""
    tee = Tee(fields.choice("tee", allowed))
    if tee is Tee.NONE:
        fields.close()
        return None
    try:
        values = _read_snp(fields, where, tee)
    except ReferenceValuesError as error:
        raise AgreementError(
            f"{where} {error.field}: expected {error.expected}, found {error.found}".replace("\n", " ")
        ) from error
    fields.close()
    return values


def render_tee(values: ReferenceValues | None, table: str) -> str:
    """The TOML of one tee table under the heading `[[table]]`: what `read_tee` reads back to equal values."""
    lines = [f"[[{table}]]"]
    if values is None:
        return "\n".join([*lines, f'tee = "{Tee.NONE}"', ""])
    chip_ids = toml_string(ANY_CHIP) if values.chip_ids == ANY_CHIP else _hexadecimal_list(values.chip_ids)
    tcbs = ", ".join(_render_tcb(tcb) for tcb in values.minimum_tcb)
    lines += [
        f"tee = {toml_string(values.tee)}",
        f"products = {_string_list(values.products)}",
        f"measurements = {_hexadecimal_list(values.measurements)}",
        f"minimum_tcb = [{tcbs}]",
        f"provisional_firmware = {str(values.provisional_firmware).lower()}",
        f"policies = [{', '.join(f'{policy:#x}' for policy in values.policies)}]",
        f"platform_required = {_string_list(values.platform_required)}",
        f"mitigations_required = {values.mitigations_required:#x}",
        f"vmpl = {values.vmpl}",
        f"signing_keys = {_string_list(values.signing_keys)}",
        *([f"csp_ids = {_string_list(values.csp_ids)}"] if values.csp_ids else []),
        f"chip_ids = {chip_ids}",
        f"host_data = {toml_string(values.host_data.hex())}",
        f"id_block = {_render_id_block(values.id_block)}",
        "",
    ]
    return "\n".join(lines)


def _read_snp(fields: Fields, where: str, tee: Tee) -> SnpReferenceValues:
    products = _choices(fields, "products", Product)
    signing_keys = _choices(fields, "signing_keys", SigningKey)
    return SnpReferenceValues(
        tee=tee,
        products=products,
        measurements=_hexadecimals(fields, "measurements", 48),
        minimum_tcb=tuple(_read_tcb(table) for table in fields.tables("minimum_tcb", minimum=1, maximum=len(Product))),
        provisional_firmware=fields.boolean("provisional_firmware"),
        policies=_items(fields, "policies", "an integer from 0 to 2^53-1", _policy),
        platform_required=_choices(fields, "platform_required", PlatformFlag, 0),
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
        return _items(fields, "csp_ids", "a string", lambda item: item if isinstance(item, str) and item else None)
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
    return _hexadecimals(fields_of({"chip_ids": value}, where), "chip_ids", 64)


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


def _items(
    fields: Fields, key: str, expected: str, read: Callable[[object], _Value | None], minimum: int = 1
) -> tuple[_Value, ...]:
    """A list whose items `read` turns into values; None from it means that the item is not `expected`."""
    values: list[_Value] = []
    for item in fields.items(key, minimum=minimum, maximum=MAXIMUM_ITEMS):
        value = read(item)
        if value is None:
            raise fields.error(key, f"each item to be {expected}", item)
        values.append(value)
    return tuple(values)


def _choices(fields: Fields, key: str, kind: type[_Name], minimum: int = 1) -> tuple[_Name, ...]:
    names = {str(name): name for name in kind}
    expected = "one of " + ", ".join(f'"{name}"' for name in names)
    return _items(fields, key, expected, lambda item: names.get(item) if isinstance(item, str) else None, minimum)


def _hexadecimals(fields: Fields, key: str, size: int) -> tuple[bytes, ...]:
    form = re.compile(f"[0-9a-f]{{{2 * size}}}")

    def read(item: object) -> bytes | None:
        return bytes.fromhex(item) if isinstance(item, str) and form.fullmatch(item) else None

    return _items(fields, key, f"{2 * size} lower-case hexadecimal digits", read)


def _string_list(values: Iterable[str]) -> str:
    return f"[{', '.join(toml_string(value) for value in values)}]"


def _hexadecimal_list(values: Iterable[bytes]) -> str:
    return _string_list(value.hex() for value in values)

"""Reference values: nothing empty, nothing contradictory, nothing that is refused anyway; TCB versions by product."""

from dataclasses import fields, replace

import pytest

from attestation import EvidenceMalformed, ReferenceValuesError, SnpReferenceValues, Tee
from attestation.reference_values import IdBlock, Revocation
from attestation.simulated.reference_values import simulated_reference_values
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product, product_of_cpuid, product_of_name
from attestation.snp.tcb import TcbVersion

GOOD = simulated_reference_values(b"m" * 48)
GENOA = TcbVersion(product=Product.GENOA, bootloader=10, tee=0, snp=23, microcode=84)
BLOCK = IdBlock(
    id_key_digest=b"k" * 48,
    author_key_digest=bytes(48),
    family_id=bytes(16),
    image_id=bytes(16),
    minimum_guest_svn=0,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tee", Tee.NONE),
        ("products", ()),
        ("products", (Product.GENOA, Product.GENOA)),
        ("measurements", ()),
        ("measurements", (b"m" * 47,)),
        ("measurements", (b"m" * 48, b"m" * 48)),
        ("revocation", Revocation.SHORT_LIVED),
        ("minimum_tcb", ()),
        ("minimum_tcb", (GENOA, GENOA)),
        ("minimum_tcb", (replace(GENOA, product=Product.MILAN),)),
        ("policies", ()),
        ("policies", (0x10000,)),
        ("policies", (0xB0000,)),
        ("policies", (0x70000,)),
        ("policies", (-1,)),
        ("policies", (0x30000, 2**64)),
        ("mitigations_required", -1),
        ("vmpl", 4),
        ("vmpl", 0xFFFFFFFF),
        ("vmpl", True),
        ("signing_keys", ()),
        ("csp_ids", ("CN=somebody",)),
        ("chip_ids", ()),
        ("chip_ids", (b"c" * 8,)),
        ("host_data", b""),
    ],
)
def test_bad_reference_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        replace(GOOD, **{field: value})
    assert refused.value.field == field
    assert isinstance(refused.value, ValueError)


def test_a_providers_key_needs_the_provider() -> None:
    with pytest.raises(ReferenceValuesError, match="csp_ids"):
        replace(GOOD, signing_keys=(SigningKey.VCEK, SigningKey.VLEK))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id_key_digest", bytes(48)),
        ("id_key_digest", b"k" * 32),
        ("author_key_digest", b""),
        ("family_id", b"f"),
        ("image_id", b"i" * 17),
        ("minimum_guest_svn", 2**32),
    ],
)
def test_bad_id_blocks_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError, match=f"id_block.{field}"):
        replace(BLOCK, **{field: value})


def test_no_field_has_a_default() -> None:
    given = {field.name: getattr(GOOD, field.name) for field in fields(GOOD)}
    SnpReferenceValues(**given)
    for name in given:
        with pytest.raises(TypeError, match=name):
            SnpReferenceValues(**{key: value for key, value in given.items() if key != name})


def test_tcb_layouts_differ_by_product() -> None:
    assert GENOA.encode() == bytes.fromhex("0a00000000001754")
    turin = TcbVersion(product=Product.TURIN, fmc=1, bootloader=2, tee=3, snp=4, microcode=5)
    assert turin.encode() == bytes.fromhex("0102030400000005")
    assert TcbVersion.parse(turin.encode(), Product.TURIN, "tcb") == turin
    with pytest.raises(EvidenceMalformed, match="reported_tcb: expected reserved bytes of Genoa to be zero"):
        TcbVersion.parse(turin.encode(), Product.GENOA, "reported_tcb")


@pytest.mark.parametrize(
    "wrong", [{"fmc": 1}, {"bootloader": 256}, {"snp": -1}, {"microcode": True}, {"product": Product.TURIN}]
)
def test_impossible_tcb_versions_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"expected (an integer|one for Turin)"):
        replace(GENOA, **wrong)


def test_tcb_versions_compare_by_component_and_within_a_product_only() -> None:
    newer_microcode = replace(GENOA, microcode=255, bootloader=9)
    assert newer_microcode.below(GENOA) == ("bootloader",)
    assert GENOA.below(newer_microcode) == ("microcode",)
    assert GENOA.below(GENOA) == ()
    with pytest.raises(ValueError, match="Milan"):
        GENOA.below(replace(GENOA, product=Product.MILAN))


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x01, Product.MILAN),
        (0x19, 0x0F, Product.MILAN),
        (0x19, 0x11, Product.GENOA),
        (0x19, 0xA0, Product.GENOA),
        (0x1A, 0x11, Product.TURIN),
        (0x19, 0x20, None),
        (0x19, 0xB0, None),
        (0x1A, 0x12, None),
        (0x17, 0x31, None),
    ],
)
def test_products_by_cpuid(family: int, model: int, product: Product | None) -> None:
    assert product_of_cpuid(family, model) is product


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("Genoa", Product.GENOA),
        ("Milan-B0", Product.MILAN),
        ("Siena", Product.GENOA),
        ("Bergamo-A1", Product.GENOA),
        ("milan", None),
        ("Milan-B0 ", None),
        ("Turin-", None),
        ("Venice", None),
    ],
)
def test_products_by_name(name: str, product: Product | None) -> None:
    assert product_of_name(name) is product

"""Whatever the bytes, an agreement parses or there is one line of `AgreementError`; and what is rendered reads back."""

import runpy
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.reference_values import Covers, IdBlock, SnpReferenceValues
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.reference_values import REVOCATIONS
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from protocol.agreement import Agreement, AgreementError
from protocol.agreement_render import render_silo
from protocol.agreement_toml import toml_string

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
GOOD: bytes = EXAMPLES["good_agreement"]().encode()
TOKENS = (
    b"nan",
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1e999",
    b"0x7fffffffffffffff",
    b"1979-05-27",
    b"[[a]]",
    b"a.b.c=1",
    b"\n",
)


def parse_or_one_line(data: bytes) -> None:
    try:
        agreement = Agreement.parse(data, "federation.toml")
    except AgreementError as error:
        line = str(error)
    else:
        assert agreement.source == data
        assert agreement.cohort_is_sufficient([silo.name for silo in agreement.silos])
        return
    assert line.startswith("federation.toml: ")
    assert line.isprintable()


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_bytes(data: bytes) -> None:
    parse_or_one_line(data)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_arbitrary_text(text: str) -> None:
    parse_or_one_line(text.encode("utf-8", "surrogatepass"))


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 40),
    st.one_of(st.binary(max_size=4), st.sampled_from(TOKENS)),
)
@settings(deadline=None)
def test_a_good_agreement_with_a_stretch_replaced(start: int, length: int, instead: bytes) -> None:
    parse_or_one_line(GOOD[:start] + instead + GOOD[start + length :])


@given(st.sampled_from(GOOD.split(b"\n")), st.sampled_from(TOKENS))
@settings(deadline=None)
def test_a_good_agreement_with_a_value_replaced(line: bytes, instead: bytes) -> None:
    key, equals, _ = line.partition(b" = ")
    parse_or_one_line(GOOD.replace(line, key + equals + instead, 1))


@given(st.text(max_size=60))
@settings(deadline=None)
def test_strings_are_escaped_right(text: str) -> None:
    import tomli

    assert tomli.loads(f"key = {toml_string(text)}")["key"] == text


@st.composite
def reference_values(draw: st.DrawFn) -> SnpReferenceValues:
    products = draw(st.lists(st.sampled_from(Product), min_size=1, unique=True))
    signing_keys = draw(st.lists(st.sampled_from(SigningKey), min_size=1, unique=True))
    number = st.integers(0, 255)
    text = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
    vlek = SigningKey.VLEK in signing_keys
    return SnpReferenceValues(
        tee=Tee.SIMULATED,
        products=tuple(products),
        measurements=tuple(draw(st.lists(st.binary(min_size=48, max_size=48), min_size=1, max_size=3, unique=True))),
        minimum_tcb=tuple(
            TcbVersion(
                product=product,
                bootloader=draw(number),
                tee=draw(number),
                snp=draw(number),
                microcode=draw(number),
                fmc=draw(number) if product is Product.TURIN else None,
            )
            for product in products
        ),
        covers=draw(st.sampled_from(Covers)),
        revocation=draw(st.sampled_from(REVOCATIONS)),
        provisional_firmware=draw(st.booleans()),
        policies=tuple(draw(st.lists(st.sampled_from((0x20000, 0x30000, 0x30136)), min_size=1, unique=True))),
        platform_required=tuple(draw(st.lists(st.sampled_from(PlatformFlag), unique=True))),
        mitigations_required=draw(st.integers(0, 2**53 - 1)),
        vmpl=draw(st.integers(0, 3)),
        signing_keys=tuple(signing_keys),
        csp_ids=tuple(draw(st.lists(text, min_size=1, max_size=2, unique=True))) if vlek else (),
        chip_ids=draw(
            st.one_of(
                st.just("any"),
                st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=2, unique=True).map(tuple),
            )
        ),
        host_data=draw(st.binary(min_size=32, max_size=32)),
        id_block=draw(
            st.none()
            | st.builds(
                IdBlock,
                id_key_digest=st.binary(min_size=48, max_size=48).filter(any),
                author_key_digest=st.binary(min_size=48, max_size=48),
                family_id=st.binary(min_size=16, max_size=16),
                image_id=st.binary(min_size=16, max_size=16),
                minimum_guest_svn=st.integers(0, 2**32 - 1),
            )
        ),
    )


@given(st.lists(reference_values(), min_size=1, max_size=2), st.floats(1e-6, 3.0))
@settings(deadline=None)
def test_a_rendered_silo_reads_back(tees: list[SnpReferenceValues], weight: float) -> None:
    base = Agreement.parse(GOOD, "f").silos[0]
    block = render_silo(
        name=base.name,
        owner=base.owner,
        jurisdiction=base.jurisdiction,
        identity=base.identity,
        weight=weight,
        tees=tuple(tees),
    )
    head, _, rest = GOOD.decode().partition("[[silo]]")
    others = rest[rest.index("[[silo]]") :]
    silo = Agreement.parse((head + block + others).encode(), "f").silos[0]
    assert silo.tees == tuple(tees)
    assert silo.weight == weight

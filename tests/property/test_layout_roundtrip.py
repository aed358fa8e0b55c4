"""Layouts round-trip, chunks tile them without gap or overlap, and no bytes raise anything but `MalformedError`."""

import contextlib

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol.errors import MalformedError
from protocol.layout import CHUNK_COORDINATES, FLOATS, INTEGERS, Layout, Role, Section, Tensor


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    names = draw(
        st.lists(
            st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    tensors: list[Tensor] = []
    for name in names:
        originals = [tensor for tensor in tensors if tensor.alias is None]
        if originals and draw(st.booleans()):
            target = draw(st.sampled_from(originals))
            tensors.append(
                Tensor(name=name, shape=target.shape, dtype=target.dtype, role=target.role, alias=target.name)
            )
            continue
        role = draw(st.sampled_from(Role))
        dtype = draw(st.sampled_from(FLOATS if role is not Role.BUFFER else FLOATS + INTEGERS))
        shape = draw(st.lists(st.sampled_from((0, 1, 2, 3, 511, 513)), max_size=3).map(tuple))
        tensors.append(Tensor(name=name, shape=shape, dtype=dtype, role=role))
    assume(any(t.role is Role.PARAMETER and t.coordinates for t in tensors))
    return Layout(tensors=tuple(tensors))


@given(layouts())
@settings(deadline=None)
def test_layouts_round_trip(layout: Layout) -> None:
    again = Layout.parse(layout.encode())
    assert again == layout
    assert again.encode() == layout.encode()
    assert again.digest == layout.digest


@given(layouts())
@settings(deadline=None)
def test_chunks_tile_every_section(layout: Layout) -> None:
    covered = dict.fromkeys(Section, 0)
    order = list(Section)
    last = 0
    for index, chunk in enumerate(layout.chunks):
        assert chunk == layout.chunks[index]
        assert chunk.index == index
        assert chunk.start == covered[chunk.section]
        assert 0 < chunk.coordinates <= CHUNK_COORDINATES
        assert order.index(chunk.section) >= last
        last = order.index(chunk.section)
        covered[chunk.section] += chunk.coordinates
    assert covered == {section: layout.coordinates(section) for section in Section}


@given(layouts())
@settings(deadline=None)
def test_offsets_tile_every_section(layout: Layout) -> None:
    for section in Section:
        end = 0
        for tensor, offset in layout.tensors_in(section):
            assert offset == end
            end += tensor.coordinates
        assert end == layout.coordinates(section)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_bytes(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        Layout.parse(data)


@given(layouts(), st.data())
@settings(deadline=None)
def test_a_layout_with_a_stretch_replaced(layout: Layout, data: st.DataObject) -> None:
    encoded = layout.encode()
    start = data.draw(st.integers(0, len(encoded)))
    length = data.draw(st.integers(0, 12))
    instead = data.draw(
        st.one_of(
            st.binary(max_size=4), st.sampled_from((b"null", b"[]", b"{}", b"-1", b"9" * 20, b"1e5", b'"\\ud800"'))
        )
    )
    changed = encoded[:start] + instead + encoded[start + length :]
    try:
        parsed = Layout.parse(changed)
    except MalformedError:
        return
    assert parsed.encode() == changed

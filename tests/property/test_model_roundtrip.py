"""A module's sections and state dict are the same values, whatever the module is made of."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from protocol.layout import Layout, Section
from silo_client.initial_model import encode_initial_model, read_initial_model
from silo_client.model import (
    allocate_sections,
    chunk_view,
    content_digest_of,
    layout_of,
    parameter_views,
    sections_of,
    state_dict_from,
)

torch.set_num_threads(1)


class Odd(nn.Module):
    """Scalars, empty tensors, and buffers of every kind, one of them not persistent."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.nothing = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("bytes", torch.tensor([0, 255], dtype=torch.uint8))
        self.register_buffer("steps", torch.tensor(2**40 + 1))
        self.register_buffer("statistics", torch.tensor([1.5, -2.0], dtype=torch.float16))
        self.register_buffer("scratch", torch.ones(4), persistent=False)


class Tied(nn.Module):
    """An embedding whose weights are also the output layer's, and a layer that stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embedding.weight
        self.first = nn.Linear(2, 2)
        self.second = self.first


def frozen() -> nn.Module:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    return layer


PARTS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(3, 4),
    lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last),
    lambda: nn.BatchNorm1d(6),
    lambda: nn.BatchNorm2d(2, affine=False),
    lambda: nn.LSTM(2, 3),
    lambda: nn.Linear(4, 4).to(torch.bfloat16),
    lambda: nn.LayerNorm(5).to(torch.float16),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    Odd,
    Tied,
    frozen,
)


def build(parts: list[int]) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 1), *(PARTS[part]() for part in parts))


def scramble(module: nn.Module) -> None:
    with torch.no_grad():
        for values in module.state_dict().values():
            if values.dtype is torch.bool:
                values.random_(0, 2)
            elif values.is_floating_point():
                values.normal_()
            else:
                values.random_(0, 100)


modules = st.lists(st.integers(0, len(PARTS) - 1), max_size=5)


@given(modules)
@settings(deadline=None, max_examples=60)
def test_sections_of_and_state_dict_from_are_inverse(parts: list[int]) -> None:
    module, other = build(parts), build(parts)
    scramble(module)
    scramble(other)
    layout = layout_of(module)
    assert layout_of(other) == layout
    sections = sections_of(module, layout)
    state = state_dict_from(layout, sections)

    expected = module.state_dict()
    assert list(state) == list(expected)
    for name, values in expected.items():
        assert state[name].dtype is values.dtype
        assert torch.equal(state[name], values)

    other.load_state_dict(state)
    again = sections_of(other, layout)
    assert {s: again[s].numpy().tobytes() for s in Section} == {s: sections[s].numpy().tobytes() for s in Section}
    assert content_digest_of(layout, again) == content_digest_of(layout, sections)


@given(modules)
@settings(deadline=None, max_examples=30)
def test_views_name_the_trainable_parameters_that_an_optimizer_sees(parts: list[int]) -> None:
    module = build(parts)
    layout = layout_of(module)
    flat = sections_of(module, layout)[Section.PARAMETERS]
    views = parameter_views(layout, flat)
    trainable = {name: values for name, values in module.named_parameters() if values.requires_grad}
    assert set(views) == set(trainable)
    for name, values in trainable.items():
        assert torch.equal(views[name], values.detach().float())
    for view in views.values():
        view.fill_(7.0)
    assert torch.equal(flat, torch.full_like(flat, 7.0))


@given(modules)
@settings(deadline=None, max_examples=30)
def test_chunk_bytes_put_a_model_together_again(parts: list[int]) -> None:
    module = build(parts)
    layout = Layout.parse(layout_of(module).encode())
    sections = sections_of(module, layout)
    copied = allocate_sections(layout)
    for chunk in layout.chunks:
        source, target = chunk_view(layout, chunk, sections), chunk_view(layout, chunk, copied)
        assert len(source) == chunk.size_bytes
        target[:] = source
    assert all(torch.equal(copied[section], sections[section]) for section in Section)


@given(modules)
@settings(deadline=None, max_examples=20)
def test_the_initial_model_file_holds_the_model(parts: list[int]) -> None:
    import tempfile
    from pathlib import Path

    module = build(parts)
    layout = layout_of(module)
    sections = sections_of(module, layout)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "initial.safetensors"
        path.write_bytes(encode_initial_model(layout, sections))
        read = read_initial_model(path, layout, content_digest_of(layout, sections))
    assert all(torch.equal(read[section], sections[section]) for section in Section)

"""What a module becomes, what is refused, and what may not share memory."""

from pathlib import Path

import pytest
import torch
from torch import nn

from protocol.layout import CHUNK_COORDINATES, Chunk, Role, Section
from silo_client.initial_model import encode_initial_model, read_initial_model
from silo_client.model import (
    ModelError,
    allocate_sections,
    chunk_view,
    content_digest_of,
    layout_of,
    parameter_views,
    sections_from_state_dict,
    sections_of,
    state_dict_from,
)

torch.set_num_threads(1)


def with_parameter(values: torch.Tensor, requires_grad: bool = True) -> nn.Module:
    module = nn.Linear(1, 1)
    module.extra = nn.Parameter(values, requires_grad=requires_grad)
    return module


def with_buffer(values: torch.Tensor) -> nn.Module:
    module = nn.Linear(1, 1)
    module.register_buffer("extra", values)
    return module


class ExtraState(nn.Linear):
    def get_extra_state(self) -> object:
        return {"epoch": 3}


class Hidden(nn.Linear):
    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight


def test_batch_norm_has_a_parameter_a_mean_and_a_maximum() -> None:
    layout = layout_of(nn.BatchNorm1d(3))
    assert [(t.name, t.section) for t in layout.tensors] == [
        ("weight", Section.PARAMETERS),
        ("bias", Section.PARAMETERS),
        ("running_mean", Section.FLOAT_BUFFERS),
        ("running_var", Section.FLOAT_BUFFERS),
        ("num_batches_tracked", Section.INTEGER_BUFFERS),
    ]


def test_tied_weights_are_counted_once() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    layout = layout_of(module)
    assert [(t.name, t.alias) for t in layout.tensors] == [("0.weight", None), ("1.weight", "0.weight")]
    assert layout.coordinates(Section.PARAMETERS) == 4


def test_frozen_parameters_are_kept_apart() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    layout = layout_of(module)
    assert [t.role for t in layout.tensors] == [Role.FROZEN, Role.FROZEN, Role.PARAMETER, Role.PARAMETER]
    assert [chunk.section for chunk in layout.update_chunks] == [Section.PARAMETERS]
    assert set(sections_of(module, layout, only=[Section.PARAMETERS])) == {Section.PARAMETERS}


def test_a_model_on_the_meta_device_has_a_layout_and_no_values() -> None:
    with torch.device("meta"):
        module = nn.Linear(10, 10)
    layout = layout_of(module)
    assert layout == layout_of(nn.Linear(10, 10))
    with pytest.raises(
        ModelError, match=r"^model: tensor 'weight': expected values, found a tensor on the meta device$"
    ):
        sections_of(module, layout)


DTYPES = "float32, float16, bfloat16, bool, uint8, int8, int16, int32, int64"


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (
            with_parameter(torch.zeros(2, dtype=torch.float64)),
            f"model: parameter 'extra': expected one of {DTYPES}, found float64; convert it, e.g. with model.float()",
        ),
        (
            with_buffer(torch.zeros(2, dtype=torch.float64)),
            f"model: buffer 'extra': expected one of {DTYPES}, found float64; convert it, e.g. with model.float()",
        ),
        (
            with_parameter(torch.zeros(2, dtype=torch.complex64)),
            f"model: parameter 'extra': expected one of {DTYPES}, found complex64; keep it outside the model",
        ),
        (
            with_buffer(torch.eye(2).to_sparse()),
            f"model: buffer 'extra': expected one of {DTYPES}, found a sparse tensor; keep it outside the model",
        ),
        (
            with_parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False),
            (
                "model: layout: tensor 'extra' dtype: expected one of float32, float16, bfloat16, bool, uint8, int8, "
                "int16 in role frozen, found int64"
            ),
        ),
        (
            nn.Sequential(nn.LazyLinear(3)),
            "model: '0.weight': expected a shape, found a lazy layer; run one batch through the model first",
        ),
        (
            ExtraState(1, 1),
            (
                "model: '_extra_state' in state_dict(): expected a parameter or a buffer, found neither "
                "(extra state or a hook); keep it outside the model"
            ),
        ),
        (Hidden(1, 1), "model: expected every parameter in state_dict(), found 'bias' left out"),
        (nn.ReLU(), "model: layout: expected 1 to 100000 tensors, found 0"),
        (
            nn.Linear(1, 1).requires_grad_(False),
            "model: layout: expected at least one trainable coordinate, found none",
        ),
    ],
    ids=["float64", "float64-buffer", "complex", "sparse", "frozen-int", "lazy", "extra", "hidden", "empty", "frozen"],
)
def test_a_module_that_cannot_be_federated(module: nn.Module, error: str) -> None:
    with pytest.raises(ModelError) as caught:
        layout_of(module)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (
            nn.Linear(3, 2),
            "model: expected parameter 'weight' float32 [2, 2], found parameter 'weight' float32 [2, 3]",
        ),
        (
            nn.Linear(2, 2).to(torch.bfloat16),
            "model: expected parameter 'weight' float32 [2, 2], found parameter 'weight' bfloat16 [2, 2]",
        ),
        (
            nn.Sequential(nn.Linear(2, 2)),
            "model: expected parameter 'weight' float32 [2, 2], found parameter '0.weight' float32 [2, 2]",
        ),
        (nn.Linear(2, 2, bias=False), "model: expected 2 tensors, found 1"),
    ],
)
def test_another_module_than_the_layouts(module: nn.Module, error: str) -> None:
    with pytest.raises(ModelError) as caught:
        sections_of(module, layout_of(nn.Linear(2, 2)))
    assert str(caught.value) == f"{error}; hand over the module that the agreement was made for, without a wrapper"


def test_freezing_a_layer_midway_is_noticed() -> None:
    module = nn.Linear(2, 2)
    layout = layout_of(module)
    module.bias.requires_grad_(False)
    with pytest.raises(ModelError, match=r"expected parameter 'bias' float32 \[2\], found frozen 'bias' float32 \[2\]"):
        sections_of(module, layout)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"weight": torch.zeros(2, 2)}, "model: expected a tensor 'bias', found none of this name"),
        (
            {"weight": torch.zeros(2, 2), "bias": torch.zeros(2), "more": torch.zeros(1)},
            "model: expected the layout's tensors only, found 'more'",
        ),
        (
            {"weight": torch.zeros(2, 2), "bias": torch.zeros(2, dtype=torch.float64)},
            "model: tensor 'bias': expected float32 [2], found float64 [2]",
        ),
        (
            {"weight": torch.zeros(4), "bias": torch.zeros(2)},
            "model: tensor 'weight': expected float32 [2, 2], found float32 [4]",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit(state: dict[str, torch.Tensor], error: str) -> None:
    with pytest.raises(ModelError) as caught:
        sections_from_state_dict(layout_of(nn.Linear(2, 2)), state)
    assert str(caught.value) == error


def test_training_a_loaded_model_leaves_the_sections_alone() -> None:
    module = nn.Linear(2, 2)
    layout = layout_of(module)
    sections = sections_of(module, layout)
    before = sections[Section.PARAMETERS].clone()
    module.load_state_dict(state_dict_from(layout, sections), assign=True)
    with torch.no_grad():
        module.weight.add_(1.0)
    assert torch.equal(sections[Section.PARAMETERS], before)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.bool, 2), (torch.uint8, -1), (torch.uint8, 256), (torch.int8, 128), (torch.int32, 2**31)],
)
def test_an_integer_beyond_its_dtype_is_refused(dtype: torch.dtype, value: int) -> None:
    layout = layout_of(with_buffer(torch.zeros(1, dtype=dtype)))
    sections = allocate_sections(layout)
    sections[Section.INTEGER_BUFFERS][0] = value
    with pytest.raises(ModelError, match=r"^model: buffer 'extra': expected integers of \w+, found others$"):
        state_dict_from(layout, sections)


@pytest.mark.parametrize(
    "flat",
    [torch.zeros(5), torch.zeros(6, dtype=torch.float64), torch.zeros(12)[::2], torch.zeros(2, 3)],
    ids=["short", "float64", "strided", "two-dimensional"],
)
def test_a_vector_that_is_not_the_sections(flat: torch.Tensor) -> None:
    layout = layout_of(nn.Linear(2, 2))
    expected = r"^model: section parameters: expected a contiguous CPU vector of 6 float32, found"
    with pytest.raises(ModelError, match=expected):
        parameter_views(layout, flat)
    with pytest.raises(ModelError, match=expected):
        chunk_view(layout, layout.chunks[0], {Section.PARAMETERS: flat})


def test_a_chunk_is_little_endian_and_writes_through() -> None:
    layout = layout_of(nn.BatchNorm1d(2))
    sections = allocate_sections(layout)
    sections[Section.PARAMETERS][0] = 1.0
    sections[Section.INTEGER_BUFFERS][0] = 258
    first, last = chunk_view(layout, layout.chunks[0], sections), chunk_view(layout, layout.chunks[-1], sections)
    assert bytes(first) == bytes.fromhex("0000803f") + bytes(12)
    assert bytes(last) == bytes.fromhex("0201000000000000")
    first[12:16] = bytes.fromhex("00000040")
    assert sections[Section.PARAMETERS].tolist() == [1.0, 0.0, 0.0, 2.0]


def test_a_chunk_of_another_layout_is_refused() -> None:
    layout = layout_of(nn.Linear(2, 2))
    chunk = Chunk(index=0, section=Section.PARAMETERS, start=0, coordinates=CHUNK_COORDINATES)
    with pytest.raises(ModelError, match="chunk 0: expected one of this layout"):
        chunk_view(layout, chunk, allocate_sections(layout))


def test_content_digest_changes_with_any_coordinate() -> None:
    layout = layout_of(nn.BatchNorm1d(2))
    sections = allocate_sections(layout)
    digests = {content_digest_of(layout, sections)}
    for section in (Section.PARAMETERS, Section.FLOAT_BUFFERS, Section.INTEGER_BUFFERS):
        for i in range(layout.coordinates(section)):
            changed = {key: values.clone() for key, values in sections.items()}
            changed[section][i] = 1
            digests.add(content_digest_of(layout, changed))
    assert len(digests) == 1 + 4 + 4 + 1


def test_initial_model_of_another_digest_is_refused(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    layout = layout_of(module)
    sections = sections_of(module, layout)
    path = tmp_path / "initial.safetensors"
    path.write_bytes(encode_initial_model(layout, sections))
    found = content_digest_of(layout, sections).hex()
    with pytest.raises(ModelError) as caught:
        read_initial_model(path, layout, b"\x01" * 32)
    assert str(caught.value) == (
        f"{path}: expected the agreement's initial model sha256:{'01' * 32}, found sha256:{found}"
    )


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"\xff" * 100, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_file_that_is_no_initial_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "initial.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        read_initial_model(path, layout_of(nn.Linear(2, 2)), b"\x01" * 32)


def test_a_missing_initial_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a safetensors file, found an error: "):
        read_initial_model(tmp_path / "none", layout_of(nn.Linear(2, 2)), b"\x01" * 32)

"""A torch module as its layout and its flat sections, and back.

The one place where names in a module meet coordinates in a vector. Everything goes by name, never by zipping
`parameters()` with `state_dict()`: the two disagree as soon as there are buffers, tied weights or frozen layers.
Trusts the module (it is the silo's own). The silo's session, the CLI's `agreement model` and the simulation call it.

A section is a contiguous one-dimensional CPU tensor, float32 or, for `INTEGER_BUFFERS`, int64.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

import torch
from torch import Tensor, nn

from protocol.errors import MalformedError, ProtocolError
from protocol.layout import Chunk, Layout, Role, Section, content_digest
from protocol.layout import Tensor as TensorLayout

Sections: TypeAlias = Mapping[Section, Tensor]

_DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
}
_TORCH_DTYPES = {name: dtype for dtype, name in _DTYPES.items()}

if sys.byteorder != "little":
    raise ImportError(
        "silo_client.model: chunks are little-endian and taken from memory as they are: expected such a CPU"
    )


class ModelError(ProtocolError):
    """A module that can't be federated, or one that is not the module of its layout; the message says what to do."""


def layout_of(module: nn.Module) -> Layout:
    """The layout of a module: the tensors of its `state_dict()`, in that order.

    Parameters that need gradients are trained, others frozen. Of the buffers only persistent ones count. A tensor that
    appears under several names (tied weights) is an alias of its first. Raises `ModelError` for what a federation can't
    carry: float64, complex and quantised tensors, uninitialised lazy layers, extra state.
    """
    try:
        return Layout(tensors=tuple(_tensor_layouts(module)))
    except MalformedError as error:
        raise ModelError(f"model: {error}") from error


def allocate_sections(layout: Layout, only: Collection[Section] = tuple(Section)) -> dict[Section, Tensor]:
    """Zeroed vectors for the given sections."""
    return {
        section: torch.zeros(layout.coordinates(section), dtype=_section_dtype(section))
        for section in Section
        if section in only
    }


def sections_of(module: nn.Module, layout: Layout, only: Collection[Section] = tuple(Section)) -> dict[Section, Tensor]:
    """The module's values as new flat vectors, copied to the CPU. Raises `ModelError` unless it has this layout."""
    found = layout_of(module)
    if found != layout:
        raise ModelError(_first_difference(layout, found))
    return sections_from_state_dict(layout, module.state_dict(), only)


def sections_from_state_dict(
    layout: Layout, state: Mapping[str, Tensor], only: Collection[Section] = tuple(Section)
) -> dict[Section, Tensor]:
    """A state dict's values as new flat vectors; aliases may be missing from it.

    Raises `ModelError` for a name that is missing or unknown, or another shape or dtype.
    """
    names = {tensor.name for tensor in layout.tensors}
    if unknown := sorted(set(state) - names):
        raise ModelError(f"model: expected the layout's tensors only, found {unknown[0]!r}")
    sections = allocate_sections(layout, only)
    for section, flat in sections.items():
        for tensor, offset in layout.tensors_in(section):
            values = state.get(tensor.name)
            if values is None:
                raise ModelError(f"model: expected a tensor {tensor.name!r}, found none of this name")
            if tuple(values.shape) != tensor.shape or _DTYPES.get(values.dtype) != tensor.dtype:
                raise ModelError(
                    f"model: tensor {tensor.name!r}: expected {tensor.dtype} {list(tensor.shape)}, "
                    f"found {_dtype_name(values.dtype)} {list(values.shape)}"
                )
            if values.is_meta:
                raise ModelError(f"model: tensor {tensor.name!r}: expected values, found a tensor on the meta device")
            flat[offset : offset + tensor.coordinates].view(tensor.shape).copy_(values.detach())
    return sections


def state_dict_from(layout: Layout, sections: Sections) -> dict[str, Tensor]:
    """What `module.load_state_dict` takes: every name, aliases included, in the original shapes and dtypes.

    The tensors are copies, so that training can't reach the sections. Values are rounded to the narrower floats.
    Raises `ModelError` for an integer that its dtype can't hold.
    """
    _check_sections(layout, sections, tuple(Section))
    state: dict[str, Tensor] = {}
    for section in Section:
        for tensor, offset in layout.tensors_in(section):
            flat = sections[section][offset : offset + tensor.coordinates]
            state[tensor.name] = _narrowed(flat, tensor).view(tensor.shape)
    return {tensor.name: state[tensor.alias or tensor.name] for tensor in layout.tensors}


def parameter_views(layout: Layout, flat: Tensor) -> dict[str, Tensor]:
    """A vector over `PARAMETERS` as one view a parameter, by name and in its shape; writing to one writes the vector.

    Tied parameters have one entry, under their first name.
    """
    _check_vector(layout, Section.PARAMETERS, flat)
    return {
        tensor.name: flat[offset : offset + tensor.coordinates].view(tensor.shape)
        for tensor, offset in layout.tensors_in(Section.PARAMETERS)
    }


def chunk_view(layout: Layout, chunk: Chunk, sections: Sections) -> memoryview:
    """The little-endian bytes of one chunk, without a copy; writing to them writes the section."""
    _check_sections(layout, sections, (chunk.section,))
    values = sections[chunk.section][chunk.start : chunk.start + chunk.coordinates]
    if values.numel() != chunk.coordinates:
        raise ModelError(f"model: chunk {chunk.index}: expected one of this layout, found one of another")
    return values.detach().numpy().data.cast("B")


def content_digest_of(layout: Layout, sections: Sections) -> bytes:
    """The content digest (32 bytes) by which the agreement and the log name a model."""
    return content_digest(
        layout.digest, [sha256(chunk_view(layout, chunk, sections)).digest() for chunk in layout.chunks]
    )


def _tensor_layouts(module: nn.Module) -> Sequence[TensorLayout]:
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    state = module.state_dict(keep_vars=True)
    if missing := [name for name in parameters if name not in state]:
        raise ModelError(f"model: expected every parameter in state_dict(), found {missing[0]!r} left out")
    first_names: dict[int, str] = {}
    tensors = []
    for name, values in state.items():
        if name not in parameters and name not in buffers:
            raise ModelError(
                f"model: {name!r} in state_dict(): expected a parameter or a buffer, found neither (extra state or a "
                "hook); keep it outside the model"
            )
        if nn.parameter.is_lazy(values):
            raise ModelError(
                f"model: {name!r}: expected a shape, found a lazy layer; run one batch through the model first"
            )
        role = Role.BUFFER
        if name in parameters:
            role = Role.PARAMETER if values.requires_grad else Role.FROZEN
        alias = first_names.setdefault(id(values), name)
        tensors.append(
            TensorLayout(
                name=name,
                shape=tuple(values.shape),
                dtype=_layout_dtype(name, values, role),
                role=role,
                alias=None if alias == name else alias,
            )
        )
    return tensors


def _layout_dtype(name: str, values: Tensor, role: Role) -> str:
    dtype = _DTYPES.get(values.dtype)
    if dtype is None or values.is_sparse or values.is_quantized:
        found = "a sparse tensor" if values.is_sparse else _dtype_name(values.dtype)
        remedy = "convert it, e.g. with model.float()" if values.dtype is torch.float64 else "keep it outside the model"
        raise ModelError(
            f"model: {role} {name!r}: expected one of {', '.join(_DTYPES.values())}, found {found}; {remedy}"
        )
    return dtype


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _section_dtype(section: Section) -> torch.dtype:
    return torch.int64 if section is Section.INTEGER_BUFFERS else torch.float32


def _narrowed(flat: Tensor, tensor: TensorLayout) -> Tensor:
    dtype = _TORCH_DTYPES[tensor.dtype]
    if tensor.section is Section.INTEGER_BUFFERS and flat.numel():
        lowest, highest = (0, 1) if dtype is torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        if int(flat.min()) < lowest or int(flat.max()) > highest:
            raise ModelError(f"model: buffer {tensor.name!r}: expected integers of {tensor.dtype}, found others")
    return flat.to(dtype, copy=True)


def _check_sections(layout: Layout, sections: Sections, wanted: Collection[Section]) -> None:
    for section in wanted:
        if section not in sections:
            raise ModelError(f"model: expected a vector for section {section}, found none")
        _check_vector(layout, section, sections[section])


def _check_vector(layout: Layout, section: Section, flat: Tensor) -> None:
    dtype, length = _section_dtype(section), layout.coordinates(section)
    if flat.dtype is not dtype or flat.shape != (length,) or not flat.is_contiguous() or flat.device.type != "cpu":
        raise ModelError(
            f"model: section {section}: expected a contiguous CPU vector of {length} {_dtype_name(dtype)}, "
            f"found {_dtype_name(flat.dtype)} {list(flat.shape)} on {flat.device}"
        )


def _first_difference(layout: Layout, found: Layout) -> str:
    remedy = "hand over the module that the agreement was made for, without a wrapper"
    for ours, theirs in zip(layout.tensors, found.tensors, strict=False):
        if ours != theirs:
            return f"model: expected {_described(ours)}, found {_described(theirs)}; {remedy}"
    return f"model: expected {len(layout.tensors)} tensors, found {len(found.tensors)}; {remedy}"


def _described(tensor: TensorLayout) -> str:
    alias = f" (tied to {tensor.alias!r})" if tensor.alias else ""
    return f"{tensor.role} {tensor.name!r} {tensor.dtype} {list(tensor.shape)}{alias}"

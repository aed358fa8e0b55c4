"""The initial model as a file, `initial.safetensors`, that travels beside the agreement.

The agreement names its content digest, so that the file needs no trust: reading it checks the digest. Tied weights are
stored once. `strongroom agreement model` writes it; the first admitted silo reads and uploads it.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from protocol.fields import format_digest
from protocol.layout import Layout, Section
from silo_client.model import ModelError, Sections, content_digest_of, sections_from_state_dict, state_dict_from


def encode_initial_model(layout: Layout, sections: Sections) -> bytes:
    """The file's bytes: safetensors in the original dtypes, aliases left out. The same model gives the same bytes."""
    state = state_dict_from(layout, sections)
    return save({tensor.name: state[tensor.name] for tensor in layout.tensors if tensor.alias is None})


def read_initial_model(path: Path, layout: Layout, content: bytes) -> dict[Section, Tensor]:
    """The file's values as flat sections, once their content digest (32 bytes) is the one that the agreement names.

    Raises `ModelError` if the file can't be read, is not safetensors, has other tensors, or another digest.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: expected a safetensors file, found an error: {error}") from error
    sections = sections_from_state_dict(layout, state)
    found = content_digest_of(layout, sections)
    if found != content:
        raise ModelError(
            f"{path}: expected the agreement's initial model {format_digest(content)}, found {format_digest(found)}"
        )
    return sections

"""Imports point one way (DESIGN §3), and the heavy or dangerous ones stand only where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("attestation", "protocol", "audit", "appliance", "silo_client", "strongroom", "demo")
ALLOWED = {
    "attestation": {"attestation"},
    "protocol": {"protocol", "attestation"},
    "audit": {"audit", "attestation", "protocol"},
    "appliance.enclave": {"appliance.enclave", "attestation", "protocol", "audit"},
    "appliance.gateway": {"appliance.gateway", "appliance.config", "protocol", "audit"},
    "appliance": {"appliance", "protocol", "audit.store"},
    "silo_client": {"silo_client", "attestation", "protocol", "audit"},
    "strongroom": set(OURS),
    "demo": {"demo", "strongroom"},
}
HEAVY = {"torch", "numpy", "grpc", "google", "safetensors"}
# Where a heavy import may stand at all; a lazy import inside a function counts as well.
MAY_IMPORT = {
    "attestation": set(),
    "protocol": set(),
    "protocol.wire": {"grpc", "google"},
    "audit": set(),
    "appliance.enclave": {"torch", "numpy", "grpc", "google"},
    "appliance.gateway": {"grpc", "google"},
    "appliance": {"grpc", "google"},
    "silo_client": HEAVY,
    "strongroom": HEAVY,
    "demo": HEAVY,
}
BANNED = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level
            elif node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rule(module: str, table: dict[str, set[str]]) -> set[str]:
    """The entry of the longest package in `table` that holds the module."""
    name = module
    while name not in table:
        name = name.rpartition(".")[0]
    return table[name]


MODULES = list(modules())


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_a_module_imports_only_from_its_own_layer_and_below(module: str, path: Path) -> None:
    allowed = rule(module, ALLOWED)
    for name in imports(path):
        assert not name.startswith("."), f"{module}: relative imports hide the layer"
        if name.split(".")[0] in OURS:
            inside = any(name == package or name.startswith(package + ".") for package in allowed)
            assert inside, f"{module} imports {name}; it may import {sorted(allowed)}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_heavy_libraries_stand_only_where_they_belong(module: str, path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)} & HEAVY
    assert found <= rule(module, MAY_IMPORT), f"{module} imports {sorted(found)}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_nothing_unpickles(module: str, path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & BANNED, module
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("torch", "load"), f"{module}: torch.load"


def test_no_assert_guards_anything_outside_tests() -> None:
    for module, path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}: `python -O` would drop this check"


def test_files_stay_readable_on_their_own() -> None:
    for module, path in MODULES:
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
            lines = len(path.read_text().splitlines())
            assert lines <= 420, f"{module} has {lines} lines: something in it wants a name of its own"


def test_no_module_is_named_for_nothing() -> None:
    for module, _ in MODULES:
        assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "helper", "common", "misc"}, module

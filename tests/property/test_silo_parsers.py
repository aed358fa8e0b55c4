"""Whatever bytes reach a silo, from the network or from its own disk, it raises its own errors and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from silo_appliance import FakeAppliance, example, silo_machine

from audit.store import MemoryStore
from protocol.errors import ProtocolError
from protocol.keys import SigningKey
from protocol.session import WantInitial
from silo_client.config import SiloConfig, SiloConfigError
from silo_client.identity import encode_identity, parse_identity
from silo_client.machine import SiloMachine
from silo_client.state import SiloState, StateError

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
APPLIANCE = FakeAppliance(*example())
MACHINE = silo_machine(APPLIANCE.agreement, MemoryStore())
APPLIANCE.enrol(MACHINE)
APPLIANCE.append(APPLIANCE.opened())
MESSAGES = (
    APPLIANCE.announcement(0),
    APPLIANCE.cosign_request(0),
    WantInitial(digest=APPLIANCE.agreement.model.initial).encode(),
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.text(max_size=20),
    st.binary(max_size=20).map(lambda data: data.hex()),
    st.just("sha256:" + "00" * 32),
    st.just([]),
    st.just({}),
)


def fresh() -> SiloMachine:
    """An enrolled machine with a state of its own."""
    machine = silo_machine(APPLIANCE.agreement, MemoryStore())
    machine.admitted(APPLIANCE.admit(machine.welcome(APPLIANCE.welcome(machine.hello()))))
    return machine


def survives(machine: SiloMachine, message: bytes) -> None:
    before = machine.state.head
    try:
        machine.handle(message)
    except ProtocolError:
        # A message that is refused leaves the head where it was.
        assert machine.state.head == before


@FEW
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for take in (MACHINE.handle, _welcome, _admitted):
        with pytest.raises(ProtocolError):
            take(data)


def _welcome(data: bytes) -> None:
    MACHINE.hello()
    MACHINE.welcome(data)


def _admitted(data: bytes) -> None:
    MACHINE.welcome(APPLIANCE.welcome(MACHINE.hello()))
    MACHINE.admitted(data)


@FEW
@given(st.sampled_from(MESSAGES), st.data())
def test_a_good_message_with_a_changed_byte(message: bytes, data: st.DataObject) -> None:
    changed = bytearray(message)
    changed[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    survives(fresh(), bytes(changed))


@FEW
@given(st.sampled_from(MESSAGES), st.data())
def test_a_good_message_with_a_changed_value(message: bytes, data: st.DataObject) -> None:
    """Well-formed JSON with one value, at any depth, replaced by another."""
    value = json.loads(message)
    places = list(_places(value))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(VALUES)
    survives(fresh(), rfc8785.dumps(value))


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@FEW
@given(st.data())
def test_a_changed_welcome_is_never_answered(data: st.DataObject) -> None:
    machine = silo_machine(APPLIANCE.agreement, MemoryStore())
    changed = bytearray(APPLIANCE.welcome(machine.hello()))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError):
        machine.welcome(bytes(changed))


@FEW
@given(st.binary(max_size=200))
def test_a_state_of_any_bytes(data: bytes) -> None:
    store = MemoryStore()
    store.write(f"{APPLIANCE.agreement.digest.hex()[:32]}/state.json", data)
    with pytest.raises(StateError):
        SiloState.open(store, agreement=APPLIANCE.agreement.digest, silo="silo-0")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_a_config_of_any_bytes(data: bytes) -> None:
    with pytest.raises(SiloConfigError) as error:
        SiloConfig.parse(data, Path("silo.toml"))
    assert "\n" not in str(error.value)


@given(st.binary(min_size=32, max_size=32))
def test_identity_keys_come_back(seed: bytes) -> None:
    key = parse_identity(encode_identity(SigningKey(seed)))
    assert key is not None
    assert key.seed() == seed


@given(st.binary(max_size=120))
def test_other_bytes_are_no_identity_key(data: bytes) -> None:
    key = parse_identity(data)
    assert key is None or encode_identity(key) == data

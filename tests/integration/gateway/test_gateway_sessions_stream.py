"""Sessions through both processes' real code: pushed messages, replacement, the enclave's loss."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from protocol.errors import RefusalCode
from protocol.wire import strongroom_pb2 as pb
from silo_client.grpc_channel import _OPTIONS


def test_messages_pass_both_ways(house: object) -> None:
    talk = house.talk()
    talk.say(b"cosigned")
    house.eventually(lambda: house.core.heard("silo-0")[-1] == "receive cosigned")
    house.outbox.send("silo-1", b"for somebody else")
    for number in range(3):
        house.outbox.send("silo-0", b"%d" % number)
    assert [talk.hear().message for _ in range(3)] == [b"0", b"1", b"2"]
    talk.finish()
    assert talk.rest() == []
    house.eventually(lambda: house.core.heard("silo-0")[-1] == "left")


def test_a_message_is_pushed_at_once(house: object) -> None:
    talk = house.talk()
    started = time.monotonic()
    house.outbox.send("silo-0", b"now")
    talk.hear()
    assert time.monotonic() - started < 1  # Nobody polls; the figure is loose, for busy machines.


def test_a_refused_message_ends_the_session_with_the_reason(house: object) -> None:
    talk = house.talk()
    house.core.expired.add("silo-0")
    talk.say(b"late")
    answers = talk.rest()
    assert [answer.refusal.code for answer in answers] == [RefusalCode.CREDENTIAL_EXPIRED]
    house.eventually(lambda: house.core.heard("silo-0")[-1] == "left")


def test_a_newer_session_replaces_the_older(house: object) -> None:
    older = house.talk()
    newer = house.talk()
    assert older.rest()[-1].refusal.code == RefusalCode.BUSY
    house.outbox.send("silo-0", b"to the newer")
    assert newer.hear().message == b"to the newer"
    assert house.core.heard("silo-0")[-3:] == ["receive join", "left", "receive join"]


def test_a_silo_that_vanishes_has_left(house: object) -> None:
    talk = house.talk()
    talk.cut()
    house.eventually(lambda: house.core.heard("silo-0")[-1] == "left")


def test_losing_the_enclave_ends_sessions_in_words_and_its_next_boot_needs_new_credentials(house: object) -> None:
    talk, client = house.talk(), house.client()
    (house.folder / "spool" / "silo-0").mkdir()
    (house.folder / "spool" / "silo-0" / f"{'00' * 16}.part").write_bytes(b"sealed to the last boot")
    former = house.core.ca
    house.stop_enclave()
    last = talk.rest()[-1]
    assert last.refusal.code == RefusalCode.NOT_ADMITTED
    assert "enrol again" in last.refusal.remedy
    with pytest.raises(grpc.RpcError) as caught:
        list(client.stub().Session(iter([pb.Message(message=b"join")])))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "enclave" in caught.value.details()
    house.boot()
    house.eventually(lambda: house.gateway.boots == 2)
    with pytest.raises(grpc.RpcError):
        house.client("silo-0", authority=former).status(bytes(16))
    assert house.client("silo-0").status(bytes(16)).offset == 0
    house.talk()


def test_losing_the_gateway_makes_every_silo_leave(house: object) -> None:
    house.talk("silo-0")
    house.talk("silo-1")
    house.gateway.stop()
    house.eventually(lambda: {house.core.heard(silo)[-1] for silo in ("silo-0", "silo-1")} == {"left"})


def test_a_second_gateway_takes_the_first_ones_place(house: object) -> None:
    """A gateway that hangs without dying must not keep the enclave's messages to itself."""
    talk = house.talk("silo-0")
    second = house._start_gateway()
    house.eventually(lambda: talk.rest()[-1].refusal.code == RefusalCode.NOT_ADMITTED)
    assert house.core.heard("silo-0")[-1] == "left"
    second.stop()


def test_silos_that_all_come_back_at_once_do_not_bring_the_gateway_down(house: object) -> None:
    """docs/decisions/0018-federation-server-replaced.md; a crash would end this process."""
    for boot in (2, 3, 4):
        clients = [house.client(f"silo-{number % 4}") for number in range(12)]
        with ThreadPoolExecutor(12) as pool:
            assert [answer.offset for answer in pool.map(lambda client: client.status(bytes(16)), clients)] == [0] * 12
        house.stop_enclave()
        house.boot()
        house.eventually(lambda boot=boot: house.gateway.boots == boot)


@pytest.mark.slow
def test_a_session_in_which_nobody_speaks_for_minutes_is_left_alone(house: object) -> None:
    """A silo's client asks every 20 s whether the gateway is still there; gRPC takes it amiss unless told otherwise."""
    talk = house.talk("silo-0", options=_OPTIONS)
    with pytest.raises(TimeoutError):
        house.eventually(lambda: not talk.is_open, seconds=150)
    house.outbox.send("silo-0", b"still there")
    assert talk.hear().message == b"still there"

"""Sessions, turns and the outbox: order, replacement, bounds."""

import threading
import time
from collections.abc import Callable

import pytest

from appliance.enclave.outbox import Outbox
from appliance.gateway.sessions import ENCLAVE_LOST, REPLACED, Sessions, SiloSession
from appliance.gateway.turns import Turns
from protocol.errors import RefusalCode, RefusedError


def joined(sessions: Sessions, silo: str = "north", calls: Callable[[], None] = lambda: None) -> SiloSession:
    session = sessions.begin(silo)
    sessions.relay(session, calls)
    return session


def test_messages_arrive_in_order_and_end_with_the_session() -> None:
    sessions = Sessions(lambda _: None)
    session = joined(sessions)
    sessions.deliver("north", b"1")
    sessions.deliver("south", b"for nobody")
    sessions.deliver("north", b"2")
    session.end()
    sessions.deliver("north", b"too late")
    assert list(session.messages()) == [b"1", b"2"]


def test_waiting_ends_when_the_session_does() -> None:
    session = joined(Sessions(lambda _: None))
    threading.Timer(0.05, session.end).start()
    assert list(session.messages()) == []


def test_a_newer_session_replaces_the_older_and_the_enclave_hears_in_order() -> None:
    heard: list[str] = []
    sessions = Sessions(lambda silo: heard.append(f"{silo} left"))
    older = joined(sessions, calls=lambda: heard.append("old join"))
    newer = joined(sessions, calls=lambda: heard.append("new join"))
    sessions.relay(older, lambda: heard.append("old message"))
    sessions.finish(older)
    sessions.deliver("north", b"for the newer")
    newer.end()
    assert (older.refusal, newer.refusal) == (REPLACED, None)
    assert heard == ["old join", "north left", "new join"]
    assert (list(older.messages()), list(newer.messages())) == ([], [b"for the newer"])
    sessions.finish(newer)
    assert heard[-1] == "north left"
    assert len(heard) == 4


def test_what_was_meant_for_the_last_session_never_reaches_a_new_one() -> None:
    sessions = Sessions(lambda _: None)
    session = sessions.begin("north")
    sessions.deliver("north", b"sent before the join")
    sessions.relay(session, lambda: sessions.deliver("north", b"the answer to the join"))
    session.end()
    assert list(session.messages()) == [b"the answer to the join"]


def test_a_silo_that_takes_no_messages_loses_its_session_not_the_gateways_memory() -> None:
    session = joined(sessions := Sessions(lambda _: None))
    for _ in range(1000):
        sessions.deliver("north", bytes(1000))
    assert list(session.messages()) == []
    assert session.refusal is not None
    assert session.refusal.code == RefusalCode.BUSY


def test_losing_the_enclave_ends_all_sessions_and_tells_nobody_there() -> None:
    left: list[str] = []
    sessions = Sessions(left.append)
    both = [joined(sessions, silo) for silo in ("north", "south")]
    sessions.end_all(ENCLAVE_LOST)
    for session in both:
        assert list(session.messages()) == []
        assert session.refusal is not None
        assert session.refusal.code == RefusalCode.NOT_ADMITTED
        sessions.finish(session)
    assert left == []


def test_the_newest_upload_has_its_turn_at_once() -> None:
    turns, cut = Turns(), threading.Event()

    def older() -> None:
        with turns.take("north", cut.set):
            cut.wait(5)

    thread = threading.Thread(target=older)
    thread.start()
    time.sleep(0.05)
    with turns.take("south", lambda: None), turns.take("north", lambda: None):
        assert cut.is_set()
        assert not thread.is_alive() or not thread.join(5)


def test_an_upload_that_cannot_give_way_keeps_its_turn() -> None:
    turns = Turns(patience_seconds=0.05)
    with (
        turns.take("north", lambda: None),
        pytest.raises(RefusedError, match="one upload at a time"),
        turns.take("north", lambda: None),
    ):
        pass
    with turns.take("north", lambda: None):
        pass


def test_all_can_be_asked_to_give_way() -> None:
    turns, asked = Turns(), []
    with turns.take("north", lambda: asked.append("north")), turns.take("south", lambda: asked.append("south")):
        turns.end_all()
    assert asked == ["north", "south"]


def test_the_outbox_sends_to_the_gateway_that_came_last() -> None:
    outbox = Outbox()
    outbox.send("north", b"nobody is there")
    first = outbox.attach()
    outbox.send("north", b"1")
    second = outbox.attach()
    outbox.send("south", b"2")
    assert list(outbox.messages(first)) == []
    taken = outbox.messages(second)
    assert next(taken).message == b"2"
    assert not outbox.detach(first)
    assert outbox.detach(second)
    assert list(taken) == []


def test_a_gateway_that_takes_no_messages_is_dropped_and_the_enclave_never_waits() -> None:
    outbox = Outbox(limit_bytes=1000)
    generation = outbox.attach()
    for _ in range(11):
        outbox.send("north", bytes(100))
    assert list(outbox.messages(generation)) == []
    assert outbox.detach(generation)

"""A user's training loop against the real enclave: what he sees when all goes well, and when much does not."""

import time
from collections.abc import Callable

import pytest
import torch
from silo_threads import Loop, Net, Watch, World, train, world

from audit.entries import RoundPublished, SiloAdmitted, parse_entry
from audit.log import LogReader
from audit.store import MemoryStore
from protocol.errors import RefusalCode, RefusedError, refuse
from silo_client.courier import ClosedError
from silo_client.events import EventKind
from silo_client.optimizer import TrainingError
from silo_client.rounds import Round
from silo_client.witness import LogBrokenError

NAMES = ("silo-0", "silo-1", "silo-2", "silo-3")


def rounds(number: int) -> dict[str, str]:
    return {"rounds = 40": f"rounds = {number}"}


def run_all(found: World, **arguments: object) -> list[Loop]:
    loops = [Loop(found, name, **arguments) for name in NAMES]  # type: ignore[arg-type]
    for loop in loops:
        loop.start()
    return [loop.finish() for loop in loops]


def published(found: World) -> list[RoundPublished]:
    entries = [parse_entry(data) for data in LogReader(found.store).entries()]
    return [entry for entry in entries if isinstance(entry, RoundPublished)]


def test_a_loop_runs_to_the_end_and_all_have_the_same_model() -> None:
    with world(rounds(3)) as found:
        loops = run_all(found)
        assert [loop.trained for loop in loops] == [[(1, 1), (2, 1), (3, 1)]] * 4
        for loop in loops[1:]:
            assert all(torch.equal(loop.result[name], value) for name, value in loops[0].result.items())
        assert [len(entry.cohort) for entry in published(found)] == [4, 4, 4]
        kinds = loops[0].watch.kinds()
        assert kinds[0] == "enrolled"
        assert [kind for kind in kinds if kind in ("round", "submitted", "outcome", "finished")] == [
            *["round", "submitted", "outcome"] * 3,
            "finished",
        ]
        assert loops[0].watch.steps == 9
        # The mean of the silos' "losses" 0, 1, 2, 3 comes back with the next round.
        facts = [event.facts for event in loops[0].watch.events if event.kind.value == "round"]
        assert facts[1]["last_loss"] == 1.5
        Net().load_state_dict(loops[0].result)


def test_connections_that_break_everywhere_cost_nothing_but_time() -> None:
    """Each kind of call is cut, before it arrives and before it is answered, several times over."""

    def flaky(seed: int) -> Callable[[str, bool], bool]:
        counts: dict[tuple[str, bool], int] = {}

        def fail(call: str, before: bool) -> bool:
            key = (call, before)
            counts[key] = counts.get(key, seed) + 1
            return counts[key] % 5 == 0 and counts[key] < 16

        return fail

    with world(rounds(6)) as found:
        loops = [Loop(found, name, fail=flaky(index)) for index, name in enumerate(NAMES)]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        assert len(published(found)) == 6
        for loop in loops[1:]:
            assert all(torch.equal(loop.result[name], value) for name, value in loops[0].result.items())
        assert "waiting" in loops[0].watch.kinds()


def test_a_restart_of_the_appliance_in_mid_round_is_trained_again() -> None:
    with world(rounds(3)) as found:
        restarted: list[int] = []

        def restart(current: Round) -> None:
            if current.number == 2 and not restarted:
                restarted.append(1)
                found.boot()

        loops = [Loop(found, name, before_submit=restart if name == "silo-2" else None) for name in NAMES]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        assert loops[2].trained == [(1, 1), (2, 1), (2, 2), (3, 1)]
        assert [entry.attempt for entry in published(found)] == [1, 2, 1]
        assert all(len(entry.cohort) == 4 for entry in published(found))


def test_a_silo_that_starts_again_after_its_upload_goes_on() -> None:
    """Killed between sealing and answer: the new process sends the stored bytes, and learns the outcome."""
    with world(rounds(3)) as found:
        cut: list[str] = []

        def fail(call: str, before: bool) -> bool:
            if call == "upload" and not before and not cut:
                cut.append(call)
                raise KeyboardInterrupt
            return False

        others = [Loop(found, name) for name in NAMES[1:]]
        dying = Loop(found, NAMES[0], fail=fail, initial=False)
        for loop in (*others, dying):
            loop.start()
        with pytest.raises(KeyboardInterrupt):
            dying.finish()
        again = Loop(found, NAMES[0], initial=False)
        again.start()
        for loop in (*others, again):
            loop.finish()
        assert again.trained == [(2, 1), (3, 1)]
        assert [len(entry.cohort) for entry in published(found)] == [4, 4, 4]
        assert "control-reset" not in again.watch.kinds()


def test_admissions_are_renewed_at_two_thirds_without_leaving_the_session() -> None:
    with world({**rounds(3), "credential_seconds = 3600": "credential_seconds = 30"}) as found:

        def pass_time(current: Round) -> None:
            if current.number == 2:
                found.now += 21
                # The courier waits for a message until then; any will do.
                for channel in list(found.channels.values()):
                    channel.inbox.put(None)

        loops = [Loop(found, name, before_submit=pass_time if name == "silo-1" else None) for name in NAMES]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        entries = [parse_entry(data) for data in LogReader(found.store).entries()]
        admitted = [entry.silo for entry in entries if isinstance(entry, SiloAdmitted)]
        assert all(admitted.count(name) >= 2 for name in NAMES)
        assert len(published(found)) == 3


def test_a_silo_without_the_initial_model_leaves_it_to_another() -> None:
    with world(rounds(1)) as found:
        loops = [Loop(found, name, initial=name == "silo-3") for name in NAMES]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        sent = {
            loop.silo_name: event.facts["sent"]
            for loop in loops
            for event in loop.watch.events
            if event.kind.value == "initial-model"
        }
        assert sent.pop("silo-3") is True
        assert set(sent.values()) <= {False}


def test_a_lost_memory_resets_the_controls_and_training_goes_on() -> None:
    with world(rounds(5)) as found:

        def forget(current: Round) -> None:
            if current.number == 2:
                raise KeyboardInterrupt

        others = [Loop(found, name) for name in NAMES[1:]]
        losing = Loop(found, NAMES[0], before_submit=forget)
        for loop in (*others, losing):
            loop.start()
        with pytest.raises(KeyboardInterrupt):
            losing.finish()
        found.disks[NAMES[0]] = MemoryStore()
        again = Loop(found, NAMES[0])
        again.start()
        for loop in (*others, again):
            loop.finish()
        assert found.kinds().count("control.reset") == 1
        assert any("wrong-parent" in event.text for event in again.watch.events if event.kind.value == "late")
        assert all("control-reset" in loop.watch.kinds() for loop in others)


def test_an_update_that_is_refused_is_said_so_and_the_next_round_goes_on() -> None:
    with world({**rounds(3), "maximum_norm = 100.0": "maximum_norm = 1000.0"}) as found:
        refused: list[RefusedError] = []

        class Tolerant(Loop):
            def run(self) -> None:
                try:
                    model = Net()
                    with self.silo:
                        for current in self.silo.rounds():
                            self.step(model, current)
                        self.result = self.silo.final_state_dict()
                except BaseException as error:
                    self.error = error

            def step(self, model: Net, current: Round) -> None:
                if current.number != 1:
                    return train(model, current, 0)
                model.load_state_dict(current.state_dict())
                optimizer = current.local_optimizer(torch.optim.SGD(model.parameters(), lr=current.learning_rate))
                (model(torch.ones(4, 2)).sum() * 1e9).backward()
                optimizer.step()
                with pytest.raises(RefusedError) as error:
                    current.submit(model)
                refused.append(error.value)
                return None

        loops = [Tolerant(found, NAMES[0]), *[Loop(found, name) for name in NAMES[1:]]]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        assert [error.refusal.code for error in refused] == [RefusalCode.UPDATE_TOO_LARGE]
        assert "expected a norm of at most 1000, found a larger one" in str(refused[0])
        assert [len(entry.cohort) for entry in published(found)] == [3, 4, 4]


class TestMisuse:
    def test_a_round_that_is_not_submitted(self) -> None:
        with world(rounds(2)) as found:
            others = [Loop(found, name) for name in NAMES[1:]]
            for loop in others:
                loop.start()
            with found.silo(NAMES[0], Watch()) as silo:
                iterator = silo.rounds()
                next(iterator)
                with pytest.raises(TrainingError, match=r"round 1: expected round\.submit\(model\) before the next"):
                    next(iterator)

    def test_the_result_before_the_end(self) -> None:
        with world(rounds(2)) as found, found.silo(NAMES[0], Watch()) as silo:
            assert not silo.finished
            with pytest.raises(TrainingError, match="expected the end of the federation"):
                silo.final_state_dict()

    def test_a_session_that_was_closed(self) -> None:
        with world(rounds(2)) as found:
            silo = found.silo(NAMES[0], Watch())
            with silo:
                iterator = silo.rounds()
            silo.close()
            with pytest.raises(ClosedError):
                next(iterator)


def test_a_refusal_stops_the_loop_in_words() -> None:
    """The silo holds an agreement that differs by a byte: it is refused, with both digests, before anything is sent."""
    with world(rounds(2)) as found:
        other = World({**rounds(2), "weight = 1.0": "weight = 1.5"})
        other.close()
        loop = Loop(other, NAMES[0])
        other.enclave = found.enclave
        loop.start()
        with pytest.raises(RefusedError, match="agreement-mismatch") as error:
            loop.finish()
        for each in (found, other):
            assert each.agreement.digest.hex() in str(error.value)


def test_a_session_that_is_refused_for_now_says_why_and_goes_on() -> None:
    """However often it happens in a row, it is said once; the next outage is said again."""
    with world(rounds(2)) as found:
        loops = [Loop(found, name) for name in NAMES]
        channel, reason = (
            found.channels[NAMES[0]],
            refuse(
                RefusalCode.WRONG_BOOT, expected="a round of this boot", found="one of another", remedy="enrol again"
            ),
        )
        receive, refusals = channel.receive, [reason, reason]

        def refused(timeout_seconds: float | None) -> bytes | None:
            if refusals:
                raise refusals.pop()
            return receive(timeout_seconds)

        channel.receive = refused  # type: ignore[method-assign]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.finish()
        waiting = [event.text for event in loops[0].watch.events if event.kind is EventKind.WAITING]
        assert waiting == [f"the session has ended, beginning another ({reason})"]


@pytest.mark.parametrize("code", [RefusalCode.WRONG_MODEL, RefusalCode.WRONG_ROUND, RefusalCode.ALREADY_COMPLETE])
def test_a_silo_that_stops_in_the_middle_of_a_round_leaves_at_once_and_sends_nothing(code: RefusalCode) -> None:
    """Whatever it stops for: that is no answer to its upload, though some uploads are answered with the same code."""
    with world(rounds(2)) as found:

        def cheat(current: Round) -> None:
            if current.number == 2:
                courier, handle = loops[0].silo._courier, loops[0].silo._machine.handle
                loops[0].silo._machine.handle = stop  # type: ignore[method-assign]
                found.channels[NAMES[0]].inbox.put(b"anything")
                assert courier._thread is not None
                courier._thread.join(60)
                loops[0].silo._machine.handle = handle  # type: ignore[method-assign]
                assert NAMES[0] not in found.enclave.describe().joined
                while found.kinds().count("update.accepted") < 2 * len(NAMES) - 1:
                    time.sleep(0.01)  # The others' updates: the deadline is for nobody but this one.
                found.now += found.agreement.federation.round_deadline_seconds + 1

        def stop(message: bytes) -> None:
            raise refuse(code, expected="an honest appliance", found="another", remedy="stop")

        loops = [Loop(found, name, before_submit=cheat if name == NAMES[0] else None) for name in NAMES]
        for loop in loops:
            loop.start()
        for loop in loops[1:]:
            loop.finish()
        with pytest.raises(RefusedError, match=f"{code}: expected an honest appliance, found another; stop"):
            loops[0].finish()
        assert [[member.silo for member in entry.cohort] for entry in published(found)] == [[*NAMES], [*NAMES[1:]]]
        assert "late" not in loops[0].watch.kinds()


def test_a_second_genesis_stops_the_loop() -> None:
    with world(rounds(4)) as found:

        def lose_the_store(current: Round) -> None:
            if current.number == 2:
                found.store = MemoryStore()
                found.boot()

        loops = [Loop(found, name, before_submit=lose_the_store if name == "silo-1" else None) for name in NAMES]
        for loop in loops:
            loop.start()
        for loop in loops:
            with pytest.raises(LogBrokenError, match="a second genesis under the same agreement"):
                loop.finish()
        assert all([name for name in disk.list("") if "/evidence/other-log" in name] for disk in found.disks.values())

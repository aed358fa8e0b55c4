"""Random histories of an appliance, its silos and an operator who cheats, or doesn't (`operators_cheats.py`).

Honest histories end, pass the audit, and nobody in them raises an alarm. Of a cheat, silos, enclave or audit say by
name what it is, or it came to nothing; whatever was done, no number has two results and no silo two histories. So that
the machine can't silently never cheat, each cheat also stands below as a story of its own, with what catches it.
"""

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from operators_cheats import CheatedWorld
from operators_world import FORGETFUL, World

from audit.report import AuditVerdict

ANY = st.integers(0, 2**16)
NAMES = st.sampled_from(["silo-0", "silo-1", "silo-2", FORGETFUL])


class Honest(RuleBasedStateMachine):
    """Time passes, messages arrive or are lost, whoever runs is killed and started again."""

    begin: ClassVar[type[World]] = World

    def __init__(self) -> None:
        super().__init__()
        self.world = self.begin()

    @rule(count=st.integers(1, 12))
    def messages_arrive(self, count: int) -> None:
        self.world.pass_on(count)

    @rule()
    def time_passes(self) -> None:
        self.world.wait()

    @rule(number=ANY, count=st.integers(1, 3))
    def messages_are_lost(self, number: int, count: int) -> None:
        self.world.lose(number, count)

    @rule(number=ANY)
    def an_enclave_is_killed(self, number: int) -> None:
        self.world.restart(number)

    @rule(number=ANY, stop_at=st.integers(1, 60), after=st.booleans())
    def an_enclave_is_killed_in_a_write(self, number: int, stop_at: int, after: bool) -> None:
        self.world.restart(number, stop_at=stop_at, after=after)

    @rule(number=ANY, stop_at=st.one_of(st.none(), st.integers(1, 60)), after=st.booleans())
    def the_log_key_is_rotated(self, number: int, stop_at: int | None, after: bool) -> None:
        self.world.restart(number, stop_at=stop_at, after=after, rotates=True)

    @rule(stop_at=st.one_of(st.none(), st.integers(1, 4)), after=st.booleans())
    def the_witness_is_killed(self, stop_at: int | None, after: bool) -> None:
        self.world.witness.restart(stop_at=stop_at, after=after)

    @rule()
    def the_witness_goes_away_or_comes_back(self) -> None:
        self.world.witness.away = not self.world.witness.away

    @rule(name=NAMES)
    def a_silo_is_killed(self, name: str) -> None:
        self.world.kill_silo(name)

    @rule(name=NAMES)
    def a_silo_goes_away(self, name: str) -> None:
        self.world.leave(name)

    @rule(name=NAMES)
    def a_silo_comes_back(self, name: str) -> None:
        if name not in self.world.at:
            self.world.connect(name, self.world.instance(0))

    @rule(name=NAMES)
    def a_silo_sends_nothing(self, name: str) -> None:
        self.world.mute.symmetric_difference_update({name})

    @rule()
    def the_forgetful_silo_loses_its_memory(self) -> None:
        self.world.forget()

    @rule(number=ANY)
    def a_copy_is_kept(self, number: int) -> None:
        self.world.keep_copy(number)

    @rule(number=ANY)
    def somebody_audits(self, number: int) -> None:
        # A crash in a write may have left what the next start removes: unfinished, and never wrong.
        if not self.world.cheats:
            instance = self.world.instance(number)
            assert self.world.audit_of(instance.disk).verdict is not AuditVerdict.FAIL

    @invariant()
    def nothing_is_released_twice_and_nobody_holds_two_histories(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        ended = self.world.conclude()
        assert self.world.cheats or ended == "finished"


class Cheating(Honest):
    """The operator besides does what he can."""

    begin = CheatedWorld
    world: CheatedWorld

    @precondition(lambda self: self.world.copies)
    @rule(number=ANY, which=ANY)
    def roll_back(self, number: int, which: int) -> None:
        self.world.roll_back(number, which)

    @precondition(lambda self: self.world.copies and len(self.world.instances) < 4)
    @rule(which=ANY)
    def second_instance(self, which: int) -> None:
        self.world.second_instance(which)

    @precondition(lambda self: len(self.world.instances) < 4)
    @rule()
    def second_genesis(self) -> None:
        self.world.second_genesis()

    @precondition(lambda self: len(self.world.instances) > 1)
    @rule(name=NAMES, number=ANY)
    def lead_a_silo_to_another_instance(self, name: str, number: int) -> None:
        self.world.move(name, number)

    @rule(name=NAMES, which=ANY)
    def replay_a_message(self, name: str, which: int) -> None:
        self.world.replay_message(name, which)

    @rule(name=NAMES, which=ANY)
    def show_anothers_message(self, name: str, which: int) -> None:
        self.world.misdeliver(name, which)

    @rule(name=NAMES, which=ANY, bit=ANY)
    def change_a_message(self, name: str, which: int, bit: int) -> None:
        self.world.flip_bit(name, which, bit)

    @rule(name=NAMES, which=ANY)
    def replay_an_upload(self, name: str, which: int) -> None:
        self.world.replay_upload(name, which)

    @rule(number=ANY, which=ANY, how=st.sampled_from(["flip", "cut", "drop", "swap"]))
    def change_a_file(self, number: int, which: int, how: str) -> None:
        self.world.tamper(number, which, how)


# One story for each cheat


def test_a_rolled_back_store_is_named_and_the_silos_heads_convict_it() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.keep_copy(0)
    world.play_until_published(2)
    world.play(4)
    world.roll_back(0, 0)
    world.check()
    assert world.alarms["log-rolled-back"] == 4
    assert world.broken == set(world.names)
    assert world.conclude() == "convicted"


@pytest.mark.slow
def test_a_rollback_that_is_undone_costs_nothing() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.keep_copy(0)
    world.play_until_published(2)
    world.play(4)
    world.keep_copy(0)
    world.roll_back(0, 0)
    world.roll_back(0, 1)
    assert world.alarms["log-rolled-back"] == 4
    assert world.conclude() == "finished"


def test_two_instances_do_not_both_get_on_and_whoever_is_moved_names_the_fork() -> None:
    world = CheatedWorld()
    world.keep_copy(0)
    world.second_instance(0)
    for name in world.names[:3]:
        world.move(name, 1)
    world.play(30)
    assert "round.published" in world.instances[1].kinds()
    for _ in range(12):
        world.restart(0)  # Its log is the longer one now, so that it isn't a mere rollback.
    for name in world.names[:3]:
        world.move(name, 0)
    world.play(30)
    assert world.alarms["log-forked"] == 3
    assert "round.published" not in world.instances[0].kinds()
    assert world.alarms["WitnessRefusedError"] > 0
    # The fourth has cosigned the first's: heads that contradict, and no quorum for either.
    assert world.conclude() == "convicted"


def test_silos_split_between_two_instances_stop_and_nothing_is_released_twice() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.leave("silo-3")
    world.keep_copy(0)
    world.second_instance(0)
    for name in ("silo-2", "silo-3"):
        world.move(name, 1)
    published = [len(each.kinds()) for each in world.instances]
    world.play(40)
    assert [
        each.kinds()[size:].count("round.published") for each, size in zip(world.instances, published, strict=True)
    ] == [0, 0]
    assert world.conclude() == "finished"


def test_a_second_genesis_is_refused_by_every_silo() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.second_genesis()
    for name in world.names:
        world.move(name, 1)
    assert world.alarms["other-log"] == 4
    assert world.conclude() == "finished"


def test_messages_of_long_ago_are_not_acted_upon() -> None:
    world = CheatedWorld()
    world.play_until_published(2)
    world.play(4)
    sent = set(world.uploads)
    for which in range(0, len(world.seen) // 4, 2):
        world.kill_silo("silo-0")
        world.move("silo-0", 0)
        world.replay_message("silo-0", which)
        world.check()
    assert world.alarms["log-rolled-back"] >= 2
    assert set(world.uploads) == sent, "trained again on an old announcement"
    assert world.conclude() == "finished"


def test_another_silos_messages_are_not_acted_upon() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.play(7)
    for which in range(0, len(world.seen), 3):
        world.move("silo-0", 0)
        world.misdeliver("silo-0", which)
        world.check()
    assert world.alarms["log-rolled-back"] > 0
    assert world.conclude() == "finished"


def test_a_message_with_a_bit_changed_is_not_acted_upon() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.play(4)
    for which in range(40):
        world.flip_bit("silo-0", which, which * 977)
        world.check()
    # What nothing signs (the name of a body to fetch) leads nowhere and needs no alarm.
    assert world.alarms.total() >= 36
    assert world.alarms.keys() <= {"MalformedError", "SignatureError", "ProofError", "QuorumError", "log-forked"}
    assert world.conclude() == "finished"


def test_an_upload_counts_once_and_for_its_sender_alone() -> None:
    world = CheatedWorld()
    world.mute.add("silo-3")
    world.play_until_published(1)
    while world.instances[0].kinds()[-3:] != ["update.accepted"] * 3:
        world.play(1)
    for which in range(len(world.uploads)):
        for name in world.names:
            world.replay_upload(name, which)
            world.check()
    assert world.alarms["upload-answered-again"] == 3
    assert {"already-complete", "wrong-round"} <= world.alarms.keys()
    assert world.instances[0].kinds().count("update.accepted") == 6
    assert world.conclude() == "finished"


def test_without_the_witness_that_the_agreement_demands_nothing_is_released() -> None:
    world = CheatedWorld()
    world.witness.away = True
    world.play(30)
    assert world.results == {}
    assert world.conclude() == "finished"


@pytest.mark.slow
def test_a_rotated_key_is_followed_and_a_rollback_across_it_is_named() -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.keep_copy(0)
    world.restart(0, rotates=True)
    world.roll_back(0, 0)
    assert world.alarms["log-rolled-back"] == 4
    assert world.conclude() == "convicted"


@pytest.mark.slow
def test_lost_messages_cost_time_alone() -> None:
    world = CheatedWorld()
    world.play(2)
    for _ in range(5):
        world.lose(0, 2)
        world.wait()
        world.play(6)
    assert not world.alarms
    assert world.conclude() == "finished"


def test_a_silo_that_lost_its_memory_alone_gets_no_fork_released() -> None:
    """f = 1: with it, the second instance has two owners of three."""
    world = CheatedWorld()
    world.keep_copy(0)
    world.play_until_published(2)
    world.forget()
    world.second_instance(0)
    world.move(FORGETFUL, 1)
    world.move("silo-0", 1)
    world.play(40)
    assert "round.opened" not in world.instances[1].kinds()
    assert world.alarms["log-rolled-back"] == 1
    assert world.conclude() == "finished"


@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.slow) for how in ("cut", "drop")), "flip", "swap"]
)
def test_no_changed_file_is_passed_over(how: str) -> None:
    world = CheatedWorld()
    world.play_until_published(1)
    world.play(3)
    files = len(world.instances[0].disk.list(""))
    for which in range(0, files, 12):
        world.tamper(0, which, how)
    assert world.cheats.total() > 4
    assert world.alarms.keys() <= {"audit-FAIL", "audit-INCOMPLETE", "start-refused"}
    assert world.conclude() == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flip", "cut", "drop", "swap"])
def test_no_changed_file_of_a_finished_federation_is_passed_over(how: str) -> None:
    world = CheatedWorld()
    world.play_until_published(3)
    world.play(5)
    for which in range(len(world.instances[0].disk.list(""))):
        world.tamper(0, which, how)
    assert world.alarms["start-refused"] >= 3
    assert world.conclude() == "finished"


# Random ones


def random_histories(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )


def test_honest_histories() -> None:
    random_histories(Honest, 2, 8)


def test_histories_of_a_cheat() -> None:
    random_histories(Cheating, 2, 12)


@pytest.mark.slow
def test_many_honest_histories() -> None:
    random_histories(Honest, 60, 40)


@pytest.mark.slow
def test_many_histories_of_a_cheat() -> None:
    random_histories(Cheating, 120, 40)

"""Rounds through the real enclave and the real silo machines, in memory."""

import copy
import os
from collections.abc import Callable

import pytest
import torch
from memory_federation import MEASUREMENT, MemoryFederation, MemorySilo, gradient_descent
from torch import Tensor

from appliance.enclave.startup import StartRefusedError
from audit.entries import ControlReset, RoundAbandoned, RoundPublished, UpdateRefused, parse_entry
from audit.store import MemoryStore
from protocol.errors import RefusalCode, RefusedError
from protocol.session import Announcement, CosignRequest, parse_to_silo
from protocol.update import UpdateMetadata
from silo_client.bodies import read_control
from silo_client.machine import Train


def entries(federation: MemoryFederation, kind: type) -> list:
    return [entry for _, data in federation.history() if isinstance(entry := parse_entry(data), kind)]


def federation_of(rounds: int, **arguments: object) -> MemoryFederation:
    return MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"}, **arguments)  # type: ignore[arg-type]


def controls(federation: MemoryFederation) -> list[Tensor]:
    return [read_control(silo.machine.state, federation.layout) for silo in federation.silos.values()]


def test_a_federation_runs_to_its_end() -> None:
    federation = federation_of(3)
    federation.enrol_all()
    federation.run()
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())
    assert federation.kinds() == [
        "log.genesis",
        "appliance.started",
        *["silo.admitted"] * 4,
        *["round.opened", *["update.accepted"] * 4, "round.committed", "round.published"] * 3,
        "log.closed",
    ]


def test_it_computes_scaffold() -> None:
    federation = federation_of(4)
    federation.enrol_all()
    federation.run()
    eta, steps, silos = 0.1, 10, 4
    x = torch.arange(5, dtype=torch.float64) / 1000
    c, c_i = torch.zeros(5, dtype=torch.float64), [torch.zeros(5, dtype=torch.float64) for _ in range(silos)]
    for number in range(4):
        torch.testing.assert_close(federation.silos["silo-0"].models[number].double(), x, rtol=1e-6, atol=1e-6)
        dx, dc = torch.zeros_like(x), torch.zeros_like(c)
        for index in range(silos):
            y = x.clone()
            for _ in range(steps):
                y -= eta * ((y - (index + 1)) - c_i[index] + c)
            plus = c_i[index] - c + (x - y) / (steps * eta)
            dx += (y - x) / silos
            dc += (plus - c_i[index]) / silos
            c_i[index] = plus
        x, c = x + dx, c + dc
    torch.testing.assert_close(federation.silos["silo-3"].models[-1].double(), x, rtol=1e-6, atol=1e-6)
    for found, wanted in zip(controls(federation), c_i, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def test_nothing_is_released_before_the_quorum() -> None:
    federation = federation_of(1)
    federation.enrol_all()
    federation.enclave.tick()
    while federation.outbox:
        name, message = federation.outbox.popleft()
        assert not isinstance(parse_to_silo(message), Announcement)
        if isinstance(parse_to_silo(message), CosignRequest) and name in ("silo-2", "silo-3"):
            continue  # Two of four owners keep silent: three are asked for.
        federation.deliver(name, message)
        federation.enclave.tick()
    assert federation.kinds()[-1] == "round.opened"
    assert not any(silo.models for silo in federation.silos.values())


def test_a_silo_that_vanishes_costs_the_deadline_and_comes_back() -> None:
    federation = federation_of(4)
    federation.enrol_all()
    lost = federation.silos["silo-3"]

    def vanish(silo: MemorySilo, step: Train, x: Tensor, c: Tensor, c_i: Tensor) -> tuple[Tensor, UpdateMetadata]:
        del federation.silos["silo-3"]
        federation.enclave.left("silo-3")
        raise RefusedErrorForTest

    lost.training = vanish
    federation.run(until=lambda: "round.published" in federation.kinds())
    published = entries(federation, RoundPublished)[0]
    assert [member.silo for member in published.cohort] == ["silo-0", "silo-1", "silo-2"]
    federation.enrol(federation.silo("silo-3"))
    federation.run()
    assert [len(entry.cohort) for entry in entries(federation, RoundPublished)][1:] == [4, 4, 4]
    check_invariant(federation)


class RefusedErrorForTest(RefusedError):
    """Stands for a process that is gone."""

    def __init__(self) -> None:
        from protocol.errors import Refusal

        super().__init__(Refusal(code=RefusalCode.BUSY, expected="", found="", remedy=""))


def check_invariant(federation: MemoryFederation) -> None:
    """Σ p_i c_i = c, and the model moved towards the optimum of the mean objective."""
    finals = [silo.models[-1] for silo in federation.silos.values()]
    assert all(torch.equal(finals[0], each) for each in finals)


def test_a_silo_that_was_cut_off_learns_its_outcome_before_it_trains() -> None:
    federation = federation_of(3)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("update.accepted") == 4)
    # The silo dies right after its update was accepted: it has a pending update and knows no outcome.
    pending = federation.silos["silo-1"].machine.state.pending
    assert pending is not None
    federation.enclave.left("silo-1")
    again = federation.silo("silo-1")
    federation.enrol(again)
    federation.run()
    assert again.machine.state.parent is not None
    assert [silo.errors for silo in federation.silos.values()] == [[]] * 4
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())
    assert not entries(federation, ControlReset)


@pytest.mark.parametrize(
    "stage", ["silo.admitted", "round.opened", "update.accepted", "round.committed", "round.published"]
)
def test_a_restart_at_any_stage_loses_nothing(stage: str) -> None:
    plain = federation_of(3)
    plain.enrol_all()
    plain.run()
    federation = federation_of(3)
    federation.enrol_all()
    federation.run(until=lambda: stage in federation.kinds())
    federation.boot()
    federation.enrol_all()
    federation.run()
    assert federation.kinds().count("round.published") == 3
    assert federation.kinds()[-1] == "log.closed"
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())
    for silo in ("silo-0", "silo-3"):
        assert torch.equal(federation.silos[silo].models[-1], plain.silos[silo].models[-1])
        assert torch.equal(
            read_control(federation.silos[silo].machine.state, federation.layout),
            read_control(plain.silos[silo].machine.state, plain.layout),
        )


def copied(store: MemoryStore) -> MemoryStore:
    copy_of = MemoryStore()
    for name in store.list(""):
        copy_of.write(name, store.read(name))
    return copy_of


def test_a_rolled_back_store_gets_no_cosignature_and_releases_nothing() -> None:
    federation = federation_of(5)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 1)
    old = copied(federation.store)  # type: ignore[arg-type]
    federation.run(until=lambda: federation.kinds().count("round.published") == 3)
    federation.store = old
    federation.boot()
    for name in list(federation.silos):
        models = len(federation.silos[name].models)
        with pytest.raises(Exception, match=r"log-rolled-back|log-forked"):
            federation.enrol(federation.silo(name))
        assert models
    federation.run()
    assert federation.kinds().count("round.published") == 1
    assert not federation.outbox
    assert not any(silo.models for silo in federation.silos.values())


def test_a_second_genesis_is_refused_by_name() -> None:
    federation = federation_of(2)
    federation.enrol_all()
    federation.run(until=lambda: "round.published" in federation.kinds())
    federation.store = MemoryStore()
    federation.boot()
    with pytest.raises(Exception, match="other-log"):
        federation.enrol(federation.silo("silo-0"))


def test_two_instances_on_copies_do_not_both_get_on() -> None:
    federation = federation_of(6)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 1)
    twin_store = copied(federation.store)  # type: ignore[arg-type]
    federation.run(until=lambda: len(federation.silos["silo-0"].models) == 3)
    federation.store = twin_store
    federation.boot()
    # The twin's log grows by itself until it is longer than what the silos know: it is still another history.
    for _ in range(40):
        federation.boot()
    refused = 0
    for name in list(federation.silos):
        silo = federation.silo(name)
        try:
            federation.enrol(silo)
        except RefusedError:
            refused += 1
    federation.run(deadline=False)
    codes = {str(error) for silo in federation.silos.values() for error in silo.errors}
    assert federation.kinds().count("round.published") == 1
    assert refused == 4 or any("log-forked" in text for text in codes)
    assert not any(silo.models for silo in federation.silos.values())


def test_a_lost_control_variate_is_reset_in_the_log() -> None:
    federation = federation_of(6)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 2)
    federation.enclave.left("silo-2")
    federation.silo_stores["silo-2"] = MemoryStore()
    federation.enrol(federation.silo("silo-2"))
    federation.run()
    assert [entry.silo for entry in entries(federation, ControlReset)] == ["silo-2"]
    assert [entry.code for entry in entries(federation, UpdateRefused)] == ["wrong-parent"]
    assert all(silo.finished for silo in federation.silos.values())
    assert {silo.machine.state.control_epoch for silo in federation.silos.values()} == {1}
    check_invariant(federation)


def hostile(change: Callable[[Tensor, UpdateMetadata], tuple[Tensor, UpdateMetadata]]):
    def training(silo: MemorySilo, step: Train, x: Tensor, c: Tensor, c_i: Tensor) -> tuple[Tensor, UpdateMetadata]:
        return change(*gradient_descent(silo, step, x, c, c_i))

    return training


def metadata(steps: int = 10, step_size_sum: float = 1.0) -> UpdateMetadata:
    return UpdateMetadata(steps=steps, step_size_sum=step_size_sum, metrics={})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d, m: (d * float("nan"), m), "update-not-finite"),
        (lambda d, m: (d / 0.0, m), "update-not-finite"),
        (lambda d, m: (d * 1e9, m), "update-too-large"),
        (lambda d, m: (d, metadata(steps=11)), "update-steps"),
        (lambda d, m: (d, metadata(step_size_sum=1.1)), "update-steps"),
        (lambda d, m: (d, metadata(step_size_sum=0.0)), "update-steps"),
    ],
)
def test_a_bad_update_is_refused_and_the_round_goes_on(change, code: str) -> None:
    federation = federation_of(1)
    federation.enrol_all()
    federation.silos["silo-1"].training = hostile(change)
    federation.run()
    assert [(entry.silo, entry.code) for entry in entries(federation, UpdateRefused)] == [("silo-1", code)]
    assert [member.silo for member in entries(federation, RoundPublished)[0].cohort] == ["silo-0", "silo-2", "silo-3"]
    assert str(federation.silos["silo-1"].errors[0]).startswith(f"{code}: expected")


def test_a_cohort_below_the_minimum_is_abandoned_and_tried_again() -> None:
    federation = federation_of(1)
    federation.enrol_all()
    original = dict(federation.silos)
    for name in ("silo-1", "silo-2", "silo-3"):
        del federation.silos[name]
    federation.silos.update({name: silo for name, silo in original.items() if name != "silo-0"})
    bad = hostile(lambda d, m: (d * float("nan"), m))
    for name in ("silo-1", "silo-2", "silo-3"):
        federation.silos[name].training = bad
    federation.run(until=lambda: "round.abandoned" in federation.kinds())
    assert [entry.reason for entry in entries(federation, RoundAbandoned)] == ["below-minimum-cohort"]
    for name in ("silo-1", "silo-2", "silo-3"):
        federation.silos[name].training = gradient_descent
    federation.run()
    published = entries(federation, RoundPublished)
    assert [(entry.round, entry.attempt, len(entry.cohort)) for entry in published] == [(1, 2, 4)]


def test_an_expired_admission_is_refused_in_words() -> None:
    federation = federation_of(2)
    federation.enrol_all()
    silo = federation.silos["silo-0"]
    federation.now += federation.agreement.federation.credential_seconds + 5
    with pytest.raises(
        RefusedError, match="credential-expired: expected a credential that is still valid, found one that"
    ):
        federation.enclave.receive("silo-0", silo.machine.join())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store, names: store.delete(names["state"]), "the store does not hold it"),
        (lambda store, names: store.write(names["state"], b"x" * 200), "changed since the log named it"),
        (lambda store, names: store.delete(names["model"]), "missing from the store"),
        (lambda store, names: store.write(names["model"], b"x" * 200), "changed there"),
        (lambda store, names: flip(store, names["entries"]), "does not verify|damaged"),
    ],
)
def test_a_damaged_store_does_not_start(damage, words: str) -> None:
    federation = federation_of(3)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 1)
    store = federation.store
    published = entries(federation, RoundPublished)[-1]
    names = {
        "state": f"state/{published.state.hex()}.sealed",
        "model": next(name for name in store.list("models/00000001") if name.endswith(".model.blob")),
        "entries": next(name for name in store.list("log/tile/entries/")),
    }
    damage(store, names)
    with pytest.raises(StartRefusedError, match=words):
        federation.boot()


def flip(store, name: str) -> None:
    data = bytearray(store.read(name))
    data[len(data) // 2] ^= 1
    store.write(name, bytes(data))


def test_another_image_does_not_take_up_the_store() -> None:
    federation = federation_of(2)
    with pytest.raises(StartRefusedError, match="sealed by another image, TCB, agreement or log"):
        federation.boot(measurement=bytes.fromhex("a5" * 48))
    assert bytes.fromhex("a5" * 48) != MEASUREMENT


def test_another_agreement_over_the_same_store_is_refused_with_both_digests() -> None:
    federation = federation_of(2)
    before = federation.agreement
    federation.agreement = federation_of(3).agreement
    with pytest.raises(StartRefusedError) as refused:
        federation.boot()
    assert before.digest.hex() in str(refused.value)
    assert federation.agreement.digest.hex() in str(refused.value)


def test_the_same_bits_for_every_arrival_order() -> None:
    finals = []
    for seed in range(6):
        federation = federation_of(2, coordinates=300)
        federation.enrol_all()
        generator = torch.Generator().manual_seed(seed)

        def shuffle(generator: torch.Generator = generator, federation: MemoryFederation = federation) -> bool:
            order = torch.randperm(len(federation.outbox), generator=generator).tolist()
            by_silo: dict[str, list[tuple[str, bytes]]] = {}
            for item in federation.outbox:
                by_silo.setdefault(item[0], []).append(item)
            turns = [list(federation.outbox)[index][0] for index in order]
            federation.outbox.clear()
            federation.outbox.extend(by_silo[name].pop(0) for name in turns)
            return False

        federation.run(until=shuffle)
        finals.append(federation.silos["silo-0"].models[-1])
    assert all(torch.equal(finals[0], each) for each in finals)
    assert copy.deepcopy(finals[0]).numel() == 300
    assert os.sched_getaffinity(0)


def test_a_silo_without_the_initial_model_is_passed_over() -> None:
    federation = federation_of(1)
    federation.enrol_all()
    asked = []

    def send_initial(silo: MemorySilo, content: bytes) -> None:
        asked.append(silo.name)
        if silo.name == "silo-0":
            federation.enclave.receive(silo.name, silo.machine.join())
        else:
            MemoryFederation.send_initial(federation, silo, content)

    federation.send_initial = send_initial  # type: ignore[method-assign]
    federation.run()
    assert asked == ["silo-0", "silo-1"]
    assert all(silo.finished for silo in federation.silos.values())


def test_an_upload_while_the_round_is_merged_is_too_late() -> None:
    federation = federation_of(2)
    federation.enrol_all()
    late = federation.silos["silo-3"]
    upload = federation.upload
    federation.upload = lambda silo: None if silo is late else upload(silo)  # type: ignore[method-assign]
    closing = federation.enclave._closing
    seen: list[str] = []
    run = closing.run

    def merging(*arguments: object) -> object:
        try:
            federation.enclave.complete("silo-3", late.machine.state.open_pending())
        except RefusedError as error:
            seen.append(str(error.refusal.code))
        federation.enclave.receive("silo-3", late.machine.join())
        return run(*arguments)  # type: ignore[arg-type]

    closing.run = merging  # type: ignore[method-assign,assignment]
    federation.run(until=lambda: "round.published" in federation.kinds())
    assert seen == ["round-closed"]
    assert len(entries(federation, RoundPublished)[0].cohort) == 3


def test_an_admission_that_runs_out_while_the_upload_is_judged() -> None:
    federation = federation_of(1)
    federation.enrol_all()
    slow = federation.silos["silo-2"]
    complete = federation.enclave.complete

    def judged_slowly(silo: str, source: object) -> bytes:
        if silo == "silo-2":
            begin = federation.enclave._uploads.begin

            def begun(*arguments: object) -> object:
                task = begin(*arguments)  # type: ignore[arg-type]
                federation.now += 4000
                return task

            federation.enclave._uploads.begin = begun  # type: ignore[method-assign,assignment]
        return complete(silo, source)  # type: ignore[arg-type]

    federation.enclave.complete = judged_slowly  # type: ignore[method-assign]
    federation.run(until=lambda: bool(slow.errors))
    assert str(slow.errors[0]).startswith("credential-expired: expected a credential that is still valid")


def test_a_repeated_upload_gets_its_receipt_again() -> None:
    federation = federation_of(1)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("update.accepted") == 2)
    silo = federation.silos["silo-0"]
    pending = silo.machine.state.pending
    assert pending is not None
    silo.machine.accepted(pending, federation.enclave.complete("silo-0", silo.machine.state.open_pending()))
    assert federation.kinds().count("update.accepted") == 2


def test_a_replayed_enrolment_is_answered_and_not_logged() -> None:
    federation = federation_of(1)
    silo = federation.silo("silo-0")
    request = silo.machine.welcome(federation.enclave.hello(silo.machine.hello()))
    federation.enclave.enrol(request)
    size = len(federation.kinds())
    with pytest.raises(RefusedError, match="stale-nonce: expected a challenge: one that was not used yet"):
        federation.enclave.enrol(request)
    federation.boot()
    with pytest.raises(RefusedError, match="wrong-boot: expected a request sealed to boot"):
        federation.enclave.enrol(request)
    assert federation.kinds()[size:] == ["appliance.started"]

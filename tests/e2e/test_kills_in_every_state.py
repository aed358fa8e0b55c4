"""`kill -9` of the enclave, the gateway and a silo in the states of a round (`kill_moments.py`), in one federation.

After each kill the round is published with what every survivor had submitted, or has submitted again. At the end the
log verifies, nothing that was submitted is lost or counted twice, and model and control variates are those of the
papers' boxes in NumPy for the cohorts that the log names. Every state is played, and the victim is the one that the
state is worst for; `test_kills_whole_product.py` plays every state with every victim.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from kill_story import Story, story

from audit.entries import ApplianceStarted, ControlReset, RoundAbandoned, RoundPublished
from audit.replay import Phase

torch.set_num_threads(1)
PLAYED = (
    ("nobody-admitted", "enclave"),
    ("two-admitted", "gateway"),
    ("initial-model-half-way", "enclave"),
    ("in-training", "silo"),
    ("model-half-way", "enclave"),
    ("sealed-not-sent", "silo"),
    ("update-half-way", "gateway"),
    ("update-half-way", "silo"),
    ("not-judged", "enclave"),
    ("two-accepted", "gateway"),
    ("two-accepted", "silo"),
    ("all-accepted", "enclave"),
    ("merging", "gateway"),
    ("merging", "enclave"),
    ("published-not-cosigned", "silo"),
    ("published-not-cosigned", "enclave"),
    ("closed-not-cosigned", "enclave"),
    ("final-model-half-way", "gateway"),
    ("final-model-half-way", "silo"),
)


@pytest.fixture(scope="module")
def told() -> Iterator[Story]:
    with story(PLAYED) as made:
        yield made


def test_every_round_is_published_once_and_the_audit_passes(told: Story) -> None:
    made = told.made
    assert made.published() == list(range(1, told.stage.rounds + 1))
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml", party="silo-0")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")


def test_all_silos_end_well_with_the_same_model(told: Story) -> None:
    assert told.exit_codes == dict.fromkeys(told.made.names, 0)
    assert len({(told.made.folder / name / "final.json").read_text() for name in told.made.names}) == 1


@pytest.mark.parametrize(("moment", "victim"), PLAYED)
def test_the_round_is_published_with_every_survivor(told: Story, moment: str, victim: str) -> None:
    strike = told.strike(moment, victim)
    if strike.phase is Phase.CLOSED:
        return
    published = told.after(strike)[-1]
    assert isinstance(published, RoundPublished)
    members = {member.silo for member in published.cohort}
    assert members >= (set(strike.survivors) or set(told.made.names))


@pytest.mark.parametrize(("moment", "victim"), PLAYED)
def test_an_attempt_is_abandoned_only_where_the_enclave_was_killed_in_it(told: Story, moment: str, victim: str) -> None:
    """Its round key was in that enclave's memory only."""
    strike = told.strike(moment, victim)
    abandoned = [entry.reason for entry in told.after(strike) if isinstance(entry, RoundAbandoned)]
    lost = victim == "enclave" and strike.phase in (Phase.COLLECTING, Phase.COMMITTED)
    assert abandoned == (["restart"] if lost else [])


@pytest.mark.parametrize(("moment", "victim"), [(moment, victim) for moment, victim in PLAYED if victim == "silo"])
def test_an_update_that_a_killed_silo_had_sealed_is_used_as_it_was(told: Story, moment: str, victim: str) -> None:
    strike = told.strike(moment, victim)
    if strike.pending is None:
        assert moment in ("in-training", "final-model-half-way")
        return
    [used] = [
        member.upload_id
        for entry in told.made.entries(RoundPublished)
        if entry.round == strike.pending.round
        for member in entry.cohort
        if member.silo == strike.silo
    ]
    assert used == strike.pending.upload_id


def test_nothing_is_lost_and_nothing_counts_twice(told: Story) -> None:
    fates = told.fates()
    assert fates.losses == []
    assert fates.refused == {}
    assert fates.repeated == fates.accepted - fates.used
    assert fates.repeated > 0


def test_the_final_model_is_the_oracles(told: Story) -> None:
    expected = told.oracle()
    assert expected.travelled > 1
    expected.check_model(told.final_model("silo-0"))


@pytest.mark.parametrize("silo", range(4))
def test_each_silo_holds_the_oracles_control_variate(told: Story, silo: int) -> None:
    told.oracle().check_control(silo, told.control(told.made.names[silo]))
    assert not told.made.entries(ControlReset)


def test_the_supervisor_starts_what_was_killed_and_says_so(told: Story) -> None:
    victims = Counter(victim for _, victim in PLAYED)
    log = told.stage.appliance.errors
    for victim in ("enclave", "gateway"):
        assert f"supervisor | event=restart child={victim} count={victims[victim]}" in log
    assert len(told.made.entries(ApplianceStarted)) > victims["enclave"]
    assert "given-up" not in log

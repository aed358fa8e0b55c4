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

from audit.entries import ApplianceStarted
from audit.phases import Phase

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
    ("all-accepted", "gateway"),
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
    told.check_the_end()


@pytest.mark.parametrize(("moment", "victim"), PLAYED)
def test_what_the_kill_hit_goes_on(told: Story, moment: str, victim: str) -> None:
    strike = told.strike(moment, victim)
    if strike.phase is not Phase.CLOSED:
        told.check_published(strike)
    told.check_abandoned(strike)
    told.check_pending(strike)


@pytest.mark.parametrize("victim", ["gateway", "silo"])
def test_an_upload_that_was_cut_goes_on_where_it_stopped(told: Story, victim: str) -> None:
    """And is not sent again from its beginning: it is more than two MiB, of which one had arrived."""
    assert 2**18 < told.strike("update-half-way", victim).sent_bytes < 3 * 2**19


def test_nothing_is_lost_and_nothing_counts_twice(told: Story) -> None:
    told.check_nothing_is_lost()
    assert told.fates().repeated > 0


def test_model_and_control_variates_are_the_oracles(told: Story) -> None:
    told.check_the_oracle()


def test_the_supervisor_starts_what_was_killed_and_says_so(told: Story) -> None:
    victims = Counter(victim for _, victim in PLAYED)
    log = told.stage.appliance.errors
    for victim in ("enclave", "gateway"):
        assert f"supervisor | event=restart child={victim} count={victims[victim]}" in log
    assert len(told.made.entries(ApplianceStarted)) == 1 + victims["enclave"]
    assert "given-up" not in log


def test_silos_say_nothing_on_stderr_but_what_is_meant_for_people(told: Story) -> None:
    for silo in (run for run in told.made.runs if run.name in told.made.names):
        assert [line for line in silo.errors.splitlines() if "PROTECTS NOTHING" not in line] == []

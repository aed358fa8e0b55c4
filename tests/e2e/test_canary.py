"""The canary: what must stay secret is in the enclave's memory while it is needed there, and nowhere else, ever.

One federation is played through merges, refused updates, a crash in the middle of a merge, and killed gateways, silos
and appliances (`canary_story.py`). At each moment all that an operator can look at is searched
(`CanaryFederation.places`), by the search that finds all of it inside.

Not searched for outside, as no test can know them: the enclave's P-256 key and the ML-KEM halves of its keys. Not
claimed: that metrics and keys are wiped inside. They are Python's objects, dropped and not overwritten.
"""

import re
import secrets
from collections.abc import Iterator

import pytest
import torch
from canary_federation import METRICS, OWNERS, PROCESSES, PUBLIC, TASK, TERMS, CanaryFederation, network
from canary_story import CRASHED, IN_A_MERGE, JUDGES, MERGED, MERGES, MOMENTS, WAIT, Seen, tell
from markers import Kind, Markers
from process_federation import federation
from process_search import may_read_memory

torch.set_num_threads(1)
KEYS_OF_A_BOOT = {"signing key", "half the sealing key", "half the round key"}
KEYS_OF_THE_STATE = {"state key", "log key", "model's content key", "control's content key"}
# Places and what passes there: what the search would have found, had the secret lain beside it.
PASSES = {
    "gateway's memory": {"agreement", "sealed blob"},
    "supervisor's memory": {"agreement"},
    "open files": set[str](),
    "arguments and environments": {"arguments"},
    "store and spool": {"agreement", "sealed blob"},
    "log lines": {"agreement"},
    "temporary files": set[str](),
    "unix socket": {"agreement"},
    "enrolment port": {"agreement"},
    "federation port": {"agreement", "sealed blob"},
    "status": {"agreement"},
}


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    if not may_read_memory():
        pytest.skip("needs root with CAP_SYS_PTRACE, to read the memory of other processes")
    markers = Markers(secrets.randbits(64))
    with federation(network=network(markers), task=TASK, replace=TERMS, owners=OWNERS) as made:
        canary = CanaryFederation(made, markers)
        try:
            yield tell(canary)
        finally:
            canary.close()


def test_all_of_it_is_in_the_enclaves_memory_while_it_merges(seen: Seen) -> None:
    """The positive control: without it the other tests could not fail."""
    assert seen.inside[MERGES] >= IN_A_MERGE | KEYS_OF_A_BOOT
    assert seen.inside[MERGES] & METRICS >= {"own metric's value", "shared metric's value"}
    assert seen.inside[MERGED] >= KEYS_OF_THE_STATE


def test_so_is_an_update_that_will_be_refused_while_it_is_judged(seen: Seen) -> None:
    assert str(Kind.REFUSED) in seen.inside[JUDGES]


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_is_nowhere_outside_the_enclave(seen: Seen, moment: str) -> None:
    found = seen.outside[moment]
    assert {place: names - PUBLIC for place, names in found.items() if names - PUBLIC} == {}
    assert set(PASSES) - set(found) <= {"status"}


def test_each_place_that_was_searched_held_what_passes_there(seen: Seen) -> None:
    for place, passes in PASSES.items():
        assert set().union(*(found.get(place, set()) for found in seen.outside.values())) >= passes, place


def test_the_silos_own_keys_were_among_what_was_searched_for(seen: Seen) -> None:
    """Their sealing keys are not even in the enclave; the round key that updates are sealed to is the enclave's."""
    assert set(seen.keys_made) == {str(Kind.CONTENT_KEY), str(Kind.SEALING_KEY)}
    assert all(str(Kind.SEALING_KEY) not in names for names in seen.inside.values())


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment not in (MERGES, JUDGES, CRASHED)])
def test_the_enclave_itself_keeps_no_number_that_it_does_not_need(seen: Seen, moment: str) -> None:
    """After a merge, after refusals, and while accepted updates wait: those lie sealed in the spool."""
    markers = {str(kind) for kind in Kind}
    assert seen.inside[moment] & markers <= {str(Kind.CONTENT_KEY)}


def test_while_updates_wait_the_enclave_holds_their_keys(seen: Seen) -> None:
    assert str(Kind.CONTENT_KEY) in seen.inside[WAIT]


def test_refusals_say_why_and_quote_nothing(seen: Seen) -> None:
    said = {what: words.removesuffix(" (so says the appliance, unsigned)") for what, words in seen.refusals.items()}
    assert said == {
        "changed bytes": "update-signature: expected the signature of the admitted silo over header, key and chunks, "
        "and the chunks that it is over, found segment 6: does not open under this key, header and place; send the "
        "stored bytes again; seal again if that does not help",
        "another round": said["another round"],
        "metadata": "update-corrupt: expected a key that opens, and metadata, found metadata of another form; seal the "
        "update again to the key that the appliance announced",
        "not finite": "update-not-finite: expected finite numbers, found NaN or infinity among the parameters; lower "
        "the step size; nothing of this update was used",
        "norm": "update-too-large: expected a norm of at most 1e+06, found a larger one; lower the step size, or clip "
        "the update",
    }
    newest = r"wrong-round: expected round \d+, found \d+; train on the newest announcement"
    assert re.fullmatch(newest, said["another round"])


def test_the_log_names_the_reasons_and_the_federation_went_on(seen: Seen) -> None:
    """A code each; what else an entry holds is in the store, and was searched."""
    assert seen.refused == {"update-corrupt", "update-not-finite", "update-too-large"}
    assert seen.abandoned == ["restart", "restart"]


def test_a_crash_in_a_merge_leaves_no_core_dump(seen: Seen) -> None:
    """Though the operator has set the limit on them to unlimited; what it does leave was searched."""
    assert seen.cores == set()
    assert CRASHED in seen.outside


def test_a_crash_says_nothing(seen: Seen) -> None:
    """One line of codes for each event, also from a process that was killed by a signal."""
    assert len(seen.lines) > 20
    words = r"[a-z-]+( [a-z_-]+(=\S+|: done|: not done, .*))*"
    assert [line for line in seen.lines if not re.fullmatch(rf"enclave \| event={words}", line)] == []


def test_the_enclave_forks_nobody_and_shares_no_memory(seen: Seen) -> None:
    assert seen.children == []
    assert [line for line, flags in seen.mappings if {"sh", "wr"} <= flags] == []


def test_its_memory_stays_out_of_swap_or_it_says_why_not(seen: Seen) -> None:
    assert seen.enclave_status["VmSwap"] == "0 kB"
    [said] = {line.partition("no-swap: ")[2] for line in seen.lines if "no-swap: " in line}
    if said == "done":
        assert [line for line, flags in seen.mappings if "wr" in flags and "lo" not in flags] == []
    else:
        assert said.startswith("not done, ")


def test_a_dead_silos_folder_holds_its_control_variate_and_the_model_and_nothing_else_in_the_clear(seen: Seen) -> None:
    """THREATS.md says so of c_i; the update that was under way lies there sealed."""
    in_the_clear = {name: found - PUBLIC for name, found in seen.dead_silos_files.items() if found - PUBLIC}
    models = {name for name in in_the_clear if "/models/" in name}
    assert len(models) == 1, "the newest announced one, kept for a recovery of the appliance"
    # A published model shows what went into it to everybody who has it; the file is that model, and holds no more.
    assert all(in_the_clear[name] <= seen.download["opened"] for name in models)
    controls = {name: found for name, found in in_the_clear.items() if name not in models}
    assert controls
    assert all("/controls/" in name and found == {str(Kind.CONTROL)} for name, found in controls.items())
    [update] = [found for name, found in seen.dead_silos_files.items() if "/updates/" in name]
    assert "sealed blob" in update


def test_what_a_silo_downloads_lies_sealed_in_a_file_without_a_name(seen: Seen) -> None:
    assert seen.download["as it lies there"] == {"agreement", "sealed blob"}
    assert seen.download["files with a name"] == set()
    assert seen.download["opened"] >= {str(Kind.MODEL), str(Kind.CONTROL), str(Kind.FLOAT_BUFFER)}


def test_a_silo_tells_its_user_the_cohorts_mean_metrics_and_no_more(seen: Seen) -> None:
    mean = {"shared metric's name", "shared metric's text"}
    assert {name: found - PUBLIC for name, found in seen.silos_said.items()} == {
        name: mean if name in PROCESSES else set() for name in seen.silos_said
    }

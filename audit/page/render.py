"""From a verdict and a story to one HTML page: self-contained, without script, and with everything escaped.

Pure. Texts in the log are foreign: they go through the template's escaping, and nothing is marked safe but the figures,
which escape for themselves. The page's policy allows its own style by digest and nothing else.
"""

import base64
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from attestation.reference_values import ReferenceValues
from attestation.terms import coverage_warnings
from audit.evidence import LATEST_TIME
from audit.page.plots import Bar, Mark, Row, Span, bars, merged, timeline
from audit.report import AuditReport, AuditVerdict, NewestCheckpoint
from audit.story import AttemptStory, SiloStory, Story
from protocol.agreement import Agreement, SiloTerms
from protocol.agreement_toml import printable
from protocol.fields import format_digest

_MOST_ROWS = 200
_SENTENCES = {
    AuditVerdict.PASS: "Everything in this log that can be checked was checked, and holds.",
    AuditVerdict.FAIL: "Something in this log contradicts itself, the agreement, or what somebody has kept of it. "
    "What follows is what it tells up to there.",
    AuditVerdict.INCOMPLETE: "Nothing contradicts, but something that should be checked is missing or unknown.",
}


def render(report: AuditReport, story: Story, agreement: Agreement, *, verified_at: int, version: str) -> bytes:
    """The page as UTF-8. `verified_at`: unix seconds, by the auditor's own clock; `version`: of the verifying code."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        files(__package__).joinpath("page.html.j2").read_text("utf-8")
    )
    ended = story.attempts
    published = [attempt for attempt in ended if attempt.reason is None]
    page = template.render(
        report=report,
        federation=agreement.federation.name,
        agreement_digest=format_digest(report.agreement),
        verdict_line=report.line,
        verdict_sentence=_SENTENCES[report.verdict],
        verified_on=_time(verified_at),
        version=version,
        style=Markup(style),  # noqa: S704  the package's own
        style_digest=base64.b64encode(sha256(style.encode()).digest()).decode(),
        first="–" if story.first_time is None else _time(story.first_time),
        last=_time(story.newest_time) if story.first_time is not None else "–",
        rounds_agreed=agreement.federation.rounds,
        cohort_sentence=_cohorts_in_words(published, agreement),
        newest_cosigners=_names(_cosigners(report.newest) if report.newest else []),
        silos=[_silo(terms, story.silos[terms.name]) for terms in agreement.silos],
        appliance_asked=_asked(agreement.appliance),
        without=_names([silo.name for silo in agreement.silos if not silo.needs_evidence], nobody=""),
        warnings=_warnings(agreement),
        timeline=_timeline(story) if story.first_time is not None else None,
        cohorts=_cohorts(published, agreement) if published else None,
        durations=_durations(published) if published else None,
        rounds=[_round(attempt) for attempt in ended[-_MOST_ROWS:]],
        hidden_rounds=max(0, len(ended) - _MOST_ROWS),
        lineage_sentence=_lineage(published, report),
        initial_model=agreement.model.initial.hex(),
        newest_model=published[-1].model_out.hex() if published and published[-1].model_out else None,
        refusals=[
            {
                "time": _time(refusal.time),
                "silo": refusal.silo,
                "what": "enrolment" if refusal.round is None else f"update of round {refusal.round}",
                "code": refusal.code,
                "index": refusal.index,
            }
            for refusal in story.refusals[-_MOST_ROWS:]
        ],
        hidden_refusals=max(0, len(story.refusals) - _MOST_ROWS),
        events=[
            {"time": _time(event.time), "what": printable(event.what), "index": event.index}
            for event in story.events[-_MOST_ROWS:]
        ],
        hidden_events=max(0, len(story.events) - _MOST_ROWS),
        findings=[
            ("Damaged", [str(finding) for finding in report.damage]),
            ("Could not be checked", [str(finding) for finding in report.missing]),
            ("Worth knowing", list(report.information)),
        ],
    )
    return page.encode()


def _cosigners(newest: NewestCheckpoint) -> list[str]:
    owners = [vote.owner for vote in newest.cosignatures]
    return owners + [f"the witness {vote.owner}" for vote in newest.witnesses]


def _silo(terms: SiloTerms, story: SiloStory) -> dict[str, object]:
    shown = dict.fromkeys(admission.tee for admission in story.admissions)
    return {
        "name": terms.name,
        "owner": terms.owner,
        "jurisdiction": terms.jurisdiction,
        "asked": _asked(terms.reference_values) if terms.needs_evidence else "none",
        "shown": _names(list(shown), nobody="never admitted"),
        "weight": f"{terms.weight:g}",
        "admitted": len(story.admissions),
        "used": story.used,
        "refused": story.refused,
    }


def _asked(values: tuple[ReferenceValues, ...]) -> str:
    """The TEEs that are accepted, and how far their measurements reach."""
    return " or ".join(dict.fromkeys(f"{value.tee} ({value.covers}, {value.revocation})" for value in values))


def _warnings(agreement: Agreement) -> list[str]:
    parties = [("the appliance", agreement.appliance)]
    parties += [(silo.name, silo.reference_values) for silo in agreement.silos]
    found = {
        warning: [
            who for who, all_values in parties for each in all_values if warning in coverage_warnings(each.covers)
        ]
        for _, values in parties
        for value in values
        for warning in coverage_warnings(value.covers)
    }
    return [f"{_names(list(dict.fromkeys(who)))}: {warning}." for warning, who in found.items()]


def _round(attempt: AttemptStory) -> dict[str, object]:
    return {
        "number": attempt.round,
        "attempt": attempt.attempt,
        "opened": _time(attempt.opened),
        "seconds": attempt.ended - attempt.opened,
        "outcome": _names(list(attempt.cohort)) if attempt.reason is None else f"abandoned: {attempt.reason}",
        "model_in": attempt.model_in.hex()[:12] + "…",
        "model_out": None if attempt.model_out is None else attempt.model_out.hex()[:12] + "…",
        "index": attempt.index,
    }


def _cohorts_in_words(published: list[AttemptStory], agreement: Agreement) -> str:
    if not published:
        return "none yet"
    sizes = [len(attempt.cohort) for attempt in published]
    span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    minimum = agreement.federation.minimum_cohort
    return f"{span} of {len(agreement.silos)} silos in a round; the agreement asks for at least {minimum} owners"


def _cohorts(published: list[AttemptStory], agreement: Agreement) -> Markup:
    every, minimum = len(agreement.silos), agreement.federation.minimum_cohort
    series = [
        Bar(
            label=str(attempt.round),
            parts=(("used", len(attempt.cohort)), ("unused", every - len(attempt.cohort))),
            title=f"round {attempt.round}: {len(attempt.cohort)} of {every} silos ({_names(list(attempt.cohort))})",
        )
        for attempt in published
    ]
    summary = f"Cohort sizes over {len(published)} rounds: {_cohorts_in_words(published, agreement)}."
    return bars(merged(series), summary=summary, unit="silos", line=minimum)


def _durations(published: list[AttemptStory]) -> Markup:
    seconds = [attempt.ended - attempt.opened for attempt in published]
    series = [
        Bar(label=str(attempt.round), parts=(("seconds", length),), title=f"round {attempt.round}: {length} s")
        for attempt, length in zip(published, seconds, strict=True)
    ]
    summary = f"Durations of {len(published)} rounds: {min(seconds)} to {max(seconds)} seconds."
    return bars(merged(series), summary=summary, unit="seconds", height=160)


def _timeline(story: Story) -> Markup:
    starts = [event for event in story.events if event.what.startswith("the appliance started")][-_MOST_ROWS:]
    first, last = story.first_time or 0, story.newest_time
    rows = [
        Row(
            label="appliance",
            spans=(),
            marks=tuple(
                Mark(time=event.time, style="start", title=f"{_time(event.time)}: started") for event in starts
            ),
        )
    ]
    boots = [event.time for event in starts]
    for silo in story.silos.values():
        spans = []
        for admission in silo.admissions[-_MOST_ROWS:]:
            restart = next((time for time in boots if time > admission.time), last)
            end = min(admission.expires, restart, last)
            title = f"{_time(admission.time)}: admitted ({admission.tee})"
            spans.append(Span(start=admission.time, end=end, style="used", title=title))
        marks = tuple(
            Mark(time=refusal.time, style="refused", title=f"{_time(refusal.time)}: refused ({refusal.code})")
            for refusal in story.refusals[-_MOST_ROWS:]
            if refusal.silo == silo.name
        )
        rows.append(Row(label=silo.name, spans=tuple(spans), marks=marks))
    labels = [(first + (last - first) * part, _time(int(first + (last - first) * part))) for part in (0.12, 0.88)]
    summary = (
        f"When each of {len(story.silos)} silos was admitted, and when the appliance started ({len(starts)} times)."
    )
    return timeline(rows, start=first, end=last, labels=labels, summary=summary)


def _lineage(published: list[AttemptStory], report: AuditReport) -> str:
    if not published:
        return "No model has been published: what silos trained on, if anything, is the agreed initial model."
    whole = "" if report.verdict is AuditVerdict.PASS else " as far as the log could be replayed"
    return (
        f"{len(published)} models were published{whole}. Each was made by the appliance from the one before it and "
        "from its cohort's updates, the first from the initial model that the agreement names; the digests of this "
        "chain were replayed. That a model is made of these and nothing else follows from the code that evidence "
        "vouches for."
    )


def _names(names: list[str], *, nobody: str = "nobody") -> str:
    return ", ".join(names) or nobody


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if seconds <= LATEST_TIME else f"{seconds} s"

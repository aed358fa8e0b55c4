"""Votes: which owners and further witnesses have cosigned the checkpoint that the enclave waits for.

A vote is a cosignature (C2SP cosignature/v1) by a silo's identity key, or by a witness's key, over exactly that
checkpoint; each owner counts once, and a witness never in an owner's place. Nothing derived from an update is released
before the agreement's numbers of both have voted.
"""

from audit.agreed import cosigner_of, witness_key_of
from audit.note import Checkpoint, NoteSignature
from protocol.agreement import Agreement
from protocol.agreement_terms import MAXIMUM_COSIGNERS


class Votes:
    """The votes for one checkpoint."""

    def __init__(self, *, agreement: Agreement, note: str) -> None:
        self._agreement = agreement
        self.note = note
        self._checkpoint = Checkpoint.parse(note.encode())
        self._lines: dict[str, str] = {}
        self._times: dict[str, int] = {}
        self._witness_lines: dict[str, str] = {}

    @property
    def size(self) -> int:
        """The number of entries that the checkpoint covers."""
        return self._checkpoint.size

    @property
    def lines(self) -> list[str]:
        """A cosignature line for each owner and each witness who has voted, in the agreement's order.

        A note has room for no more; where there are more owners than that, for some of them and for every witness.
        """
        lines: dict[str, str] = {}
        for silo in self._agreement.silos:
            if silo.name in self._lines:
                lines.setdefault(silo.owner, self._lines[silo.name])
        room = MAXIMUM_COSIGNERS - len(self._agreement.log.witnesses)
        names = [witness.name for witness in self._agreement.log.witnesses]
        witnesses = [self._witness_lines[name] for name in names if name in self._witness_lines]
        return [*list(lines.values())[:room], *witnesses]

    @property
    def cosigned_note(self) -> str:
        """The checkpoint with the votes, as they were verified here: nothing in it was read from the store."""
        signatures = [NoteSignature.parse(line) for line in self.lines]
        return self._checkpoint.with_signatures(signatures).encode().decode()

    @property
    def reached(self) -> bool:
        """Whether the agreement's numbers of owners and of witnesses have voted."""
        return self.owners_suffice and len(self._witness_lines) >= self._agreement.log.required_witnesses

    @property
    def owners_suffice(self) -> bool:
        """Whether the agreement's number of owners has voted."""
        return len(self._owners()) >= self._agreement.log.cosigners

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What is missing, in words for the operator; empty once the votes suffice."""
        log, missing = self._agreement.log, []
        if not self.owners_suffice:
            missing.append(f"owners ({len(self._owners())} of {log.cosigners})")
        if len(self._witness_lines) < log.required_witnesses:
            absent = ", ".join(each.name for each in log.witnesses if each.name not in self._witness_lines)
            missing.append(f"witnesses ({len(self._witness_lines)} of {log.required_witnesses}; not yet: {absent})")
        return tuple(missing)

    def voted(self, silo: str) -> bool:
        return silo in self._lines

    def witnessed(self, witness: str) -> bool:
        """Whether this witness has cosigned."""
        return witness in self._witness_lines

    @property
    def time(self) -> int:
        """A time (unix seconds) that has passed by some honest silo's clock, whatever `faulty` owners claim."""
        newest: dict[str, int] = {}
        for silo in self._agreement.silos:
            if silo.name in self._times:
                newest[silo.owner] = max(newest.get(silo.owner, 0), self._times[silo.name])
        claims = sorted(newest.values(), reverse=True)
        faulty = self._agreement.log.faulty
        return claims[faulty] if len(claims) > faulty else 0

    def add(self, silo: str, line: str) -> None:
        """Count a silo's cosignature.

        Raises `SignatureError` or `MalformedError` if the line is no cosignature of this checkpoint by that silo.
        """
        key = cosigner_of(self._agreement, self._agreement.silo(silo))
        signature = NoteSignature.parse(line)
        self._times[silo] = key.verify(signature, self._checkpoint.note.text) or 0
        self._lines[silo] = line

    def add_witness(self, witness: str, line: str) -> None:
        """Count a further witness's cosignature. Its time says nothing to the clock: no `faulty` bounds its lies.

        Raises `SignatureError` or `MalformedError` if the line is no cosignature of this checkpoint by that witness.
        """
        key = witness_key_of(self._agreement.witness(witness))
        key.verify(NoteSignature.parse(line), self._checkpoint.note.text)
        self._witness_lines[witness] = line

    def _owners(self) -> set[str]:
        return {silo.owner for silo in self._agreement.silos if silo.name in self._lines}

"""A federation whose appliance and silos each write to a modelled disk, and are started again after they stopped.

Real enclave, real silo machines, real `DirectoryStore`s; the disk and what is left of it are `modelled_disk`'s. A story
is told to its end whatever happens in it: whoever has stopped is started again on what is left.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import torch
from memory_federation import MemoryFederation
from modelled_disk import Disk, ModelledOs, Outcome, Plan, Stopped
from torch import Tensor

import audit.store
import audit.stored_files
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict
from audit.store import DirectoryStore, StoreError
from audit.verify import verify
from silo_client.bodies import read_control

APPLIANCE = "appliance"
"""The party that is no silo."""
SILO = "silo-1"
_REPLACE = {"rounds = 40": "rounds = 2"}
_LIVES = 6


class DiskFederation(MemoryFederation):
    """A store that fails ends its process, whoever was speaking to whom."""

    def deliver(self, name: str, message: bytes) -> None:
        super().deliver(name, message)
        for silo in self.silos.values():
            for error in silo.errors:
                if isinstance(error, StoreError):
                    silo.errors.remove(error)
                    raise error


class CrashingFederation:
    """Three silos, two rounds. `plan` is for the first life of whoever writes to the disk `party`, `then` for the next.

    After the first the disk is left as `outcome` says, after the second as a power cut without any mercy leaves it.
    `rotates`: between the rounds the enclave is started under a new log key, and `plan` is for that start.
    """

    def __init__(
        self,
        *,
        party: str = APPLIANCE,
        plan: Plan | None = None,
        outcome: Outcome = Outcome.KILLED,
        seed: int = 0,
        then: Plan | None = None,
        rotates: bool = False,
        silos: int = 3,
    ) -> None:
        names = [f"silo-{i}" for i in range(silos)]
        self.disks = {name: Disk() for name in (APPLIANCE, *names)}
        self.os = ModelledOs(self.disks)
        self.party, self.outcome, self.seed = party, outcome, seed
        self.disks[party].plan = None if rotates else plan
        self._plan, self._then, self._rotates = plan, then, rotates
        self.stops: list[BaseException] = []
        self.audits: list[AuditReport] = []
        self._silos = silos
        self._federation: MemoryFederation | None = None
        self._enclave_is_up = False

    @property
    def federation(self) -> MemoryFederation:
        assert self._federation is not None, "no enclave has come up yet"
        return self._federation

    @contextmanager
    def mounted(self) -> Iterator["CrashingFederation"]:
        """The stores of this process are on these disks."""
        with mock.patch.object(audit.store, "os", self.os), mock.patch.object(audit.stored_files, "os", self.os):
            yield self

    def store(self, party: str) -> DirectoryStore:
        """A new process's store."""
        store = DirectoryStore(f"/{party}/store")
        store.settle()
        return store

    def tell(self) -> None:
        """All of it, with a new process for each that stops."""
        for _ in range(_LIVES):
            try:
                self.live()
                self.disks[self.party].plan = None
                return
            except BaseException as error:
                if not self.is_a_stop(error):
                    raise
                self.stops.append(error)
                self.restart()
        raise AssertionError(f"stopped {_LIVES} times: {self.stops}")

    def is_a_stop(self, error: BaseException) -> bool:
        """Whether a process ended as planned."""
        return isinstance(error, Stopped)

    def restart(self) -> None:
        """What is left of the party's disk, and who is gone."""
        disk = self.disks[self.party]
        disk.cut(self.outcome, self.seed)
        disk.plan, self._then = self._then, None
        if disk.plan is not None:
            self.outcome = Outcome.SYNCED
        if self.party == APPLIANCE:
            self._enclave_is_up = False
            self.audits.append(self.audit())
        elif self._federation is not None:
            self._federation.silos.pop(self.party, None)

    def start_over(self) -> None:
        """Everybody starts anew, on the disks as they are."""
        self._enclave_is_up = False
        self.federation.silos.clear()

    def live(self) -> None:
        """Whoever is not there starts and enrols; then messages are delivered until the end."""
        if self._federation is None:
            self._federation = DiskFederation(silos=self._silos, replace=_REPLACE, store=self.store(APPLIANCE))
            self._enclave_is_up = True
        federation = self._federation
        if restarted := not self._enclave_is_up:
            federation.store = self.store(APPLIANCE)
            federation.boot()
            self._enclave_is_up = True
        self._enrol_whoever_is_not_there(federation, all_of_them=restarted)
        if self._rotates:
            federation.run(until=lambda: federation.kinds().count("round.published") == 1)
            self._rotates, self.disks[APPLIANCE].plan = False, self._plan
            federation.boot(rotate_log_key=True)
            self._enrol_whoever_is_not_there(federation, all_of_them=True)
        federation.run()

    def _enrol_whoever_is_not_there(self, federation: MemoryFederation, *, all_of_them: bool) -> None:
        joined = federation.enclave.describe().joined
        for terms in federation.agreement.silos:
            if terms.name not in federation.silos:
                if terms.name in joined:
                    federation.enclave.left(terms.name)
                federation.silo_stores[terms.name] = self.store(terms.name)  # type: ignore[assignment]
                federation.enrol(federation.silo(terms.name))
            elif all_of_them or terms.name not in joined:
                federation.enrol(federation.silos[terms.name])

    def audit(self) -> AuditReport:
        """`audit verify` of the appliance's store as it is."""
        if self._federation is None:
            agreement = MemoryFederation(silos=self._silos, replace=_REPLACE).agreement
        else:
            agreement = self._federation.agreement
        return verify(LogFiles(DirectoryStore(f"/{APPLIANCE}/store")), agreement)

    def results(self) -> list[Tensor]:
        """Every silo's final model and control variate."""
        silos = [self.federation.silos[terms.name] for terms in self.federation.agreement.silos]
        assert all(silo.finished for silo in silos), [silo.errors for silo in silos]
        controls = [read_control(silo.machine.state, self.federation.layout) for silo in silos]
        return [silo.models[-1] for silo in silos] + controls


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@cache
def undisturbed() -> tuple[CrashingFederation, list[Tensor]]:
    """The story without a stop, and its results."""
    told = CrashingFederation()
    with told.mounted():
        told.tell()
        return told, told.results()


def check_in_between(report: AuditReport) -> None:
    """A stopped appliance's store: nothing contradicts; what the next start removes or completes is named."""
    assert report.verdict is not AuditVerdict.FAIL, report
    said = {(finding.problem, finding.resource or "") for finding in report.missing}
    for problem, resource in said:
        assert (
            problem.startswith("lies beyond the newest checkpoint")
            or (problem, resource) == ("expected a checkpoint, found none", "log/checkpoint")
            or (problem, resource) == ("expected the newest checkpoint, found none", "log/checkpoint")
        ), report.missing

"""Plays scenario scripts: lines with `>` are what happens, the others what the scheduler wants done.

    > accept a maps=2 reduces=1 [priority=2 weight=1 attempts=4 split=100]
    > workers w1.1 w2.1:4 w3.1:1(a/map-00000/1@20s~40%)  live incarnations, slots (default 2), what they run
    > workers w1.1(a/map-00000/1@20s~40%!9s)             its attempt has finished no record for 9 s
    > workers w1.1+0.5s:4                                as of half a second ago
    > workers w1.1:2d                                   it drains
    > workers w1.1=                                      by the same heartbeat as in the look before
    > probed w1.1 gone                                   or `reached`
    > wait 10s
    > queue 0                                          ready messages
    > committed a map-00000/1 by w1.1 [in 10s]
    > failed a reduce-00000/1 by w1 input_lost map-00000/1 [...]     or any other kind of failure;
                                                     `map-00000/1?`: its worker could not be reached
    > stopped w1.1 [leaving its outputs]
    > claims a map-00000/1@w1.1 map-00001=committed/2@w2.1 map-00002=reopened/3 [map-00003=lease/5@w1.1]
               [map-00004=released/1]
    > written a map-00000=committed/2@w2.1           the store came back older; written back, it says so
    > cancel a, finished a, unfinished a
    > takeover                                         a new scheduler goes on from what the store knows
    > story a                                          what its saved record tells of what happened to it
    > refill a                                         what an emptied store is given back

Time stands still but for `wait`. Events of the outside are left out unless a script says `> events on`,
questions to workers unless it says `> probes on`, causes of commands unless it says `> causes on`.
"""

import re
from collections.abc import Callable

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.invariants import check
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol import messages
from mr.protocol.claims import Claim, Holder
from mr.protocol.failures import Failure, FailureKind, Loss, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_kind
from mr.protocol.jobs import FileRange, Split
from mr.protocol.queues import task_priority
from mr.protocol.records import (
    Incident,
    JobRecord,
    MapOutput,
    Outcome,
    PartOutput,
    RunningTask,
    TaskRecord,
    TaskResult,
    TaskStats,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings
from tests.support.specs import make_spec

SETTINGS = Settings()


def words_of(fields: list[str]) -> dict[str, str]:
    """Read `maps=2 reduces=1`."""
    return dict(field.split("=") for field in fields)


def incarnation_of(text: str) -> tuple[WorkerId, Incarnation]:
    """Read `w1.2`: the second incarnation of w1."""
    return WorkerId(text.partition(".")[0]), Incarnation(text)


def _lost(task: TaskId, number: str) -> LostInput:
    found = Loss.UNREACHABLE if number.endswith("?") else Loss.MISSING
    return LostInput(task, int(number.removesuffix("?")), WorkerId(""), found=found)


class Script:
    """One scheduler and the script it is fed."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.scheduler = Scheduler(settings, seed=1)
        self.now = 0.0
        self.with_events = False
        self.with_probes = False
        self.with_causes = False
        #: Number of each incarnation's last heartbeat.
        self.numbers: dict[Incarnation, int] = {}
        #: As they were last saved.
        self.records: dict[JobId, JobRecord] = {}
        #: Jobs whose maps write the output parts.
        self.map_only: set[str] = set()

    def play(self, text: str) -> str:
        """Run a script. Returns it with the commands that really came after each line."""
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith(("#", ">")) or not line.strip():
                lines.append(line)
            if line.startswith(">"):
                lines += [f"    {rendered}" for rendered in self._happen(line[1:].split())]
        return "\n".join(lines) + "\n"

    def _happen(self, words: list[str]) -> list[str]:
        verb, *rest = words
        if verb == "wait":
            self.now += float(rest[0].removesuffix("s"))
            return []
        if verb in ("events", "probes", "causes"):
            setattr(self, f"with_{verb}", rest == ["on"])
            return []
        if verb == "story":
            return [_incident(incident) for incident in self.records[JobId(rest[0])].incidents]
        if verb == "takeover":
            return self._takeover()
        if verb == "refill":
            return self._refill(JobId(rest[0]))
        read: Callable[..., e.Event] = getattr(self, f"_read_{verb}")
        return self._handle(read(*rest))

    def _handle(self, event: e.Event) -> list[str]:
        commands = self.scheduler.handle(event)
        check(self.scheduler.state)
        steps = [command.effect for command in commands]
        assert steps == sorted(steps), "the order of effects"
        for command in commands:
            if isinstance(command, c.SaveJob | c.CloseJob):
                self.records[command.record.job_id] = command.record
        rendered = [(self._render(command), command.cause) for command in commands]
        return [f"{text}  ({cause})" if self.with_causes else text for text, cause in rendered if text]

    # --- what happens

    def _read_accept(self, job: str, *options: str) -> e.Event:
        named = words_of(list(options))
        split = int(named.get("split", "100"))
        maps = int(named["maps"])
        spec = make_spec(
            job,
            maps,
            int(named["reduces"]),
            priority=int(named.get("priority", "2")),
            weight=float(named.get("weight", "1")),
            max_attempts=int(named.get("attempts", "4")),
        )
        big = int(named.get("big", split))
        sizes = [split] * (maps - 1) + [big]
        if spec.reduces == 0:
            self.map_only.add(job)
        splits = tuple(Split(i, (FileRange("in", 0, size, size),)) for i, size in enumerate(sizes))
        return e.JobAccepted(self.now, spec, splits)

    def _read_workers(self, *texts: str) -> e.Event:
        return e.WorkersObserved(self.now, tuple(self._view(text) for text in texts))

    def _view(self, text: str) -> WorkerView:
        match = re.fullmatch(r"([\w.]+)(=)?(?:\+([\d.]+)s)?(?::(\d+d?))?(?:\((.*)\))?", text)
        assert match is not None, text
        worker, incarnation = incarnation_of(match[1])
        if match[2] is None:
            self.numbers[incarnation] = self.numbers.get(incarnation, 0) + 1
        running = []
        for attempt in filter(None, (match[5] or "").split(",")):
            running.append(self._running(attempt))
        draining = (match[4] or "").endswith("d")
        slots = int((match[4] or "").removesuffix("d") or 2)
        beat = WorkerBeat(
            worker=worker,
            incarnation=incarnation,
            host=worker,
            address=f"{worker}:1",
            version="0",
            started_at=0.0,
            slots=slots,
            open_slots=0 if draining else slots,
            draining=draining,
            running=tuple(running),
            number=self.numbers[incarnation],
            control_queue=f"control-{incarnation}",
        )
        return WorkerView(beat, float(match[3] or 0.0), True)

    def _running(self, text: str) -> RunningTask:
        match = re.fullmatch(r"(.+)/(.+)/(\d+)@([\d.]+)s(?:~([\d.]+)%)?(?:!([\d.]+)s)?", text)
        assert match is not None, text
        elapsed = float(match[4])
        return RunningTask(
            JobId(match[1]),
            TaskId(match[2]),
            int(match[3]),
            self.now - elapsed,
            elapsed,
            float(match[5] or 0) / 100,
            stalled_seconds=float(match[6] or 0),
        )

    def _read_probed(self, text: str, outcome: str) -> e.Event:
        _, incarnation = incarnation_of(text)
        return e.WorkerProbed(self.now, incarnation, self.numbers[incarnation], e.ProbeOutcome(outcome))

    def _read_queue(self, ready: str) -> e.Event:
        return e.QueueObserved(self.now, int(ready))

    def _read_committed(self, job: str, attempt: str, by: str, text: str, *took: str) -> e.Event:
        assert by == "by"
        task, number = attempt.split("/")
        seconds = float(took[1].removesuffix("s")) if took else 1.0
        result = self._result(job, task, int(number), text, seconds)
        report = messages.TaskCommitted(
            AttemptId(JobId(job), TaskId(task), int(number)), *incarnation_of(text)
        )
        return e.ReportReceived(self.now, report, Outcome(Claim(int(number), 0, int(number)), result))

    def _result(self, job: str, task: str, number: int, text: str, seconds: float) -> TaskResult:
        worker, incarnation = incarnation_of(text)
        stats = TaskStats(wall_seconds=seconds, records_in=10)
        if task_kind(TaskId(task)) is TaskKind.MAP and job not in self.map_only:
            where = (worker, incarnation, f"{worker}:1", worker, "/spool")
            return TaskResult(MapOutput(AttemptId(JobId(job), TaskId(task), number), *where), stats)
        return TaskResult(
            PartOutput(AttemptId(JobId(job), TaskId(task), number), worker, incarnation, 10, 100, "0"), stats
        )

    def _read_failed(self, job: str, attempt: str, by: str, worker: str, kind: str, *lost: str) -> e.Event:
        assert by == "by"
        task, number = attempt.split("/")
        inputs = [text.split("/") for text in lost]
        failure = Failure(
            FailureKind(kind),
            f"a case of {kind}",
            lost=tuple(_lost(TaskId(name), number) for name, number in inputs),
        )
        holder = Holder(*incarnation_of(worker), int(number), 0)
        report = messages.TaskFailed(
            AttemptId(JobId(job), TaskId(task), int(number)), *incarnation_of(worker), failure
        )
        return e.ReportReceived(self.now, report, Outcome(Claim(int(number), holders=(holder,))))

    def _read_stopped(self, text: str, *rest: str) -> e.Event:
        report = messages.WorkerStopped(
            *incarnation_of(text), leaves_outputs=rest == ("leaving", "its", "outputs")
        )
        return e.ReportReceived(self.now, report)

    def _read_claims(self, job: str, *texts: str) -> e.Event:
        claims: dict[TaskId, Claim] = {}
        results: dict[TaskId, TaskResult] = {}
        for text in texts:
            name, _, rest = text.partition("=" if "=" in text else "/")
            word, _, detail = rest.partition("/") if "=" in text else ("held", "", rest)
            number, _, where = detail.partition("@")
            task, attempt = TaskId(name), int(number)
            if word == "committed":
                claims[task] = Claim(attempt, 0, attempt)
                results[task] = self._result(job, name, attempt, where, 1.0)
            elif word == "released":
                claims[task] = Claim(attempt)
            elif word == "reopened":
                claims[task] = Claim(attempt, attempt)
            else:
                expires_ms = 1 + int((self.now if word == "held" else 0) * 1000)
                claims[task] = Claim(
                    attempt, 0, 0, False, (Holder(*incarnation_of(where), attempt, expires_ms),)
                )
        job_id = JobId(job)
        active = self.scheduler.state.jobs.get(job_id)
        asked = (active.doubtful, active.inspected_at) if active is not None else (False, 0.0)
        return e.ClaimsObserved(self.now, job_id, claims, results, *asked)

    def _read_written(self, job: str, *texts: str) -> e.Event:
        observed = self._read_claims(job, *texts)
        assert isinstance(observed, e.ClaimsObserved)
        return e.JobWrittenBack(self.now, observed.job_id, observed.claims, observed.results)

    def _read_cancel(self, job: str) -> e.Event:
        return e.CancelRequested(self.now, JobId(job), "cancelled by its owner")

    def _read_finished(self, job: str) -> e.Event:
        return e.OutputFinished(self.now, JobId(job))

    def _read_unfinished(self, job: str) -> e.Event:
        failure = Failure(FailureKind.INFRASTRUCTURE, "the file system is away")
        return e.OutputFailed(self.now, JobId(job), failure)

    def _takeover(self) -> list[str]:
        """Hand everything to a new scheduler, as a store that saw every command would."""
        old, self.scheduler = self.scheduler, Scheduler(self.settings, seed=2)
        lines: list[str] = []
        for job in old.active_jobs():
            restored = old.snapshot(job)
            assert restored is not None
            lines += self._handle(e.JobRestored(self.now, restored))
        return lines

    def _refill(self, job: JobId) -> list[str]:
        restored = self.scheduler.snapshot(job)
        assert restored is not None
        return [
            f"{task}: attempt {claim.attempt}, committed {claim.winner}, "
            f"held by {[h.attempt for h in claim.holders]}"
            for task, claim in restored.claims.items()
        ]

    # --- what is to be done

    def _render(self, command: c.Command) -> str:
        match command:
            case c.Reopen():
                lost = " ".join(f"{task}/{place.attempt}" for task, place in command.lost.items())
                return f"reopen {command.job_id} {lost}"
            case c.ReleaseDead():
                held = " ".join(f"{task}@{incarnation}" for task, incarnation in command.leases)
                return f"release {command.job_id} {held}"
            case c.ProbeWorker():
                how = " (its address is another's)" * command.replaced
                how += " (its port has answered)" * command.reachable
                return f"probe {command.incarnation}{how}" if self.with_probes else ""
            case c.Speculate():
                return f"allow a backup {command.job_id} " + " ".join(command.tasks)
            case c.SaveJob():
                return (
                    f"save {command.record.job_id} {command.record.state}"
                    + _waiting(command)
                    + _tasks(command.tasks)
                )
            case c.CloseJob():
                cause = f" ({command.record.cause})" if command.record.cause else ""
                return f"end {command.record.job_id} {command.record.state}{cause}" + _tasks(command.tasks)
            case c.PublishTasks():
                return "publish " + " ".join(map(self._publication, command.tasks))
            case c.SendControl():
                return "tell workers: " + _control(command.control)
            case c.EmitEvent():
                event = command.event
                what = f" {event.task_id}/{event.attempt}" if event.task_id else ""
                return f"event {event.job_id}{what} {event.state}" if self.with_events else ""
            case c.InspectClaims():
                return f"inspect claims{' and outputs' * command.outputs} {command.job_id}"
            case c.WriteBack():
                return f"write back {command.job_id}"
            case c.FinishOutput():
                return f"finish output {command.job_id}, {len(command.manifest.parts)} parts"
            case c.AbandonOutput():
                return f"abandon output {command.job_id}"

    def _publication(self, publication: c.Publication) -> str:
        """`a/map-00000`, and `@9` behind it where the priority is not the job's own."""
        message = publication.message
        spec = self.scheduler.state.jobs[message.job_id].spec
        usual = task_priority(spec.options.priority, task_kind(message.task_id))
        aged = "" if publication.priority == usual else f"@{publication.priority}"
        return f"{message.job_id}/{message.task_id}{aged}"


def _incident(incident: Incident) -> str:
    counts = {"times": incident.times, "attempts": incident.attempts, "outputs": incident.outputs}
    counted = [f"{name}={count}" for name, count in counts.items() if count > (name == "times")]
    what = [str(incident.kind), incident.incarnation or incident.subject, *counted]
    return " ".join(filter(None, what)) + (f" ({incident.reason})" if incident.reason else "")


def _waiting(command: c.SaveJob) -> str:
    return f" (waits: {command.record.waiting_for})" if command.record.waiting_for else ""


def _tasks(tasks: tuple[TaskRecord, ...]) -> str:
    return "".join(f" {task.task_id}={task.state}" for task in tasks)


def _control(control: messages.Control) -> str:
    match control:
        case messages.EndJob():
            return f"job {control.job_id} is over"
        case messages.StopAttempt():
            winner = control.winner
            return f"stop {winner.job} {winner.task} but attempt {winner.number}"
        case messages.PauseWorker():
            if not control.seconds:
                return f"{control.worker} may take tasks again"
            return f"{control.worker} takes no tasks for {control.seconds:g} s: {control.reason}"
        case messages.DrainWorker():
            return f"{control.worker} drains"

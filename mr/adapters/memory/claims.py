"""Claims as workers make them, by the pure functions of `mr.protocol.claims`."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from mr.adapters.memory.client import MemoryClient
from mr.adapters.memory.state import JobEntry, recorded_placement
from mr.ports.claims import LOGS_FULL, ClaimReply, ClaimStore
from mr.protocol import claims
from mr.protocol.claims import Claim, Placement, Verdict
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_kind
from mr.protocol.records import MapOutput, TaskResult


class MemoryClaims(MemoryClient, ClaimStore):
    """The ClaimStore port in memory."""

    def _find_open(self, job: JobId) -> JobEntry | None:
        entry = self._find(job)
        return entry if entry is not None and entry.open else None

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        entry = self._find_open(job)
        if entry is None or (task_kind(task) is TaskKind.MAP and task not in entry.splits):
            return ClaimReply(Verdict.GONE)
        before = entry.claims.get(task, Claim())
        verdict, after = claims.grant(before, worker, incarnation, self._now_ms(), int(lease_seconds * 1000))
        entry.claims[task] = after
        if verdict is Verdict.GRANTED:
            return ClaimReply(verdict, after.attempt, entry.splits.get(task), entry.resumed)
        return ClaimReply(verdict, after.winner)

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        entry = self._find_open(job)
        if entry is None:
            return list(attempts)
        expires_ms = self._now_ms() + int(lease_seconds * 1000)
        stopped = []
        for task, attempt in attempts.items():
            after = claims.renew(entry.claims.get(task, Claim()), incarnation, attempt, expires_ms)
            if after is None:
                stopped.append(task)
            else:
                entry.claims[task] = after
        return stopped

    async def commit(self, attempt: AttemptId, result: TaskResult, resumed: int = 0) -> bool:
        job, task, number = attempt
        entry = self._find_open(job)
        if entry is None or entry.resumed != resumed:
            return False
        before, results = entry.claims.get(task, Claim()), entry.results[task_kind(task)]
        after = claims.commit(before, number)
        if after is None or (before.winner == number and results.get(task) != pack(result)):
            return False
        entry.claims[task] = after
        results[task] = pack(result)
        return True

    async def release(self, attempt: AttemptId, incarnation: Incarnation) -> None:
        job, task, number = attempt
        entry = self._find(job)
        if entry is not None and task in entry.claims:
            entry.claims[task] = claims.release(entry.claims[task], incarnation, number)

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        entry = self._find(job)
        if entry is None:
            return []
        results = entry.results[TaskKind.MAP]
        relocated = []
        for task, (place, output) in moved.items():
            if task not in results:
                continue
            result = unpack(results[task], TaskResult)
            is_placed = claims.is_placed(entry.claims.get(task, Claim()), recorded_placement(result), place)
            if is_placed and output.attempt.number == place.attempt:
                results[task] = pack(msgspec.structs.replace(result, output=output))
                relocated.append(task)
            elif result.output == output:
                relocated.append(task)
        return relocated

    async def put_log(self, attempt: AttemptId, text: str, limit_bytes: int) -> None:
        job, task, number = attempt
        entry = self._find(job)
        if entry is None or entry.logs_full:
            return
        name = f"{task}/{number}"
        more_bytes = _text_bytes(text) - _text_bytes(entry.logs.get(name, ""))
        if entry.logs_bytes + more_bytes > limit_bytes:
            entry.logs_full, text = True, LOGS_FULL
        else:
            entry.logs_bytes += more_bytes
        entry.logs[name] = text


def _text_bytes(text: str) -> int:
    return len(text.encode(errors="replace"))

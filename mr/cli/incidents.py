"""What happened to a job beside its plan, for people: one line for each incident."""

from mr.cli.formatting import moment, number
from mr.protocol.records import Incident, IncidentKind


def describe_incidents(incidents: tuple[Incident, ...]) -> list[tuple[str, str]]:
    """(when it began, what happened) of each."""
    return [(moment(incident.at), describe_incident(incident)) for incident in incidents]


def describe_incident(incident: Incident) -> str:
    """One incident, in one line: what happened, and what ran again because of it."""
    worker, attempts = incident.subject, incident.attempts
    because = f": {incident.reason}" if incident.reason else ""
    match incident.kind:
        case IncidentKind.WORKER_DIED:
            return f"worker {worker} died: {_run_again(incident)}"
        case IncidentKind.WORKER_LEFT:
            return f"worker {worker} was drained or stopped: {_run_again(incident)}"
        case IncidentKind.WORKER_EXCLUDED:
            return f"worker {worker} was excluded{_times(incident)}{because}"
        case IncidentKind.ATTEMPT_FAILED:
            return f"{_count(attempts, 'attempt')} failed: {incident.subject}"
        case IncidentKind.ATTEMPT_LOST | IncidentKind.OUTPUT_LOST:
            return f"worker {worker} lives, but {_run_again(incident)}{because}"
        case IncidentKind.BACKUP:
            return f"{_count(attempts, 'task')} got a backup{because}"
        case IncidentKind.MESSAGE_LOST:
            return f"{_count(incident.times, 'task message')} came to nobody and had to be published again"
        case IncidentKind.TAKEN_OVER:
            return f"another coordinator took the job over{_times(incident)}"
        case IncidentKind.STORE_LOST_DATA:
            return f"the store had lost data of the job, which was written back{_times(incident)}"
        case IncidentKind.MORE:
            return f"{number(incident.times)} more incidents: {_run_again(incident)}"


def _run_again(incident: Incident) -> str:
    counted = [
        _count(count, what)
        for count, what in ((incident.attempts, "running task"), (incident.outputs, "map output"))
        if count
    ]
    if not counted:
        return "nothing had to run again"
    return (
        f"{' and '.join(counted)} {'was' if incident.attempts + incident.outputs == 1 else 'were'} run again"
    )


def _count(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def _times(incident: Incident) -> str:
    return f" {number(incident.times)} times" if incident.times > 1 else ""

"""What happened to a job beside its plan: few lines, however many tasks it hit. Pure."""

from collections.abc import Iterable

import msgspec

from mr.error_text import bounded
from mr.protocol.bounds import clamped
from mr.protocol.ids import Incarnation
from mr.protocol.records import MAX_INCIDENTS, Incident, IncidentKind

#: Characters of a reason that are kept.
REASON_CHARACTERS = 300

_Key = tuple[IncidentKind, str, Incarnation, str]


class Story:
    """The incidents of one job. Those of one kind, subject and reason are one."""

    def __init__(self, incidents: Iterable[Incident]) -> None:
        self._incidents: dict[_Key, Incident] = {_key(incident): incident for incident in incidents}

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """All, in the order in which they began."""
        return tuple(self._incidents.values())

    def note(self, incident: Incident) -> None:
        """Add an incident, or count it in the one that it equals; with `times` 0 as more of the same time."""
        incident = msgspec.structs.replace(incident, reason=bounded(incident.reason, REASON_CHARACTERS))
        if _key(incident) not in self._incidents and len(self._incidents) >= MAX_INCIDENTS - 1:
            incident = msgspec.structs.replace(
                incident, kind=IncidentKind.MORE, subject="", incarnation=Incarnation(""), reason=""
            )
        known = self._incidents.get(_key(incident))
        if known is not None:
            incident = msgspec.structs.replace(
                known,
                times=clamped(known.times + incident.times),
                attempts=clamped(known.attempts + incident.attempts),
                outputs=clamped(known.outputs + incident.outputs),
            )
        self._incidents[_key(incident)] = msgspec.structs.replace(incident, times=max(1, incident.times))


def _key(incident: Incident) -> _Key:
    return incident.kind, incident.subject, incident.incarnation, incident.reason

"""The states of one attempt on its worker, as one table. Pure.

claim granted -> CLAIMED -> RUNNING -> COMMITTING -> REPORTING -> SETTLING -> ENDED

The order of effects is the order of the states: data is on disk before COMMITTING, the result is in the
store before REPORTING, the report is confirmed before SETTLING (the acknowledgement). A stop that comes
before the commit leads through STOPPING to DISCARDING; after it, only the store decides.
"""

from enum import StrEnum

from mr.errors import IllegalTransition


class AttemptState(StrEnum):
    """Where an attempt stands on this worker."""

    #: The store granted it; its spec, code and inputs are being fetched.
    CLAIMED = "claimed"
    #: A child process runs it.
    RUNNING = "running"
    #: The data is complete on disk; the store is asked whether it counts.
    COMMITTING = "committing"
    #: It failed; the claim is being given back.
    RELEASING = "releasing"
    #: It was told to stop; its process is being killed.
    STOPPING = "stopping"
    #: Its files are being deleted; nothing is reported.
    DISCARDING = "discarding"
    #: The end is in the store; the report to the coordinator is being published.
    REPORTING = "reporting"
    #: The report is confirmed; the delivery is being acknowledged.
    SETTLING = "settling"
    ENDED = "ended"


class AttemptEvent(StrEnum):
    """What happens to an attempt."""

    PREPARED = "prepared"
    FINISHED = "finished"
    FAILED = "failed"
    STOP = "stop"
    WON = "won"
    LOST = "lost"
    RELEASED = "released"
    KILLED = "killed"
    DISCARDED = "discarded"
    REPORTED = "reported"
    ACKNOWLEDGED = "acknowledged"


#: States in which nothing of an attempt is recorded yet: its files may be deleted.
BEFORE_COMMIT = (AttemptState.CLAIMED, AttemptState.RUNNING, AttemptState.STOPPING, AttemptState.RELEASING)

_S = AttemptState
_E = AttemptEvent

#: Every legal transition. An unlisted one raises and changes nothing.
TRANSITIONS: dict[tuple[AttemptState, AttemptEvent], AttemptState] = {
    (_S.CLAIMED, _E.PREPARED): _S.RUNNING,
    (_S.CLAIMED, _E.FAILED): _S.RELEASING,
    (_S.CLAIMED, _E.STOP): _S.STOPPING,
    (_S.RUNNING, _E.FINISHED): _S.COMMITTING,
    (_S.RUNNING, _E.FAILED): _S.RELEASING,
    (_S.RUNNING, _E.STOP): _S.STOPPING,
    (_S.STOPPING, _E.STOP): _S.STOPPING,
    (_S.STOPPING, _E.KILLED): _S.DISCARDING,
    (_S.COMMITTING, _E.WON): _S.REPORTING,
    (_S.COMMITTING, _E.LOST): _S.DISCARDING,
    (_S.RELEASING, _E.RELEASED): _S.REPORTING,
    (_S.DISCARDING, _E.DISCARDED): _S.SETTLING,
    (_S.REPORTING, _E.REPORTED): _S.SETTLING,
    (_S.SETTLING, _E.ACKNOWLEDGED): _S.ENDED,
    # From the commit on a stop changes nothing: the store has decided, or is about to.
    (_S.COMMITTING, _E.STOP): _S.COMMITTING,
    (_S.RELEASING, _E.STOP): _S.RELEASING,
    (_S.DISCARDING, _E.STOP): _S.DISCARDING,
    (_S.REPORTING, _E.STOP): _S.REPORTING,
    (_S.SETTLING, _E.STOP): _S.SETTLING,
    (_S.ENDED, _E.STOP): _S.ENDED,
}


def advance(state: AttemptState, event: AttemptEvent) -> AttemptState:
    """Return the state after `event`. Raises IllegalTransition for a pair not in the table."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"an attempt that is {state} cannot take {event}") from None

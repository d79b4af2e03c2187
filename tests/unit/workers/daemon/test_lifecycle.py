"""The table of an attempt's states: every path ends, and nothing unlisted happens."""

import pytest

from mr.errors import IllegalTransition
from mr.workers.daemon.lifecycle import TRANSITIONS, AttemptEvent, AttemptState, advance


def test_a_successful_attempt_commits_before_it_reports_and_reports_before_it_acknowledges() -> None:
    state = AttemptState.CLAIMED
    seen = [state]
    for event in ("prepared", "finished", "won", "reported", "acknowledged"):
        state = advance(state, AttemptEvent(event))
        seen.append(state)
    assert [str(state) for state in seen] == [
        "claimed",
        "running",
        "committing",
        "reporting",
        "settling",
        "ended",
    ]


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("event", AttemptEvent)
def test_what_is_not_listed_is_refused(state: AttemptState, event: AttemptEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert advance(state, event) in AttemptState
    else:
        with pytest.raises(IllegalTransition, match=f"{state} cannot take {event}"):
            advance(state, event)


@pytest.mark.parametrize("state", AttemptState)
def test_a_stop_is_known_everywhere_and_changes_nothing_from_the_commit_on(state: AttemptState) -> None:
    after = advance(state, AttemptEvent.STOP)
    undecided = (AttemptState.CLAIMED, AttemptState.RUNNING)
    assert after is (AttemptState.STOPPING if state in undecided else state)


def test_every_state_leads_to_the_end() -> None:
    leads_on = {AttemptState.ENDED}
    for _ in AttemptState:
        leads_on |= {state for (state, _), target in TRANSITIONS.items() if target in leads_on}
    assert leads_on == set(AttemptState)

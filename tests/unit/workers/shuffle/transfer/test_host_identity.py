"""Which host a worker is on."""

from mr.workers.shuffle.transfer.host_identity import host_identity


def test_this_process_is_always_on_the_same_host() -> None:
    first = host_identity()
    host_identity.cache_clear()
    assert host_identity() == first
    assert len(first) == 16

"""Opening adapters imports nothing that is not needed yet."""

import logging
import subprocess
import sys


def test_opening_adapters_is_light_until_it_is_done() -> None:
    code = (
        "import sys, mr.adapters.open, mr.adapters.memory.store; "
        "sys.exit(bool({'pika', 'redis', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_daemons_leave_arrow_to_their_tasks() -> None:
    code = (
        "import sys, mr.local, mr.coordinator.service, mr.workers.daemon.service; "
        "sys.exit(bool({'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pika_keeps_quiet() -> None:
    import mr.adapters.rabbitmq.connection  # noqa: F401 (the import sets the logger up)

    logger = logging.getLogger("pika")
    assert not logger.propagate
    assert not logger.isEnabledFor(logging.ERROR)

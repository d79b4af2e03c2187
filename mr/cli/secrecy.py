"""Keeps the servers' passwords of a daemon away from the tasks, which run under the same user.

Protected: `/proc/PID/environ` and `/proc/PID/cmdline` of the running daemon, the tasks' environment, and,
unless tasks run as root, the daemon's memory. Not protected: files that the daemon's user
may read.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mr.settings import SECRET_VARIABLES, Settings

_PR_SET_DUMPABLE = 4
#: Of /proc/self/stat, after the command's name: begin and end of the arguments, then of the environment.
_FIELDS = slice(45, 49)


def hide_secrets(settings: Settings) -> None:
    """Overwrite the URLs where the kernel shows how this process was started, and forbid looking into it."""
    given = {os.environ.pop(name, "") for name in SECRET_VARIABLES}
    if sys.platform != "linux":
        return
    secrets = sorted(given | {settings.broker_url, settings.redis_url}, key=len, reverse=True)
    _overwrite([os.fsencode(text) for text in secrets if text])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _overwrite(secrets: Iterable[bytes]) -> None:
    """Replace each of these texts by asterisks in the memory of the arguments and of the environment."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arguments, arguments_end, environment, environment_end = map(int, stat[_FIELDS])
    for start, end in ((arguments, arguments_end), (environment, environment_end)):
        text = ctypes.string_at(start, end - start)
        for secret in secrets:
            text = text.replace(secret, b"*" * len(secret))
        ctypes.memmove(start, text, len(text))

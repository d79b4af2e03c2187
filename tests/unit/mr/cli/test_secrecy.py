"""What the kernel shows of a daemon that was given passwords, and what a task's environment has of them."""

import os
import subprocess
import sys

import psutil
import pytest

from mr.workers.process.template_client import Template

PROGRAM = """
import ctypes, os, subprocess, sys
from pathlib import Path
from mr.cli.secrecy import hide_secrets
from mr.settings import load_settings
hide_secrets(load_settings({"redis_url": sys.argv[2]}))
print(Path("/proc/self/environ").read_bytes())
print(Path("/proc/self/cmdline").read_bytes())
print(subprocess.run(["env"], capture_output=True).stdout)
print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), os.environ["MR_JOB_KEPT"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_daemon_shows_no_password_that_it_was_started_with() -> None:
    environment = {"MR_BROKER_URL": "amqp://u:sesame@host/", "MR_JOB_KEPT": "kept", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--redis-url", "redis://:mustard@host/0"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sesame" not in done.stdout and "mustard" not in done.stdout
    assert "MR_BROKER_URL=***" in done.stdout
    assert "PATH=/usr/bin:/bin" in done.stdout
    assert "dumpable 0 kept" in done.stdout


async def test_the_template_of_tasks_has_no_variable_that_leads_to_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MR_BROKER_URL", "MR_REDIS_URL", "MR_BROKER_URL_FILE", "MR_REDIS_URL_FILE"):
        monkeypatch.setenv(name, "sesame")
    template = Template("tests.support.entries:nothing", ())
    await template.start()
    try:
        assert template._process is not None
        environ = psutil.Process(template._process.pid).environ()
    finally:
        await template.close()
    assert "sesame" not in environ.values() and "PATH" in environ


LOOKING = """
import ctypes, os, sys
from mr.cli.secrecy import hide_secrets
from mr.settings import Settings
from mr.workers.shuffle.transfer.host_identity import host_identity

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as a process that was started under that user

def look():
    pid = os.fork()
    if pid == 0:
        for name in ("environ", "mem", "maps"):
            try:
                open(f"/proc/{os.getppid()}/{name}", "rb").close()
                print("sees", name)
            except PermissionError:
                print("denied", name)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)

look()
hide_secrets(Settings())
look()
print(len(host_identity()))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to become nobody")
def test_others_of_its_user_may_not_look_into_a_daemon() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKING], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [
        *("sees environ", "sees mem", "sees maps"),
        *("denied environ", "denied mem", "denied maps"),
        "16",
    ]

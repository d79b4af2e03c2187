"""A spool or an output directory is full, read-only or gone: others do the tasks, or the job waits."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.site import PHASES, Site, fill, mount, unmount

pytestmark = pytest.mark.skipif("os.geteuid() != 0", reason="mounting needs root")

OUTPUT_BYTES = 16 * 1024 * 1024


@contextmanager
def full(place: Path) -> Iterator[None]:
    filler = fill(place)
    yield
    filler.unlink()


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    yield
    subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def deleted(place: Path) -> Iterator[None]:
    """Everything in it, by somebody who cleans up."""
    for path in place.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield


@contextmanager
def unmounted(place: Path) -> Iterator[None]:
    unmount(place)
    yield


@dataclass(frozen=True)
class Fault:
    """Strikes when it is entered, and is over when it is left."""

    name: str
    strike: Callable[[Path], AbstractContextManager[None]]
    #: What `mr workers` or `mr status` says while it lasts.
    told: str = ""


FAULTS = (
    Fault("full", full, "spool disk: 0 MiB free"),
    Fault("read-only", read_only, "the spool cannot be written: Read-only file system"),
    Fault("emptied", deleted),
    Fault("unmounted", unmounted),
)


def cases(
    place: str, phases: tuple[str, ...], outcome: str, faults: tuple[Fault, ...] = FAULTS
) -> list[object]:
    """One test for each fault and phase."""
    return [
        pytest.param(
            fault,
            phase,
            marks=pytest.mark.fault(fault=f"{place} {fault.name}", phase=phase, outcome=outcome),
            id=f"{fault.strike.__name__}-{phase}",
        )
        for fault in faults
        for phase in phases
    ]


@pytest.mark.parametrize(
    ("fault", "phase"), cases("spool", ("map", "reduce"), "other workers do its tasks; the worker lives")
)
def test_spool(site: Site, tmp_path: Path, reference: Path, fault: Fault, phase: str) -> None:
    """That of one worker. The job needs nobody to repair it."""
    job = site.reach(tmp_path, f"spool-{fault.strike.__name__.replace('_', '-')}-{phase}", phase)
    with fault.strike(site.spool):
        if fault.told:
            site.wait_told(fault.told)
        site.finish(job)
    site.prove(job, reference)
    if fault.strike is unmounted:
        mount_again(site)


def mount_again(site: Site) -> None:
    """Give the worker its disk back, as somebody who repairs it would: it starts anew there."""
    site.cluster.kill("w1")
    site.mount_spool()
    site.cluster.ensure()


@contextmanager
def output_disk(directory: Path, job_id: str) -> Iterator[Path]:
    """A disk of its own for the output of a job."""
    output = directory / f"output-{job_id}"
    output.mkdir()
    mount(output, OUTPUT_BYTES)
    try:
        yield output
    finally:
        unmount(output)


@pytest.mark.parametrize(
    ("fault", "phase"),
    cases("output", PHASES, "tasks fail and say why; repaired, the job completes", FAULTS[:2]),
)
def test_output(site: Site, tmp_path: Path, reference: Path, fault: Fault, phase: str) -> None:
    job_id = f"output-{fault.strike.__name__.replace('_', '-')}-{phase}"
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[fault.name]
    with output_disk(tmp_path, job_id) as output:
        job = site.reach(tmp_path, job_id, phase, "--max-attempts", "50")
        with fault.strike(output):
            site.thaw()
            job.open()
            if phase == "finish":
                site.wait_logged("coordinator", reason)
            else:
                site.wait_told(reason, command=("status", job_id))
        site.prove(job, reference)


@pytest.mark.parametrize(
    ("fault", "phase"),
    cases("output", ("reduce", "finish"), "it fails and says what is gone", FAULTS[2:]),
)
def test_output_is_gone(site: Site, tmp_path: Path, reference: Path, fault: Fault, phase: str) -> None:
    """Parts that were committed are lost with it."""
    job_id = f"output-{fault.strike.__name__}-{phase}"
    with output_disk(tmp_path, job_id) as output:
        job = site.reach(tmp_path, job_id, phase)
        with fault.strike(output):
            site.thaw()
            job.open()
            state = job.wait_state("COMPLETED", "FAILED")
            if state == "COMPLETED":
                site.check_output(job, reference)
            else:
                told = site.cluster.succeed("status", job_id).stdout.decode()
                assert str(output) in told
                assert not list(output.glob("*"))
        job.wait_clean()
        site.all_run()
        site.sound = True

"""All targets, by name."""

from collections.abc import Callable

from tests.fuzz.files import Bundles, InputFiles, Manifests, Segments, SettingFiles
from tests.fuzz.harness import Target
from tests.fuzz.servers import Servers
from tests.fuzz.site import Daemons
from tests.fuzz.stored import Outcomes, RestoredJobs
from tests.fuzz.wire import Channels, ShuffleRequests

#: Those that need no process of their own: thousands of inputs a second.
FAST: tuple[Callable[[], Target], ...] = (
    InputFiles,
    Bundles,
    Segments,
    Manifests,
    SettingFiles,
    ShuffleRequests,
    Channels,
    RestoredJobs,
    Outcomes,
)
#: Those that start daemons.
DAEMONS: tuple[Callable[[], Target], ...] = (Daemons,)
#: Those that start servers, too: a minute and more for a case.
SERVERS: tuple[Callable[[], Target], ...] = (Servers,)


def target_named(name: str) -> Target:
    """Make a target. Raises KeyError."""
    return {make.name: make for make in (*FAST, *DAEMONS, *SERVERS)}[name]()  # type: ignore[attr-defined]

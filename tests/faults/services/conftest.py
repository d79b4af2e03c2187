"""One site for all tests here, kept while they leave it sound."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.support.servers import NoServer, PrivateRabbitMQ, PrivateRedis
from tests.support.site import Site, embedded


class Sites:
    """Hands out the site; a new one after a test that has left it unsound."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._site: Site | None = None

    def take(self) -> Site:
        """A sound site, with all its daemons running."""
        if self._site is None:
            self._site = Site(self._factory.mktemp("site")).__enter__()
        self._site.links.heal()
        self._site.cluster.ensure()
        self._site.wait_taking()
        self._site.mark_logs()
        self._site.sound = False
        return self._site

    def give_back(self) -> None:
        """After a test."""
        if self._site is not None and not self._site.sound:
            self.close()

    def close(self) -> None:
        """End the site, if there is one."""
        site, self._site = self._site, None
        if site is not None:
            site.close()


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Where the tests get their site from."""
    need(PrivateRabbitMQ.available() and PrivateRedis.available(), NoServer(NoServer.__doc__))
    sites = Sites(tmp_path_factory)
    yield sites
    sites.close()


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    """The site. A test that does not come to `prove` leaves it unsound."""
    yield sites.take()
    sites.give_back()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job of `Site.reach` gives embedded."""
    return embedded(tmp_path_factory.mktemp("embedded"))

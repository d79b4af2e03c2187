"""Private RabbitMQ and Redis servers: on loopback and free ports, in a temporary directory, gone afterwards.

Where a server comes from, in this order: an address in MR_TEST_BROKER_URL / MR_TEST_REDIS_URL; the
binaries of Debian's packages; a container, if a Docker engine answers. MR_TEST_SERVERS_ROOT names a root
directory with those packages (`.ci/newest` makes one): the servers then run in it, by chroot. The directories
of tests must be mounted in it under the same path. Run as a module, this prints the versions of a pair.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import server_versions
from tests.support.own_process import OwnProcess, accepts, free_port

ROOT = os.environ.get("MR_TEST_SERVERS_ROOT", "")
RABBITMQ_BINARY = "/usr/lib/rabbitmq/bin/rabbitmq-server"
RABBITMQ_START_SECONDS = 60.0
REDIS_START_SECONDS = 15.0


class NoServer(Exception):
    """No RabbitMQ or Redis to test with. Install rabbitmq-server and redis-server, or set MR_TEST_*_URL."""


def in_root(*command: str) -> list[str]:
    """The command as it runs where the servers' packages are installed."""
    return ["chroot", ROOT, *command] if ROOT else [*command]


def installed(binary: str) -> bool:
    """Whether a command is installed there."""
    return shutil.which(binary, path=f"{ROOT}/usr/bin" if ROOT else None) is not None


class PrivateRedis:
    """One redis-server; its data outlive `restart()` when `persistent`."""

    def __init__(self, directory: Path, *, persistent: bool = False, password: str = "") -> None:
        self._directory = directory
        self._persistent = persistent
        self._password = password
        self._process: OwnProcess | None = None
        self.port = free_port()

    @staticmethod
    def available() -> bool:
        """Whether the binary is installed."""
        return installed("redis-server")

    @property
    def url(self) -> str:
        """For MR_REDIS_URL."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and return when it listens."""
        self._directory.mkdir(parents=True, exist_ok=True)
        command = in_root("redis-server", "--port", str(self.port), "--bind", "127.0.0.1")
        command += ["--dir", str(self._directory), "--save", ""]
        command += ["--enable-debug-command", "local"]
        command += ["--appendonly", "yes" if self._persistent else "no"]
        command += ["--appendfsync", "always"] if self._persistent else []
        command += ["--requirepass", self._password] if self._password else []
        self._process = OwnProcess(command, self._directory / "redis.log")
        self._process.wait_until(self._answers, REDIS_START_SECONDS)
        server_versions.note_redis(self.url)

    def _answers(self) -> bool:
        if not accepts(self.port):
            return False
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))

    def stop(self) -> None:
        """Stop it in good order."""
        server_versions.forget(self.url)
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def keep(self, copy: Path) -> None:
        """Copy what a persistent server has on its disk, while it runs."""
        shutil.copytree(self._directory, copy)

    def come_back(self, copy: Path) -> None:
        """Kill and start again as it was when `copy` was made."""
        self.kill()
        shutil.rmtree(self._directory)
        shutil.copytree(copy, self._directory)
        self.start()

    def restart(self) -> None:
        """Kill and start again, on the same port; empty unless persistent."""
        self.kill()
        self.start()

    def restart_empty(self) -> None:
        """Kill and start again without what was on its disk."""
        self.kill()
        shutil.rmtree(self._directory)
        self.start()


class PrivateRabbitMQ:
    """One RabbitMQ node with an epmd, a home and a database of its own. No plugins unless asked for."""

    def __init__(
        self, directory: Path, *, plugins: tuple[str, ...] = (), config: str = "", advanced: str = "[]."
    ) -> None:
        self._directory = directory
        self._plugins = plugins
        self._config = config
        self._advanced = advanced
        self._process: OwnProcess | None = None
        self._epmd: OwnProcess | None = None
        self.port = free_port()
        self._epmd_port = free_port()
        self._distribution_port = free_port()

    @staticmethod
    def available() -> bool:
        """Whether the binaries are installed."""
        return Path(ROOT + RABBITMQ_BINARY).exists() and installed("epmd")

    @property
    def url(self) -> str:
        """For MR_BROKER_URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def environ(self) -> dict[str, str]:
        """What the server's own commands need to find this node."""
        base = self._directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(base / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"mr{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_PID_FILE": str(base / "pid"),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }

    def start(self) -> None:
        """Start it, and return when it speaks AMQP."""
        (self._directory / "home").mkdir(parents=True, exist_ok=True)
        (self._directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\nloopback_users = none\n{self._config}\n"
        )
        (self._directory / "advanced.config").write_text(f"{self._advanced}\n")
        (self._directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        if self._epmd is None:
            self._epmd = OwnProcess(in_root("epmd"), self._directory / "epmd.log", self.environ)
            self._epmd.wait_until(lambda: accepts(self._epmd_port), REDIS_START_SECONDS)
        self._process = OwnProcess(in_root(RABBITMQ_BINARY), self._directory / "rabbitmq.log", self.environ)
        self._process.wait_until(self._answers, RABBITMQ_START_SECONDS)
        server_versions.note_rabbitmq(self.url)

    def _answers(self) -> bool:
        """Whether the server answers a protocol header with Connection.Start."""
        if not accepts(self.port):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node (about two seconds); returns what it printed."""
        command = in_root("/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments)
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def stop(self) -> None:
        """Stop the node in good order, and its epmd."""
        server_versions.forget(self.url)
        if self._process is not None:
            self._process.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def kill(self) -> None:
        """SIGKILL to the node; its epmd and its database stay."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Kill and start again, on the same port and database."""
        self.kill()
        self.start()

    def restart_empty(self) -> None:
        """Kill and start again without its database."""
        self.kill()
        shutil.rmtree(self._directory / "mnesia")
        self.start()


class RabbitMQContainer:
    """RabbitMQ in a container, where the package is not installed."""

    def __init__(self) -> None:
        from testcontainers.community.rabbitmq import RabbitMqContainer

        self._container = RabbitMqContainer("rabbitmq:3-management")

    @property
    def url(self) -> str:
        """For MR_BROKER_URL."""
        host = self._container.get_container_host_ip()
        return f"amqp://guest:guest@{host}:{self._container.get_exposed_port(5672)}/%2F"

    def start(self) -> None:
        """Start it, and return when it is ready."""
        self._container.start()
        server_versions.note_rabbitmq(self.url)

    def stop(self) -> None:
        """Stop and remove it."""
        server_versions.forget(self.url)
        self._container.stop()

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl in it."""
        code, output = self._container.exec(["rabbitmqctl", *arguments])
        if code:
            raise RuntimeError(output.decode())
        return str(output.decode())


class RedisContainer:
    """Redis in a container, where the package is not installed."""

    def __init__(self) -> None:
        from testcontainers.community.redis import RedisContainer as Container

        self._container = Container("redis:7")

    @property
    def url(self) -> str:
        """For MR_REDIS_URL."""
        host = self._container.get_container_host_ip()
        return f"redis://{host}:{self._container.get_exposed_port(6379)}/0"

    def start(self) -> None:
        """Start it, and return when it is ready."""
        self._container.start()
        server_versions.note_redis(self.url)

    def stop(self) -> None:
        """Stop and remove it."""
        server_versions.forget(self.url)
        self._container.stop()


def docker_answers() -> bool:
    """Whether a Docker engine can be used."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


def any_rabbitmq(directory: Path) -> PrivateRabbitMQ | RabbitMQContainer:
    """A RabbitMQ server, not yet started. Raises NoServer when there is no way to have one."""
    if PrivateRabbitMQ.available():
        return PrivateRabbitMQ(directory)
    if docker_answers():
        return RabbitMQContainer()
    raise NoServer(NoServer.__doc__)


def any_redis(directory: Path) -> PrivateRedis | RedisContainer:
    """A Redis server, not yet started. Raises NoServer when there is no way to have one."""
    if PrivateRedis.available():
        return PrivateRedis(directory)
    if docker_answers():
        return RedisContainer()
    raise NoServer(NoServer.__doc__)


@dataclass
class Servers:
    """A pair of running servers."""

    rabbitmq_url: str
    redis_url: str


@contextmanager
def private_servers(directory: Path) -> Iterator[Servers]:
    """A RabbitMQ and a Redis for as long as the block runs."""
    with ExitStack() as stack:
        rabbitmq, redis = any_rabbitmq(directory / "rabbitmq"), any_redis(directory / "redis")
        for server in (rabbitmq, redis):
            stack.callback(server.stop)
            server.start()
        yield Servers(rabbitmq.url, redis.url)


def main() -> None:
    """Print the versions of a private pair."""
    with tempfile.TemporaryDirectory() as directory, private_servers(Path(directory)):
        print(", ".join(server_versions.in_use()), flush=True)


if __name__ == "__main__":
    main()

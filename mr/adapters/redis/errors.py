"""Why Redis cannot be used, in one line that names the server and never a password."""

import socket
from urllib.parse import urlsplit

from redis import exceptions


def server_name(url: str) -> str:
    """Name the server of a URL as host:port (or socket path), without user, password and options."""
    parts = urlsplit(url)
    if not parts.hostname:
        return parts.path or "an unnamed host"
    try:
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        return parts.hostname


def explain(server: str, error: BaseException) -> str:
    """Say in one line why `server` cannot be used, and what to check."""
    cause = error.__cause__ or error.__context__ or error
    place = f"Redis at {server}"
    if isinstance(error, exceptions.AuthenticationError):
        return f"{place} refused the credentials; check user and password in MR_REDIS_URL"
    if isinstance(error, exceptions.NoPermissionError):
        return f"{place} denies this user a command: {first_line(error)}"
    if isinstance(error, exceptions.BusyLoadingError):
        return f"{place} is still loading its data; try again"
    if isinstance(error, exceptions.OutOfMemoryError):
        return f"{place} is out of memory (maxmemory); give it more or remove old keys"
    if isinstance(error, exceptions.ReadOnlyError):
        return f"{place} is a read-only replica: name its master in MR_REDIS_URL, or make it the master"
    if str(error).startswith("BUSY "):
        return f"{place} runs a script that does not end; SCRIPT KILL ends it"
    if str(error).startswith("MISCONF"):
        return f"{place} takes no writes, as it cannot save its data: free its disk, and see its log"
    if isinstance(cause, socket.gaierror):
        return f"{place} cannot be reached: the name {server.rpartition(':')[0]} does not resolve"
    if isinstance(cause, ConnectionRefusedError):
        return f"{place} refused the connection; check MR_REDIS_URL and that the server runs"
    if isinstance(cause, ConnectionResetError) or "max number of clients" in str(error):
        return f"{place} closed the connection: see its log; it may have as many clients as its maxclients"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return f"{place} does not answer; check MR_REDIS_URL, the network and the server"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return f"{place} cannot be reached: {first_line(error)}"
    return f"{place} refused a command: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class's name when it has none."""
    return str(error).partition("\n")[0] or type(error).__name__

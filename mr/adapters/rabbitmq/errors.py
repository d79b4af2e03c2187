"""Why RabbitMQ cannot be used, in one line that names the server and never a password."""

import socket
from collections.abc import Iterator

from pika import exceptions

#: AMQP reply codes.
ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_ALLOWED = 530


class ConnectFailed(Exception):
    """The connection could not be opened."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ChannelEnded(Exception):
    """The channel, or its connection, was closed before an answer came."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


def causes(error: BaseException) -> Iterator[BaseException]:
    """All errors that pika has packed into an error, the outermost first."""
    yield error
    inner: list[object] = [getattr(error, "exception", None), getattr(error, "reason", None), error.__cause__]
    inner += [*(getattr(error, "exceptions", None) or ()), *error.args]
    for one in inner:
        if isinstance(one, BaseException):
            yield from causes(one)


def _closed_by_broker(error: BaseException) -> tuple[int, str]:
    for cause in causes(error):
        if isinstance(cause, exceptions.ConnectionClosed | exceptions.ChannelClosed):
            return cause.reply_code, cause.reply_text
    return 0, ""


def _holds(error: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes(error))


_CREDENTIALS = (exceptions.AuthenticationError, exceptions.ProbableAuthenticationError)


def is_missing(error: BaseException) -> bool:
    """Whether what was named, such as a queue, does not exist."""
    return _closed_by_broker(error)[0] == NOT_FOUND


def is_final(error: BaseException) -> bool:
    """Whether trying again is useless: bad credentials, unknown virtual host, conflicting declarations."""
    code, text = _closed_by_broker(error)
    if code == NOT_ALLOWED:
        return "is down" not in text
    return code in (ACCESS_REFUSED, PRECONDITION_FAILED) or _holds(
        error, *_CREDENTIALS, exceptions.ProbableAccessDeniedError
    )


def explain(server: str, error: BaseException) -> str:
    """Say in one line why `server` (host:port/vhost) cannot be used, and what to check."""
    place = f"RabbitMQ at {server}"
    code, text = _closed_by_broker(error)
    if code == PRECONDITION_FAILED:
        return (
            f"{place} has a queue or exchange of mrmq with other arguments ({text}); delete it, start again"
        )
    if code == NOT_ALLOWED or _holds(error, exceptions.ProbableAccessDeniedError):
        return f"{place} denies the virtual host ({text or 'unknown, or not permitted'}); check MR_BROKER_URL"
    if _holds(error, *_CREDENTIALS) or (code == ACCESS_REFUSED and "Login was refused" in text):
        return f"{place} refused the credentials; check user and password in MR_BROKER_URL"
    if code == ACCESS_REFUSED:
        return f"{place} denies this user an operation: {text}"
    if code == NOT_FOUND:
        return f"{place} says: {text}"
    if _holds(error, socket.gaierror):
        return f"{place} cannot be reached: the name {server.partition(':')[0]} does not resolve"
    if _holds(error, ConnectionRefusedError):
        return f"{place} refused the connection; check MR_BROKER_URL and that the server runs"
    if _holds(error, exceptions.IncompatibleProtocolError):
        return f"{place} does not speak AMQP 0-9-1; check host and port in MR_BROKER_URL"
    last = list(causes(error))[-1]
    return f"{place} cannot be reached: {str(last).partition(chr(10))[0] or type(last).__name__}"

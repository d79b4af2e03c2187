"""The command `mr`. Commands import what they need when they run, so that `mr --help` is instant."""

import os
import sys
from collections.abc import Sequence

#: What a shell reports for a command whose reader went away: 128 + SIGPIPE.
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use, 3 unreachable, 130 interrupted."""
    from mr.cli.logging import configure_logging
    from mr.cli.signals import stop_signals_interrupt

    stop_signals_interrupt()
    configure_logging("error")
    sys.exit(invoke(arguments))


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on stderr for every foreseen error."""
    import click

    from mr.cli.app import application
    from mr.cli.printing import say
    from mr.errors import Interrupted, MrError

    try:
        # Not application.main(), which has exit codes of its own for an interrupt and a broken pipe.
        with application.make_context(
            "mr", list(sys.argv[1:] if arguments is None else arguments)
        ) as context:
            code = application.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MrError as error:
        say(f"mr: {error}", error=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("mr: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE

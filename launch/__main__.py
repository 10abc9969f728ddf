"""Starts the launcher's command line: `python -m launch`, `ddp-launch`, or this file by its path."""

import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C ends the launcher without a traceback, until there are processes to look after."""
    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        sys.exit(130)
    from launch.commands import run

    run()


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


if __name__ == "__main__":
    own = os.path.dirname(os.path.abspath(__file__))
    # A signal.py in the working folder (python -m) or in this folder must not take the place of a module that the
    # launcher needs.
    if not sys.flags.safe_path and sys.path[0] in (_working_folder(), own):
        del sys.path[0]
    sys.path.append(os.path.dirname(own))
    main()

"""The one error of the launcher."""

import click


class LaunchError(click.ClickException):
    """A mistake of the user's, or of the machine's set-up: one line, exit status 2."""

    exit_code = 2

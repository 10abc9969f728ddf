"""The only error class of the launcher."""

import click


class LaunchError(click.ClickException):
    """A mistake of the user, or in the set-up of the machine: one line, exit status 2."""

    exit_code = 2

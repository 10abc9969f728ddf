"""What the package's commands share: how they start on every rank, and how they end."""

import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import click

from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.comm import Communicator, end_job, is_reporter, world


def run(command: click.Command) -> NoReturn:
    """Run a command as each rank of a job does, with the communicator as its context's obj; never returns.

    Bad usage and any other JobError end in one line, `error: …`, from rank 0 and in the error's exit status on
    every rank; what nobody foresaw in a traceback, and all ranks gone.
    """
    comm: Communicator | None = None
    try:
        context, usage_error = _parse(command)
        comm = world()
        comm.agree(usage_error)
        assert context is not None
        with context:
            context.obj = comm
            # One source of settings: a file that differs between hosts can't make ranks differ.
            context.params = comm.broadcast(context.params)
            command.invoke(context)
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except BaseException as error:
        sys.exit(end_job(error, comm))
    sys.exit(0)


def _parse(command: click.Command) -> tuple[click.Context | None, JobError | None]:
    """The command line's context, or what is wrong with it: the ranks have yet to meet."""
    try:
        if "--help" in sys.argv[1:] and not is_reporter(None):
            raise click.exceptions.Exit(0)
        return command.make_context(f"python -m ddp_numpy.{command.name}", sys.argv[1:]), None
    except click.ClickException as error:
        return None, InputError(f"{error.format_message().rstrip('.')}; --help lists all options")
    except JobError as error:
        return None, error


def config_option(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Callback of an eager --config: the file's keys become defaults, which the command line overrides.

    Keys are options without their dashes. Raises InputError naming the file and the key that is wrong.
    """
    if path is None:
        return None
    options = {opt.removeprefix("--"): param for param in context.command.params for opt in param.opts}
    context.default_map = {}
    for key, value in _read_toml(path).items():
        param = options.get(key)
        if param is None or key in ("config", "help"):
            allowed = ", ".join(sorted(options.keys() - {"config", "help"}))
            raise InputError(f"{path}: unknown key {key!r}; the keys are {allowed}")
        try:
            # As text, so that 2.5 is no whole number and true no 1, just as on the command line.
            text: Any = [str(part) for part in value] if isinstance(value, list) else str(value)
            param.type.convert(text, param, context)
        except click.BadParameter as error:
            raise InputError(f"{path}: {key}: {error.message.rstrip('.')}") from None
        context.default_map[str(param.name)] = text
    return path


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; --config takes a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None

"""What the package's commands share: how they start on every rank, how they end, and the options of training."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource
from click_option_group import optgroup

from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import begin_command, one_line
from ddp_numpy.comm import Communicator, SingleProcess, end_job, is_reporter, world
from ddp_numpy.settings import GROUPS, OPTIONS, Settings

_LARGEST_CONFIG = 2**20  # bytes; a file of all options has a thousandth of it

F = TypeVar("F", bound=Callable[..., Any])


def run(command: click.Command, alone: bool = False) -> NoReturn:
    """Run a command as each rank of a job does, with the communicator as its context's obj; never returns.

    alone: this process is no rank, whoever started it, and does not start MPI.

    Bad usage and any other JobError end in one line, `error: …`, from rank 0 and in the error's exit status on
    every rank; any other exception in a traceback, and all ranks gone.
    """
    begin_command()
    comm: Communicator | None = None
    try:
        context, usage_error = _parse(command)
        comm = SingleProcess() if alone else world()
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
    """The command line's context, or what is wrong with it. The ranks have not met yet: each parses for itself."""
    try:
        if "--help" in sys.argv[1:] and not is_reporter(None):
            raise click.exceptions.Exit(0)
        return command.make_context(f"python -m ddp_numpy.{command.name}", sys.argv[1:]), None
    except click.ClickException as error:
        return None, InputError(f"{one_line(error.format_message()).rstrip('.')}; --help lists all options")
    except JobError as error:
        return None, error


def training_options(command: F) -> F:
    """Give a command all options of training, in their groups, and --config FILE.toml."""
    command = click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE.toml", is_eager=True, callback=_read_config,
        help="Options from a file (batch-size = 64 …); the command line wins.",
    )(command)  # fmt: skip
    # As decorators under one another: the last one written is the first applied.
    for group in reversed(GROUPS.values()):
        for option in reversed(group.options()):
            default = None if option.default is None else option.record(option.default)
            command = optgroup.option(
                f"--{option.name}", type=option.type, default=default, is_flag=option.type is click.BOOL,
                metavar=option.metavar, help=option.help, show_default=option.shown_default or option.default != (),
                multiple=option.repeatable,
            )(command)  # fmt: skip
        command = optgroup.group(group.__name__)(command)
    return command


def training_settings(context: click.Context) -> tuple[Settings, set[str]]:
    """The settings of a command with `training_options`, and the names of those options that are not defaults."""
    names = {name.replace("_", "-"): name for name in context.params}
    given = {key for key, name in names.items() if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    return Settings.of({key: context.params[name] for key, name in names.items() if key in OPTIONS}), given


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """The callback of --config: the file's keys become defaults, which the command line overrides.

    Raises InputError naming the file and the key that is wrong.
    """
    if path is not None:
        values = _read_toml(path)
        try:
            checked = Settings.of(values).values()
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        context.default_map = {key.replace("-", "_"): checked[key] for key in values}
    return path


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            text = file.read(_LARGEST_CONFIG + 1)
        if len(text) > _LARGEST_CONFIG:
            raise InputError(f"{path}: has more than {_LARGEST_CONFIG:,} bytes; --config takes a TOML file of options")
        return tomllib.loads(text.decode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; --config takes a TOML file") from None
    except RecursionError:
        raise InputError(f"{path}: not a TOML file of options: it is nested too deep") from None
    except ValueError as error:  # also of a number of thousands of digits, or of bytes that are no text
        raise InputError(f"{path}: not a TOML file: {one_line(error)}") from None

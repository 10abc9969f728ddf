"""Which words of a command line are the launcher's, and which are the job's. And what the launcher's values may be."""

import math
import re
from pathlib import Path
from typing import Any

import click

from launch.rank import SCRIPT

# The options of sbatch(1) for which `launch sbatch` has none; not those that a training may have, like --quiet.
_OTHERS = """
--acctg-freq --array -a --batch --bb --bbf --begin -b --chdir -D --cluster-constraint --clusters -M --comment
--container --container-id --contiguous --core-spec -S --cores-per-socket --cpu-freq --cpus-per-gpu --deadline
--delay-boot --dependency -d --distribution --error -e --exclude -x --export --export-file --extra
--extra-node-info -B --get-user-env --gid --gpu-bind --gpu-freq --gpus -G --gpus-per-node --gpus-per-socket
--gpus-per-task --gres --gres-flags --hint --hold -H --ignore-pbs --input -i --job-name -J --kill-on-invalid-dep
--licenses -L --mail-type --mail-user --mcs-label --mem-bind --mem-per-cpu --mem-per-gpu --mincpus --network --nice
--no-kill -k --no-requeue --nodefile -F --nodelist -w --ntasks-per-core --ntasks-per-gpu --ntasks-per-socket
--open-mode --output -o --overcommit -O --oversubscribe -s --parsable --power --prefer --priority --profile
--propagate --reboot --requeue --reservation --resv-ports --sockets-per-node --spread-job --switches
--test-only --thread-spec --threads-per-core --time-min --tmp --tres-bind --tres-per-task --uid --use-min-nodes
--wait -W --wait-all-nodes --wckey --wrap
"""
# All options of sbatch(1), each with the option of `launch sbatch` that takes its place, if there is one.
_RANKS = "--nodes and --ntasks-per-node"
_SBATCH = dict.fromkeys(_OTHERS.split(), "") | {
    "--account": "--account", "-A": "--account", "--constraint": "--constraint", "-C": "--constraint",
    "--nodes": "--nodes", "-N": "--nodes", "--ntasks": _RANKS, "-n": _RANKS, "--cpus-per-task": "--threads",
    "-c": "--threads", "--partition": "--partition", "-p": "--partition", "--qos": "--qos", "-q": "--qos",
    "--time": "--time", "-t": "--time", "--signal": "--warning", "--mem": "--mem", "--exclusive": "--exclusive",
    "--ntasks-per-node": "--ntasks-per-node",
}  # fmt: skip


class JobCommand(click.Command):
    """A command whose unknown words are the job's. If the first of them is a script, all behind it is the script's."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As for click.Command."""
        super().__init__(*arguments, **settings)
        self.context_settings = {**self.context_settings, "ignore_unknown_options": True}

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse, after an end of options has been put before a script."""
        takes_value = {
            name: not getattr(parameter, "is_flag", False)
            for parameter in self.get_params(context)
            if isinstance(parameter, click.Option)
            for name in parameter.opts
        }
        may_be_script, words = True, iter(enumerate(args))
        for number, word in words:
            if word == "--":
                break
            name = _option(word)
            if name in takes_value:
                may_be_script &= name != "-m"
                if takes_value[name] and name == word:
                    next(words, None)
            elif word.startswith("-"):
                self.check_unknown(name)
                may_be_script = False
            elif may_be_script and word.endswith(SCRIPT):
                return super().parse_args(context, [*args[:number], "--", *args[number:]])
            else:
                may_be_script = False
        return super().parse_args(context, args)

    def check_unknown(self, name: str) -> None:
        """Raise click.UsageError for an option that may not be meant for the job."""


class BatchCommand(JobCommand):
    """A JobCommand that refuses an option of sbatch which it does not know itself."""

    def check_unknown(self, name: str) -> None:
        """As for JobCommand."""
        if name in _SBATCH:
            value = f'{name}=VALUE"' if name.startswith("--") else f'{name} VALUE"'
            way = _SBATCH[name] or f'--sbatch "{value}'
            raise click.UsageError(f"{name} is an option of sbatch: write {way}; options of the job stand behind --")


class Text(click.types.StringParamType):
    """A text that is not empty and has no control characters, such as line ends."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click asks."""
        text = str(value)
        if not text:
            self.fail("it is empty", param, ctx)
        if not text.isprintable():
            self.fail(f"{text!r} has control characters or other letters that can't be printed", param, ctx)
        return text


class BatchLine(Text):
    """An option of sbatch, in sbatch's words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click asks."""
        line = super().convert(value, param, ctx)
        if not line.startswith("-"):
            self.fail(f"{line!r} is not an option of sbatch, like --gres=gpu:1", param, ctx)
        if own := _SBATCH.get(_option(line)):
            self.fail(f"{line!r}: write {own} in its place", param, ctx)
        return line


class Name(click.Path):
    """The path of a file or folder, which is not empty."""

    def __init__(self) -> None:
        """It becomes a pathlib.Path."""
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click asks."""
        if not str(value):
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A finite time above 0."""

    def __init__(self) -> None:
        """In seconds."""
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click asks."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def _option(word: str) -> str:
    """The option's name in a word or line that begins with it: --time=5 -> --time, -N4 -> -N."""
    return re.split("[= ]", word)[0] if word.startswith("--") else word[:2]

"""Values of the scaling lab's options, and those of a simulation."""

import re
from collections.abc import Callable
from typing import Any

import click

from ddp_numpy.scaling.simulation import Stragglers
from ddp_numpy.scaling.topology import Dragonfly, FatTree, Switch, Topology


class Rate(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """Bits a second: 100mbit, 1gbit."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """As click asks."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|g)bit", str(value).lower())
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is not a rate of a link, like 100mbit or 10gbit", param, context)
        return float(match[1]) * {"m": 1e6, "g": 1e9}[match[2]]


class Counts(click.ParamType):  # type: ignore[type-arg]
    """Numbers of ranks: 1,2,4."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """As click asks."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(sorted({int(part) for part in str(value).split(",")}))
        except ValueError:
            found = (0,)
        if found[0] < 1 or found[-1] >= 2**31:
            self.fail(f"{value!r} is not numbers of ranks, like 1,2,4", param, context)
        return found


class Network(click.ParamType):  # type: ignore[type-arg]
    """A topology by its name: from the number of hosts to the network that they are on."""

    name = "topology"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Callable[[int], Topology]:
        """As click asks."""
        if callable(value):
            return value  # type: ignore[no-any-return]
        if value == "switch":
            return lambda hosts: Switch()
        match = re.fullmatch(r"(fat-tree|dragonfly):([0-9]{1,6})(?::([0-9]+(?:\.[0-9]+)?))?", value)
        kind, ports, over = match.groups() if match else ("", "0", None)
        few = 3 if kind == "dragonfly" else 4
        if int(ports) < few or (kind == "dragonfly" and over) or (over and float(over) < 1):
            self.fail(
                f"{value!r} is not switch, fat-tree:PORTS, fat-tree:PORTS:OVERSUBSCRIPTION or dragonfly:PORTS, with 4 "
                "ports or more, 3 of a dragonfly",
                param,
                context,
            )
        if kind == "dragonfly":
            return lambda hosts: Dragonfly(int(ports), hosts)
        return lambda hosts: FatTree(int(ports), float(over or 1))


class SlowRanks(click.ParamType):  # type: ignore[type-arg]
    """A share of the ranks, and how many times as long they take."""

    name = "stragglers"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Stragglers:
        """As click asks."""
        if isinstance(value, Stragglers):
            return value
        match = re.fullmatch(r"(0?\.[0-9]+|0|1):([0-9]+(?:\.[0-9]+)?)", value)
        if match is None:
            self.fail(f"{value!r} is not SHARE:TIMES, like 0.001:1.5, with a share from 0 to 1", param, context)
        return Stragglers(float(match[1]), float(match[2]))


_OPTIONS = (
    click.option("--simulate", type=Counts(), default=(), show_default=False, metavar="10000,1000000",
                 help="Numbers of ranks to simulate, step by step, with times as they are measured."),
    click.option("--topology", type=Network(), default="switch", metavar="switch|fat-tree:64|dragonfly:64",
                 help="Of what is simulated; a number is that of the ports of a switch."),
    click.option("--latency", type=click.FloatRange(0), metavar="MICROSECONDS",
                 help="Of a message between hosts, on links as fast as --network; default: as measured."),
    click.option("--link-latency", type=click.FloatRange(0), default=0.0, metavar="MICROSECONDS",
                 help="Of each link of a message's way, beyond the two of the hosts."),
    click.option("--algorithm", type=click.Choice(["doubling", "halving", "tree", "ring"]), default="halving",
                 help="Of the sum over hosts."),
    click.option("--steps", type=click.IntRange(1), default=100, help="To simulate."),
    click.option("--stragglers", type=SlowRanks(), metavar="SHARE:TIMES",
                 help="Ranks that take TIMES as long as others."),
    click.option("--host-fails", type=click.FloatRange(0, min_open=True), metavar="HOURS",
                 help="Simulate failures, too: after so many hours on average a host fails."),
    click.option("--checkpoint-seconds", type=click.FloatRange(0, min_open=True), default=10.0,
                 help="To write one, while nothing trains."),
    click.option("--restart-seconds", type=click.FloatRange(0), default=60.0,
                 help="From a failure until training goes on."),
)  # fmt: skip


def simulation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a simulation: see Simulating."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command

"""How ranks talk to each other. Nothing outside this package imports mpi4py."""

from ddp_numpy.comm.communicator import Communicator, Node, SingleProcess, SummedVector, in_cache_lines
from ddp_numpy.comm.world import end_job, is_launched, is_reporter, world

__all__ = [
    "Communicator",
    "Node",
    "SingleProcess",
    "SummedVector",
    "end_job",
    "in_cache_lines",
    "is_launched",
    "is_reporter",
    "world",
]

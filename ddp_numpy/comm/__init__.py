"""How ranks talk to each other. Nothing outside this package imports mpi4py."""

from ddp_numpy.comm.communicator import Communicator, SingleProcess, SummedVector
from ddp_numpy.comm.world import end_job, is_launched, is_reporter, world

__all__ = ["Communicator", "SingleProcess", "SummedVector", "end_job", "is_launched", "is_reporter", "world"]

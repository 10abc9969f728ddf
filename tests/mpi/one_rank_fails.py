"""Under mpirun: one rank fails, in one of three ways, while the others go on to a collective."""

import sys

import numpy as np

from ddp_numpy import InputError, world

comm, failing, way = world(), int(sys.argv[1]), sys.argv[2]
if way == "agreed":
    with comm.together():
        if comm.rank == failing:
            raise InputError("bad row")
elif comm.rank == failing:
    raise InputError("bad row") if way == "alone" else ZeroDivisionError
comm.allreduce_(np.zeros(3))

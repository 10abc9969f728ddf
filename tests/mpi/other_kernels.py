"""python other_kernels.py [options of ddp_numpy.train]: each rank multiplies with OpenBLAS's kernel for another CPU."""

import os

os.environ["OPENBLAS_CORETYPE"] = ("Haswell", "Nehalem")[int(os.environ["PMI_RANK"]) % 2]

from ddp_numpy.cli import run
from ddp_numpy.train import main

run(main)

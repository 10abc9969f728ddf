"""Starts jobs: one command over the mpirun of MPICH, Open MPI or Intel MPI, and Slurm's srun.

Imports neither MPI nor NumPy: what it needs of a job it learns from the outside.
"""

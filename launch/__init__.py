"""Starts jobs: one command over the mpirun of MPICH, Open MPI or Intel MPI, and Slurm's srun.

The launcher imports neither MPI nor NumPy: it learns what it needs to know about a job from outside the job.
"""

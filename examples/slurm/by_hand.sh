#!/bin/bash
# A job script written by hand, with the same parts as job.sh of submit.sh: sbatch by_hand.sh
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --time=10
# Each rank gets SIGUSR1 120 seconds before the time limit. Training then writes a checkpoint, and ends with status 75.
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

# A job that is queued again keeps its number, so it finds the folder and the newest checkpoint of its first start.
srun --mpi=pmi2 python -m ddp_numpy.train --epochs 5 --out "runs/slurm-$SLURM_JOB_ID" --resume auto
status=$?

if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

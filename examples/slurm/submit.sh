#!/bin/sh
# Write a job script, job.sh, and submit it. Arguments change it: sh submit.sh --partition short --epochs 50
set -eu
python -m launch sbatch --nodes 2 --ntasks-per-node 2 --time 10 --epochs 5 "$@" > job.sh
sbatch job.sh

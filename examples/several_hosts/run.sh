#!/bin/sh
# Check the hosts of hosts.txt, and train on them. All arguments go to the training: sh run.sh --epochs 50
# MPI_ARGS has options for mpirun, such as which network to use: MPI_ARGS="-iface eth0" sh run.sh
set -eu
hosts="$(dirname "$0")/hosts.txt"

# Ends with status 1, and so ends this script, if anything would go wrong.
python -m launch doctor --hostfile "$hosts" --mpi-args "${MPI_ARGS:-}"

# If a rank dies, the launcher starts the job again from its newest checkpoint, up to three times. If this script itself
# is stopped, start it again: --resume auto goes on from the newest checkpoint, too.
python -m launch run --hostfile "$hosts" --mpi-args "${MPI_ARGS:-}" --max-restarts 3 \
  --data digits --epochs 20 --out runs/hosts --checkpoint-every 100 steps --resume auto "$@"

/* allreduce COUNT ...: prints the bytes and the simulated seconds of a sum of so many floats over all ranks. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  int rank;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int i = 1; i < argc; i++) {
    int count = atoi(argv[i]);
    /* What they hold changes no time, so all ranks have the same memory. */
    float *own = SMPI_SHARED_MALLOC(count * sizeof *own), *sum = SMPI_SHARED_MALLOC(count * sizeof *sum);
    double began, ended, last_began, last_ended;
    MPI_Barrier(MPI_COMM_WORLD);
    began = MPI_Wtime();
    MPI_Allreduce(own, sum, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    ended = MPI_Wtime();
    MPI_Reduce(&began, &last_began, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(&ended, &last_ended, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) printf("%zu %.12f\n", count * sizeof *own, last_ended - last_began);
    SMPI_SHARED_FREE(own);
    SMPI_SHARED_FREE(sum);
  }
  MPI_Finalize();
  return 0;
}

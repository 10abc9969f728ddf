"""To be run under mpirun: measures a training step, and how much of it are matrix products, and the sum and update.

With --reproducible or --exchange it measures such steps, and fast ones that exchange gradients, in turn. Prints JSON:
seconds, and how many bytes of memory a step allocates.
"""

import json
import statistics
import time
import tracemalloc
from collections.abc import Callable

import click
import numpy as np

from ddp_numpy import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Reshape, Sequential, Trainer, load_data, world
from ddp_numpy.comm import Communicator
from ddp_numpy.comm.world import Sums
from ddp_numpy.data import Dataset, Reader
from ddp_numpy.exchange import choose_exchange
from ddp_numpy.exchange.choice import Name
from ddp_numpy.nn import Layer
from ddp_numpy.nn.presets import cnn, mlp
from ddp_numpy.scaling.job import whole_batches

_BLOCK = 40  # this many calls are timed together
NETWORKS: dict[str, Callable[[int], list[Layer]]] = {
    "mlp": mlp,
    "small-cnn": lambda classes: [
        *(Reshape((28, 28, 1)), Conv2D(16), MaxPool2D(), ReLU(), Conv2D(32), MaxPool2D(), ReLU()),
        *(Flatten(), Dense(64), ReLU(), Dense(classes)),
    ],
    "cnn": lambda classes: cnn(classes, (28, 28, 1)),
}
"""By name, from the number of classes to layers. benchmarks.torch_ddp has the same."""


@click.command()
@click.option("--data", default="digits")
@click.option("--network", type=click.Choice(list(NETWORKS)), default="mlp")
@click.option("--batch-size", type=int, default=64)
@click.option("--comm", "sums", type=click.Choice(["auto", "node-shared", "allreduce"]), default="auto")
@click.option("--exchange", type=click.Choice(["auto", "gradients", "factors", "slices"]), default="gradients")
@click.option("--reproducible", is_flag=True)
@click.option("--seconds", type=float, default=2.0, help="How long to measure.")
def main(
    data: str, network: str, batch_size: int, sums: Sums, exchange: Name, reproducible: bool, seconds: float
) -> None:
    """Train a network on whole batches and print medians, in seconds per step."""
    comm = world(sums)
    train, _ = load_data(data, comm)
    trainer, step = trainer_and_step(train, comm, batch_size, exchange, reproducible, network)
    plain = exchange == "gradients" and not reproducible

    def sum_and_update() -> None:
        grads = trainer.exchange.grads
        grads[...] = 0  # because in a step each rank has just written its own gradients
        trainer.exchange.sum()
        trainer.optimizer.step(trainer.model.params, grads)

    parts: dict[str, Callable[[], object]] = {"step": step}
    if plain:
        parts["sum_and_update"] = sum_and_update
        parts["products"] = lambda: matrix_products(trainer.model, batch_size // comm.size)
    else:
        _, parts["fast_step"] = trainer_and_step(train, comm, batch_size, "gradients", False, network)
    for part in parts.values():
        part()
    calls = _BLOCK if network == "mlp" else 2
    times: dict[str, list[float]] = {name: [] for name in parts}
    end = time.perf_counter() + seconds
    while comm.broadcast(time.perf_counter() < end):  # all ranks stop after the same block
        for name, part in parts.items():
            start = time.perf_counter()
            for _ in range(calls):
                part()
            times[name].append((time.perf_counter() - start) / calls)
    medians = {name: statistics.median(values) for name, values in times.items()}
    allocated = allocated_by(step)
    if comm.rank == 0:
        print(json.dumps(medians | {"allocated": allocated}))


def trainer_and_step(
    train: Dataset, comm: Communicator, batch_size: int, name: Name, reproducible: bool, network: str = "mlp"
) -> tuple[Trainer, Callable[[], None]]:
    """A trainer of a network, and a function that makes its next step on a whole batch."""
    model = Sequential(*NETWORKS[network](train.classes))
    exchange = choose_exchange(name, comm, batch_size, reproducible=reproducible)
    trainer = Trainer(model, SGD(0.01), comm, batch_size=batch_size, exchange=exchange)
    trainer.prepare(train)
    reader, rows = Reader(train, model.dtype), whole_batches(len(train), batch_size)
    return trainer, lambda: trainer.train_step(reader, next(rows))


def allocated_by(step: Callable[[], None]) -> int:
    """How many bytes a call of `step` holds at most, beyond the memory that was in use before."""
    tracemalloc.start()
    step()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def matrix_products(model: Sequential, rows: int) -> None:
    """Repeat only the dense layers' products of a fast step of so many rows, with the same shapes and arrays."""
    while rows > 0:
        for number, layer in enumerate(model.layers):
            if isinstance(layer, Dense):
                X, Y = layer._X, layer.outputs.rows(len(layer._X))
                np.matmul(X, layer.W, out=Y)
                np.matmul(X.T, Y, out=layer.dW)
                if number:
                    np.matmul(Y, layer.W.T, out=layer.input_gradients.rows(len(X)))
        rows -= len(X)


if __name__ == "__main__":
    main()

"""One rank of PyTorch's DistributedDataParallel with gloo, on the same network, rows and batches. Prints JSON.

Started by benchmarks.peers with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment.
"""

import json
import os
import statistics
import time
from typing import Any

import click
import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ddp_numpy import SingleProcess, load_data
from ddp_numpy.base.scale import Scaler
from ddp_numpy.data import share
from ddp_numpy.scaling.job import whole_batches

_BLOCK = 40


@click.command()
@click.option("--data", default="digits")
@click.option("--network", type=click.Choice(["mlp", "small-cnn", "cnn"]), default="mlp")
@click.option("--channels-last", is_flag=True, help="The memory layout of images.")
@click.option("--batch-size", type=int, default=64)
@click.option("--seconds", type=float, default=2.0)
def main(data: str, network: str, channels_last: bool, batch_size: int, seconds: float) -> None:
    """Train on whole batches and print the median seconds per step, including the gathering of rows."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    train, _ = load_data(data, SingleProcess())
    # Scaled before training, as users of PyTorch do. This is the fastest way for PyTorch.
    scaled = np.empty(train.features.shape, np.float32)
    Scaler(train.scale, train.features.dtype, scaled.dtype)(np.asarray(train.features), scaled)
    X = torch.from_numpy(scaled)
    y = torch.from_numpy(train.labels)
    model: Any = nn.Sequential(*layers(network, X.shape[1], train.classes))
    if network != "mlp":
        X = X.reshape(-1, 1, 28, 28)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    X, model = X.contiguous(memory_format=layout), model.to(memory_format=layout)
    calls = _BLOCK if network == "mlp" else 2
    if size > 1:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_of = nn.CrossEntropyLoss()
    rows = whole_batches(len(train), batch_size)

    def step() -> None:
        mine = torch.from_numpy(next(rows)[share(batch_size, rank, size)])
        optimizer.zero_grad(set_to_none=True)
        loss_of(model(X[mine]), y[mine]).backward()
        optimizer.step()

    for _ in range(calls):
        step()
    blocks = torch.tensor([0])
    times: list[float] = []
    while not blocks.item():
        start = time.perf_counter()
        for _ in range(calls):
            step()
        times.append((time.perf_counter() - start) / calls)
        blocks[0] = int(sum(times) * calls > seconds)
        if size > 1:
            dist.broadcast(blocks, 0)  # all ranks stop after the same block
    if rank == 0:
        print(json.dumps({"step": statistics.median(times)}), flush=True)
    if size > 1:
        dist.destroy_process_group()
    # os._exit skips Python's clean-up: during it gloo's threads may still release a tensor, which aborts about 1
    # process in 100.
    os._exit(0)


def layers(network: str, features: int, classes: int) -> list[nn.Module]:
    """The layers of benchmarks.step's network of this name."""
    if network == "mlp":
        return [nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)]
    found: list[nn.Module] = []
    channels = 1
    for filters in (16, 32):
        if network == "cnn":
            found += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        found += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels = filters
    width = 128 if network == "cnn" else 64
    return [*found, nn.Flatten(), nn.Linear(32 * 7 * 7, width), nn.ReLU(), nn.Linear(width, classes)]


if __name__ == "__main__":
    main()

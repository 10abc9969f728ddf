"""Data-parallel training with NumPy and MPI: the number of ranks changes the time, never the result."""

# ruff: noqa: E402
import signal
import sys

# While `python -m NAME` looks for NAME, sys.argv begins with -m. If a command of this package is being started, Ctrl-C
# ends it without a traceback until it runs.
_IS_COMMAND = sys.argv[:1] == ["-m"] and " -m ddp_numpy." in " ".join(sys.orig_argv)
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from ddp_numpy.base.threads import default_to_one_thread

default_to_one_thread()  # before anything below loads NumPy

from ddp_numpy.base.errors import DivergedError, InputError, Interrupted, JobError, ReplicaError
from ddp_numpy.base.scale import Scale
from ddp_numpy.comm import Communicator, SingleProcess, world
from ddp_numpy.data import Dataset, load_data
from ddp_numpy.exchange import FactorExchange, FloatExchange, GridExchange
from ddp_numpy.nn import (
    GELU,
    Augment,
    AvgPool2D,
    BatchNorm,
    Context,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Huber,
    Layer,
    LayerNorm,
    LeakyReLU,
    Loss,
    MaxPool2D,
    MeanSquaredError,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    SoftmaxCrossEntropy,
    Tanh,
)
from ddp_numpy.optim import SGD, Optimizer
from ddp_numpy.runs.model_file import load_model, save_model
from ddp_numpy.training.average import MovingAverage
from ddp_numpy.training.metrics import Epoch
from ddp_numpy.training.patience import EarlyStopping, ReduceOnPlateau
from ddp_numpy.training.replicas import ReplicaCheck
from ddp_numpy.training.trainer import Trainer

__version__ = "1.0.0"

__all__ = [
    "GELU",
    "SGD",
    "Augment",
    "AvgPool2D",
    "BatchNorm",
    "Communicator",
    "Context",
    "Conv2D",
    "Dataset",
    "Dense",
    "DivergedError",
    "Dropout",
    "EarlyStopping",
    "Epoch",
    "FactorExchange",
    "Flatten",
    "FloatExchange",
    "GlobalAvgPool",
    "GridExchange",
    "Huber",
    "InputError",
    "Interrupted",
    "JobError",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Loss",
    "MaxPool2D",
    "MeanSquaredError",
    "MovingAverage",
    "Optimizer",
    "ReLU",
    "ReduceOnPlateau",
    "ReplicaCheck",
    "ReplicaError",
    "Reshape",
    "Residual",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SingleProcess",
    "SoftmaxCrossEntropy",
    "Tanh",
    "Trainer",
    "load_data",
    "load_model",
    "save_model",
    "world",
]

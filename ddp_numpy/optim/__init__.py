"""Optimizers: a few lines each, on flat vectors or on runs of them, the same on every rank."""

from ddp_numpy.optim.optimizer import Group, Optimizer
from ddp_numpy.optim.sgd import SGD

__all__ = ["SGD", "Group", "Optimizer"]

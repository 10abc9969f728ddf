"""Optimizers: a few whole-vector lines each, the same on every rank."""

from ddp_numpy.optim.sgd import SGD

__all__ = ["SGD"]

"""Optimizers: a few lines each, on flat vectors or on runs of them, the same on every rank."""

from ddp_numpy.optim.adam import Adam, AdamW
from ddp_numpy.optim.layerwise import LAMB, LARS
from ddp_numpy.optim.optimizer import Group, Optimizer, is_no_weight
from ddp_numpy.optim.rmsprop import RMSprop
from ddp_numpy.optim.sgd import SGD

__all__ = ["LAMB", "LARS", "SGD", "Adam", "AdamW", "Group", "Optimizer", "RMSprop", "is_no_weight"]

"""From files to batches: readers, cache, split and sampler."""

from ddp_numpy.data.dataset import Dataset, Reader
from ddp_numpy.data.load import load_data
from ddp_numpy.data.sampler import batches, epoch_order, pieces, share

__all__ = ["Dataset", "Reader", "batches", "epoch_order", "load_data", "pieces", "share"]

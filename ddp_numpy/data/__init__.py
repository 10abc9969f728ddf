"""From files to batches: readers, cache, split and sampler."""

from ddp_numpy.data.dataset import Dataset, Reader
from ddp_numpy.data.files import read_frame
from ddp_numpy.data.load import load_data, load_more, load_table
from ddp_numpy.data.prepare import other_rows, prepare
from ddp_numpy.data.sampler import batches, epoch_order, pieces, share
from ddp_numpy.data.split import stratified_folds
from ddp_numpy.data.table import Table, TableOptions

__all__ = [
    "Dataset",
    "Reader",
    "Table",
    "TableOptions",
    "batches",
    "epoch_order",
    "load_data",
    "load_more",
    "load_table",
    "other_rows",
    "pieces",
    "prepare",
    "read_frame",
    "share",
    "stratified_folds",
]

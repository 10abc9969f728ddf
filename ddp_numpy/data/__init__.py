"""From files to batches: readers, cache, split and sampler."""

from ddp_numpy.data.cache import cache_folder
from ddp_numpy.data.classes import known_labels
from ddp_numpy.data.dataset import Dataset, Reader
from ddp_numpy.data.files import is_table, read_frame
from ddp_numpy.data.load import load_data, load_more, load_table
from ddp_numpy.data.prepare import other_rows, prepare
from ddp_numpy.data.sampler import batches, epoch_order, pieces, share
from ddp_numpy.data.split import stratified_folds
from ddp_numpy.data.stream import Part, Stream, in_turn
from ddp_numpy.data.table import Table, TableOptions

__all__ = [
    "Dataset",
    "Part",
    "Reader",
    "Stream",
    "Table",
    "TableOptions",
    "batches",
    "cache_folder",
    "epoch_order",
    "in_turn",
    "is_table",
    "known_labels",
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

"""Atomic files in, atomic files out: models, and all that is needed to go on training."""

from ddp_numpy.checkpoint.model_file import load_model, save_model
from ddp_numpy.checkpoint.snapshot import Snapshot, read_snapshot
from ddp_numpy.checkpoint.store import CheckpointStore, newest_snapshot

__all__ = ["CheckpointStore", "Snapshot", "load_model", "newest_snapshot", "read_snapshot", "save_model"]

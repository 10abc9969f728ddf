"""What a run's metrics.jsonl says, while it is written and afterwards."""

import json
from pathlib import Path
from typing import Any

from ddp_numpy.base.files import open_regular
from ddp_numpy.base.memory import reading
from ddp_numpy.runs.marker import METRICS


def metrics_by_epoch(folder: Path, name: str) -> dict[int, Any]:
    """A figure of each epoch of the run in this folder that noted it. Torn lines are left out; no file has none.

    Raises InputError if the file can't be read.
    """
    path, found = folder / METRICS, {}
    if not path.exists():
        return {}
    with reading(path), open_regular(path) as file:
        for line in file:
            try:
                epoch = json.loads(line)
                found[int(epoch["epoch"])] = epoch[name]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
    return found

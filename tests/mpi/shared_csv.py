"""Under mpirun: load CSV files, and print for each a hash of its rows, and whether rank 0 had to read it alone.

python shared_csv.py FILE[:FOLDER] …: where a file has a folder, ranks other than 0 are there, where the file can't be
seen. Each file is read with a cache of its own.
"""

import hashlib
import json
import os
import sys

import ddp_numpy.data.load
from ddp_numpy import load_data, world
from ddp_numpy.data.files import read_table

alone = []


def noting(path, options, files):  # type: ignore[no-untyped-def]
    alone.append(path)
    return read_table(path, options, files)


ddp_numpy.data.load.read_table = noting  # type: ignore[attr-defined]
comm = world()
here, caches = os.getcwd(), os.environ["XDG_CACHE_HOME"]
found = []
for number, argument in enumerate(sys.argv[1:]):
    path, _, elsewhere = argument.partition(":")
    os.environ["XDG_CACHE_HOME"] = f"{caches}/{number}"
    os.chdir(elsewhere if elsewhere and comm.rank > 0 else here)
    alone.clear()
    datasets = load_data(path, comm)
    digest = hashlib.sha256()
    for data in datasets:
        digest.update(str((data.features.dtype, data.features.shape, str(data.scale), data.classes)).encode())
        digest.update(data.features.tobytes() + data.labels.tobytes())
    found.append({"sha256": digest.hexdigest(), "alone": bool(alone)})
if comm.rank == 0:
    print(json.dumps(found))

"""Under mpirun or alone: load FILE while somebody replaces it by copies of NEW, and print a hash of the rows.

python replaced_csv.py FILE NEW TIMES: each of the first TIMES times that rank 0 parses, the file is replaced before.
The bytes of a part are read before it is parsed, so some ranks parse old rows and others may parse new ones.
"""

import os
import shutil
import sys

import pandas

from ddp_numpy import load_data, world
from ddp_numpy.data import csv_parts

path, new, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
comm = world()
replaced = 0


def replacing(parse):  # type: ignore[no-untyped-def]
    def replace_and_parse(*arguments, **options):  # type: ignore[no-untyped-def]
        global replaced
        if comm.rank == 0 and replaced < times:
            replaced += 1
            shutil.copy(new, f"{path}.copy")
            os.replace(f"{path}.copy", path)
        return parse(*arguments, **options)

    return replace_and_parse


pandas.read_csv = replacing(pandas.read_csv)
csv_parts.small_numbers = replacing(csv_parts.small_numbers)  # type: ignore[attr-defined]
train, _ = load_data(path, comm)
if comm.rank == 0:
    print(train.sha256())

"""python several_commands.py MODULE FOLDER: run the module's commands that FOLDER/commands.json lists, in one job.

Each command starts in a folder of its own, with a cache of its own, and writes to files of its own instead of
stdout and stderr. Each rank writes down the exit status of each command.
"""

import json
import os
import runpy
import sys
from pathlib import Path

module, notes = sys.argv[1], Path(sys.argv[2]).resolve()
rank = os.environ.get("PMI_RANK", "0")


def run_with_files(number: int, folder: str, arguments: list[str]) -> None:
    """Run one command as Python would, with the files NUMBER-RANK.out and .err for its output."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(notes / f"{number}-cache")
    sys.argv = [module, *arguments]
    kept = {}
    for stream, ending in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        kept[stream] = os.dup(stream.fileno())
        with (notes / f"{number}-{rank}.{ending}").open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    status: object = "no exit"
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        status = ending.code
    finally:
        sys.stdout, sys.stderr = kept  # the launcher puts its own in their place
        for stream, descriptor in kept.items():
            stream.flush()
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)
    (notes / f"{number}-{rank}.status").write_text(json.dumps(status))


for number, (folder, arguments) in enumerate(json.loads((notes / "commands.json").read_text())):
    run_with_files(number, folder, arguments)

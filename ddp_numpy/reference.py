"""`python -m ddp_numpy.reference` prints docs/options.md: the table of all options."""

import html
import json

from ddp_numpy.base.messages import begin_command
from ddp_numpy.base.options import allowed
from ddp_numpy.settings import GROUPS


def reference() -> str:
    """All options as Markdown tables."""
    lines = [
        "# Options of training",
        "",
        "Each option may stand on the command line of `python -m ddp_numpy.train`, or as a key of the TOML file that",
        "`--config FILE.toml` names; the command line wins. The last column says what happens if `--resume` is given",
        "together with another value than the run had: *refused*, because the result would be another; *allowed*, and",
        "if the option is not given the run's own value is taken; *new*, because each start says it anew. The data may",
        "move, and may be read in another way, as long as the training rows stay the same.",
    ]
    for kind in GROUPS.values():
        lines += ["", f"## {kind.__name__}", "", "| option | TOML key | default | range | meaning | on resume |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for declared in kind.options():
            default = html.escape(declared.shown_default or "")  # <time> is no tag
            if declared.default not in (None, ()):
                default = f"`{json.dumps(declared.record(declared.default))}`"  # as TOML has it, too
            words = [allowed(declared.type), declared.help, declared.change.value]
            cells = [f"`--{declared.name}`", f"`{declared.name}`", default, *words]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    begin_command()
    print(reference(), end="")

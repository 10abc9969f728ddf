"""How Sphinx makes the documentation: `make docs`."""

import re
import socket
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import ddp_numpy

project = "ddp_numpy"
copyright = "the ddp_numpy authors"
version = release = ddp_numpy.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_click",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "notebooks/*.ipynb"]
source_suffix = {".md": "myst-nb"}

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Pages are executed at each build, from nothing, and a cell that raises is an error.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_execution_timeout = 300

# Docstrings are plain sentences, in which names stand between single backticks.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "ddp_numpy"
html_static_path = ["static"]
html_css_files = ["site.css"]

linkcheck_anchors = False
linkcheck_retries = 2


def _reaches(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def _as_plain_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let *, | and _ mean themselves in docstrings, as in (B, *shape). Between backticks they already do."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [re.sub(r"([*|]|_\b)", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _as_plain_text)


# Without the internet, links within the documentation are checked all the same.
_is_online = _reaches("github.com")
intersphinx_mapping = {"numpy": ("https://numpy.org/doc/stable/", None)} if _is_online else {}
linkcheck_ignore = [] if _is_online else [r"https?://.*"]

"""The code of the page docs/extending.md."""

from typing import Any

from pages import CHECKOUT, blocks

PAGE = CHECKOUT / "docs" / "extending.md"
BLOCKS = [text for language, _, text in blocks(PAGE) if language == "python"]


def run_page() -> dict[str, Any]:
    """What the page defines, after all of its code has run in the working folder."""
    namespace: dict[str, Any] = {"__name__": "extending_page"}
    exec(compile("\n".join(BLOCKS), str(PAGE), "exec"), namespace)
    return namespace

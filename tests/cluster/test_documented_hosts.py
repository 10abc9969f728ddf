"""The documentation's commands for several hosts, on hosts of these tests."""

from pathlib import Path

import pytest
from in_examples import shell
from namespaces import Cluster
from pages import ON_HOSTS, PAGES, blocks, lines

# A sweep takes minutes. docs/scaling shows such sweeps on hosts.
COMMANDS = [
    pytest.param(line, id=f"{page.name}:{number}")
    for page in PAGES
    for language, number, text in blocks(page)
    if language == "sh"
    for line in lines(text)
    if ON_HOSTS.search(line)
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs_on_hosts(command: str, cluster: Cluster, tmp_path: Path) -> None:
    a, b, _ = cluster.hosts
    (tmp_path / "hosts.txt").write_text(f"{a} slots=2\n{b} slots=2\n")
    job = shell("-ec", command.replace("node1", a).replace("node2", b), cwd=tmp_path, env=cluster.environment)
    assert job.status == 0, job.out + job.err


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) >= 4

"""What leaves this repository: versions and requirements agree, manifests fit their schemas, the sdist is whole."""

import ast
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import run_job

import ddp_numpy

CHECKOUT = Path(__file__).parents[1]
PACKAGING = CHECKOUT / "packaging"
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
LARGEST_WHEEL = 3_000_000
# Of the quick tests: layers, optimizers and readers, and those that read other files of the checkout.
SUBSET = ["nn", "layers", "optim", "optimizers", "schedules", "readers", "sampler", "layout", "settings", "packaging"]
# Every line with a comment is wrong, and mypy has to say so with this code.
WRONG = """\
from ddp_numpy import SGD, Dense, Sequential, Trainer, load_data, load_model, world

train, valid = load_data("digits", world())
model = Sequential(Dense("128"))  # arg-type
trainer = Trainer(model, SGD(lr="fast"), world(), batch_size=64, seed=1)  # arg-type
for epoch in trainer.fit(train, valid, epoch=5):  # call-arg
    print(epoch.valid_acuracy)  # attr-defined
    print(epoch.train_loss + epoch.valid_accuracy)  # operator
rows: str = load_model("model.npz").predict(valid.features)  # assignment
"""


def read_yaml(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install '.[dev]'")
    return yaml.safe_load(path.read_text())


def the_only(pattern: str, path: Path) -> str:
    """What stands in the group of this pattern, the same wherever the file has it."""
    (found,) = set(re.findall(pattern, path.read_text(), re.MULTILINE))
    return str(found)


def calls(path: Path, function: str) -> list[str]:
    """The first argument of each call of this function in a Python file, which is only parsed."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    found = [node for node in nodes if isinstance(node.func, ast.Name) and node.func.id == function]
    return [ast.literal_eval(node.args[0]) for node in found]


def test_every_file_names_the_version_of_the_package() -> None:
    versions = {
        "CITATION.cff": the_only(r"^version: (\S+)$", CHECKOUT / "CITATION.cff"),
        "conda": the_only(r'^  version: "(.+)"$', PACKAGING / "conda" / "recipe.yaml"),
        "spack": calls(PACKAGING / "spack" / "package.py", "version")[-1],
        "spack's url": the_only(r"ddp_numpy-(.+)\.tar\.gz", PACKAGING / "spack" / "package.py"),
        "images": the_only(r"image: ddp_numpy:(\S+)", PACKAGING / "mpijob.yaml"),
    }
    assert versions == dict.fromkeys(versions, ddp_numpy.__version__)


def test_conda_and_spack_require_what_the_package_requires() -> None:
    """All three name the lowest version of each package; `numpy>=2.2` is `numpy >=2.2` and `py-numpy@2.2:` there."""
    project = PYPROJECT["project"]
    python, build = "python" + project["requires-python"], set(PYPROJECT["build-system"]["requires"])
    run = {python, *project["dependencies"]}
    text = (PACKAGING / "conda" / "recipe.yaml").read_text()
    host, _, needed = text.partition("  run:\n")
    listed = {name.replace(" ", "") for name in re.findall(r"^    - ([\w-]+ >=.+)$", needed, re.MULTILINE)}
    assert listed == run
    assert {name.replace(" ", "") for name in re.findall(r"^    - ([\w-]+ >=.+)$", host, re.MULTILINE)} == {
        python,
        *build,
    }
    optional = {name for extra in ("formats", "report") for name in project["optional-dependencies"][extra]}
    spack = {name.removeprefix("py-") for name in calls(PACKAGING / "spack" / "package.py", "depends_on")}
    assert {re.sub(r"@(.+):", r">=\1", name) for name in spack} == run | build | optional


def test_the_recipe_makes_the_same_commands_and_has_the_same_licence() -> None:
    recipe, project = read_yaml(PACKAGING / "conda" / "recipe.yaml"), PYPROJECT["project"]
    scripts = [f"{name} = {function}" for name, function in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["license"] == project["license"]
    assert recipe["about"]["summary"] == project["description"]
    assert all((CHECKOUT / path).is_file() for path in recipe["about"]["license_file"])
    assert calls(PACKAGING / "spack" / "package.py", "license") == [project["license"]]


def test_the_citation_names_who_what_and_how() -> None:
    citation = read_yaml(CHECKOUT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"].startswith(PYPROJECT["project"]["name"])
    assert citation["authors"]
    assert PYPROJECT["project"]["license"].startswith(citation["license"])


def copied() -> dict[str, set[str]]:
    """What each image takes from the checkout, by the file that describes the image."""
    docker = re.findall(r"^COPY (?!--from)(.+) \S+$", (PACKAGING / "Dockerfile").read_text(), re.MULTILINE)
    files = (PACKAGING / "apptainer.def").read_text().partition("%files\n")[2].partition("\n\n")[0]
    return {"Dockerfile": set(" ".join(docker).split()), "apptainer.def": set(files.split()[::2])}


@pytest.mark.parametrize("image", ["Dockerfile", "apptainer.def"])
def test_an_image_is_built_from_what_a_wheel_is_made_of(image: str) -> None:
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PYPROJECT["project"]
    needed = {
        "pyproject.toml",
        project["readme"],
        *project["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    assert copied()[image] == needed
    assert all((CHECKOUT / path).exists() for path in needed)


@pytest.mark.parametrize("section", ["post", "environment", "runscript", "test"])
def test_shellcheck_passes_the_sections_of_the_apptainer_definition(section: str) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck: apt-get install shellcheck")
    (script,) = re.findall(rf"^%{section}\n((?:    .*\n)+)", (PACKAGING / "apptainer.def").read_text(), re.MULTILINE)
    command = ["shellcheck", "--shell=sh", "-"]
    checked = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout


def complaints(job: dict[str, Any]) -> list[str]:
    """What is wrong with an MPIJob, by the operator's schema and by Kubernetes' own of pods."""
    jsonschema = pytest.importorskip("jsonschema", reason="no jsonschema: pip install '.[dev]'")
    kubernetes = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate: pip install '.[dev]'")
    schema = json.loads((CHECKOUT / "tests" / "schemas" / "mpijob-v2beta1.json").read_text())
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(job)]
    for replicas in job["spec"]["mpiReplicaSpecs"].values():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": replicas["template"]}
        try:
            kubernetes.validate(pod, kubernetes.latest_version(), strict=True)
        except kubernetes.ValidationError as error:
            found.append(error.message)
    return found


def test_the_mpijob_fits_its_schemas_and_itself() -> None:
    job = read_yaml(PACKAGING / "mpijob.yaml")
    assert complaints(job) == []
    spec = job["spec"]
    launcher, worker = (spec["mpiReplicaSpecs"][kind] for kind in ("Launcher", "Worker"))
    (mpirun,), (sshd,) = (replicas["template"]["spec"]["containers"] for replicas in (launcher, worker))
    assert mpirun["command"][:3] == ["mpirun", "-n", str(spec["slotsPerWorker"] * worker["replicas"])]
    assert sshd["resources"]["limits"]["cpu"] == str(spec["slotsPerWorker"])
    # What the image has: where sshd looks for its key, on which port it listens, and who the ranks are.
    image = PACKAGING / "Dockerfile"
    assert the_only(r"HostKey (\S+)/id_rsa", image) == spec["sshAuthMountPath"]
    assert the_only(r"\bPort (\d+)'", image) == str(sshd["readinessProbe"]["tcpSocket"]["port"])
    assert the_only(r"> (/\S+/sshd_config)", image) == sshd["command"][-1]
    for replicas in (launcher, worker):
        assert str(replicas["template"]["spec"]["securityContext"]["runAsUser"]) == the_only(r"^USER (\d+)$", image)


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda spec, _: spec.update(slotsPerWorkers=2), "slotsPerWorkers"),
        (lambda spec, _: spec.update(mpiImplementation="mpich"), "mpich"),
        (lambda spec, _: spec["runPolicy"].update(cleanPodPolicy="Never"), "Never"),
        (lambda spec, _: spec["mpiReplicaSpecs"].pop("Launcher"), "Launcher"),
        (lambda spec, _: spec["mpiReplicaSpecs"]["Launcher"].update(replicas=2), "1 was expected"),
        (lambda _, pod: pod.update(volume=[]), "volume"),
        (lambda _, pod: pod["containers"][0].pop("name"), "name"),
        (lambda _, pod: pod["containers"][0].update(args="run"), "run"),
    ],
)
def test_what_is_wrong_in_an_mpijob_is_found(break_it: Callable[[Any, Any], object], complaint: str) -> None:
    job = read_yaml(PACKAGING / "mpijob.yaml")
    break_it(job["spec"], job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"])
    (found,) = complaints(job)
    assert complaint in found


def mypy(script: str, folder: Path, python: Path) -> list[str]:
    """The errors that mypy --strict finds in a user's script, with this Python's packages; it sees no checkout."""
    options = ["--strict", "--config-file=", f"--cache-dir={folder / 'mypy'}", f"--python-executable={python}"]
    job = run_job(None, "-m", "mypy", *options, "--no-pretty", "--no-error-summary", script, cwd=folder, timeout=300)
    assert job.err == ""
    return [line for line in job.out.splitlines() if ": error: " in line]


def assert_types_reach_the_user(folder: Path, python: Path) -> None:
    shutil.copy(CHECKOUT / "tests" / "typed_script.py", folder)
    assert mypy("typed_script.py", folder, python) == []
    (folder / "wrong.py").write_text(WRONG)
    errors = mypy("wrong.py", folder, python)
    found = [re.sub(r"wrong\.py:(\d+): error: .*\[(.+)\]", r"\1 \2", error) for error in errors]
    lines = enumerate(WRONG.splitlines(), 1)
    assert found == [f"{number} {line.partition('  # ')[2]}" for number, line in lines if "  # " in line]


@pytest.mark.slow
def test_mypy_knows_the_types_of_a_users_script(tmp_path: Path) -> None:
    assert_types_reach_the_user(tmp_path, Path(sys.executable))


def run(*arguments: str | Path, cwd: Path, python: str | Path = sys.executable, timeout: float = 300) -> str:
    """What a job prints that has to end well."""
    env = {"PYTHONPATH": "", "PYTEST_ADDOPTS": ""}
    job = run_job(None, *arguments, cwd=cwd, env=env, python=python, timeout=timeout)
    assert job.status == 0, job.out[-3000:] + job.err
    return job.out


@pytest.mark.slow
def test_the_sdist_has_all_that_its_tests_need(tmp_path: Path) -> None:
    for name in ("build", "twine"):
        pytest.importorskip(name, reason=f"no {name}: pip install '.[dev]'")
    run("-m", "build", "--outdir", tmp_path, CHECKOUT, cwd=tmp_path)  # the sdist, and from it the wheel
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    run("-m", "twine", "check", "--strict", sdist, wheel, cwd=tmp_path)
    assert wheel.stat().st_size < LARGEST_WHEEL
    run("-m", "build", "--wheel", "--outdir", tmp_path / "whole", CHECKOUT, cwd=tmp_path)
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(tmp_path / "whole" / wheel.name) as of_checkout:
        assert {"ddp_numpy/py.typed", "launch/py.typed"} <= set(packed.namelist())
        assert set(packed.namelist()) == set(of_checkout.namelist())

    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert {path.name for path in unpacked.iterdir()}.isdisjoint({".ci", ".schemathesis", ".venv", "runs"})
    assert not list(unpacked.glob("data/*.csv"))

    # A new environment: the wheel, and beside it all that is installed here. It sees nothing of this checkout, as the
    # link of an editable installation is followed only in an environment's own folder.
    run("-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run("-m", "pip", "--quiet", "install", "--no-deps", wheel, cwd=tmp_path, python=python)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    where = run("-c", "import ddp_numpy; print(ddp_numpy.__file__)", cwd=tmp_path, python=python)
    assert where.startswith(str(packages))
    assert_types_reach_the_user(tmp_path, python)

    pytest_here = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "tests collected" in run(*pytest_here, "--collect-only", cwd=unpacked, python=python)
    some = [f"tests/test_{name}.py" for name in SUBSET]
    assert " passed" in run(*pytest_here, *some, cwd=unpacked, python=python, timeout=900)

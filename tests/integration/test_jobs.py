"""Jobs submitted to real clusters, as cluster/README.md says: two at once, so that a job could meet the wrong one.

One was started in the repository, where isograd can be imported. The other was started elsewhere, by a Python that has
the dependencies only, and asks for a token. What is submitted to a cluster runs side by side: most of a job is waiting.
"""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import LOOPBACK, ROOT, RunningCluster, bare_python, head
from tests.commands import Done, together
from tests.processes import wait_until

pytestmark = pytest.mark.cluster

Answers = Mapping[str, Done]

EXAMPLE = ("python", "examples/train_from_python.py", "train.epochs=1", "model.width=4", "executor.device=cpu")
SEARCH = ("python", "examples/tune_mlaan.py", "tune.num_trials=3", "train.epochs=2", "executor.device=cpu")
MODULES = json.dumps({"py_modules": ["platform/isograd"]})

FAILS = """
import json, os, isograd, isograd.methods as methods
print("found", json.dumps({"address": os.environ["RAY_ADDRESS"], "files": [isograd.__file__, methods.__file__]}))
raise SystemExit(3)
"""

# Says where the driver and a worker, connected as isograd connects, import from.
WHERE = """
import json, os, ray, isograd, isograd.methods as methods
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected

@ray.remote
def files():
    import isograd, isograd.methods as methods
    return [isograd.__file__, methods.__file__]

with connected(ClusterConfig(address="auto")):
    found = [isograd.__file__, methods.__file__, *ray.get(files.remote())]
    print("found", json.dumps({"address": os.environ["RAY_ADDRESS"], "files": found}))
"""

# Waits, with a worker that waits, until it is stopped.
WAITS = """
import ray, time
ray.init(log_to_driver=False)

@ray.remote
class Waiting:
    def ready(self): return True

waiting = Waiting.remote()
print("ready:", ray.get(waiting.ready.remote()))
time.sleep(600)
"""


def told(done: Done) -> str:
    return done.stdout + done.stderr


def found(done: Done) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, told(done)
    return json.loads(lines[0].removeprefix("found "))


@pytest.fixture(scope="module")
def here() -> Iterator[RunningCluster]:
    with head(ROOT, PYTHONPATH=f"{ROOT / 'platform'}:{ROOT}") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    python = bare_python(tmp_path_factory.mktemp("python"))
    with head(tmp_path_factory.mktemp("empty"), token=True, python=python) as cluster:
        installed = cluster.run(python, "-c", "import isograd", cwd=Path("/"))
        if not installed.returncode:
            pytest.skip("isograd is installed among its dependencies, not as editable: it cannot be hidden")
        yield cluster


@pytest.fixture(scope="module")
def answers_here(here: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    folder = tmp_path_factory.mktemp("submitter")  # the job's folder is the head's

    def submit(*entrypoint: str) -> Callable[[], Done]:
        return lambda: here.job("submit", "--", *entrypoint, cwd=folder)

    return together(
        {
            "trains": submit(*EXAMPLE, "executor=sequential", f"folder={folder}"),
            "fails": submit("python", "-c", FAILS),
        }
    )


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def answers_elsewhere(elsewhere: RunningCluster, studies: Path) -> Answers:
    def submit(*arguments: str, **environment: str) -> Callable[[], Done]:
        return lambda: elsewhere.job("submit", *arguments, cwd=ROOT, **environment)

    folder = ("--working-dir", ".")
    runtime_env = ("--runtime-env", "cluster/runtime_env.yaml")
    return together(
        {
            "trains": submit(*folder, *runtime_env, "--", *EXAMPLE, "cluster.address=auto"),
            "modules": submit("--runtime-env-json", MODULES, "--", "python", "-c", WHERE),
            "searches": submit(*folder, "--", *SEARCH, f"tune.folder={studies}"),
            "folder only": submit(*folder, "--", *EXAMPLE),
            "no token": submit("--", "python", "-c", "print('ran')", RAY_AUTH_MODE="disabled"),
            "wrong token": submit("--", "python", "-c", "print('ran')", RAY_AUTH_TOKEN="0" * 64),
        }
    )


def test_an_example_trains_where_the_head_was_started_in_the_repository(answers_here: Answers) -> None:
    done = answers_here["trains"]
    assert done.returncode == 0 and "same scores of all local modules: True" in done.stdout, told(done)


def test_without_a_working_directory_the_heads_folder_is_imported(here: RunningCluster, answers_here: Answers) -> None:
    where = found(answers_here["fails"])
    assert where["address"] == here.address
    package = ROOT / "platform/isograd"
    assert where["files"] == [str(package / "__init__.py"), str(package / "methods/__init__.py")]


def test_a_failing_job_says_how(answers_here: Answers) -> None:
    done = answers_here["fails"]
    assert done.returncode == 1 and "exit code 3" in told(done)


def test_nothing_listens_beyond_loopback_and_a_job_can_be_stopped(
    here: RunningCluster, elsewhere: RunningCluster
) -> None:
    folder = Path("/")
    submitted = here.job("submit", "--no-wait", "--submission-id=waits", "--", "python", "-c", WAITS, cwd=folder)
    assert submitted.returncode == 0, told(submitted)
    assert wait_until(lambda: "ready: True" in asked(here, "waits/logs")["logs"])
    assert waiting(here)
    for cluster in (here, elsewhere):
        listening = cluster.listening()
        assert set(listening) == {LOOPBACK}, listening
        assert {port(cluster.api), port(cluster.address)} <= set(listening[LOOPBACK])
    stopped = here.job("stop", "waits", cwd=folder)
    assert stopped.returncode == 0 and "was stopped" in told(stopped), told(stopped)
    assert asked(here, "waits")["status"] == "STOPPED"
    assert "ready: True" in here.job("logs", "waits", cwd=folder).stdout
    assert wait_until(lambda: not waiting(here))


def asked(cluster: RunningCluster, about: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{cluster.api}/api/jobs/{about}") as answer:
        return json.load(answer)


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def waiting(cluster: RunningCluster) -> list[int]:
    """The processes that run the waiting job's code."""

    def command(process_id: int) -> str:
        try:
            return Path(f"/proc/{process_id}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""

    return [process_id for process_id in cluster.processes() if WAITS in command(process_id)]


def test_an_example_trains_on_workers_that_have_only_the_dependencies(answers_elsewhere: Answers) -> None:
    done = answers_elsewhere["trains"]
    assert done.returncode == 0 and "same scores of all local modules: True" in done.stdout, told(done)


def test_a_search_needs_nothing_but_its_folder(answers_elsewhere: Answers, studies: Path) -> None:
    done = answers_elsewhere["searches"]
    assert done.returncode == 0, told(done)
    (study,) = studies.iterdir()
    assert f"report             {study / 'report.html'}" in done.stdout and (study / "trials.parquet").exists()
    assert len(re.findall(r"/3  trial \d +(?:complete|pruned) ", done.stdout)) == 3, told(done)


def test_packages_travel_without_their_folder(elsewhere: RunningCluster, answers_elsewhere: Answers) -> None:
    where = found(answers_elsewhere["modules"])
    assert answers_elsewhere["modules"].returncode == 0
    assert where["address"] == elsewhere.address
    assert len(where["files"]) == 4
    assert all("/runtime_resources/py_modules_files/" in file for file in where["files"]), where


def test_a_working_directory_alone_does_not_bring_the_package(answers_elsewhere: Answers) -> None:
    done = answers_elsewhere["folder only"]
    assert done.returncode == 1 and "No module named 'isograd'" in done.stdout


@pytest.mark.parametrize("way", ["no token", "wrong token"])
def test_a_job_without_the_token_is_refused(way: str, answers_elsewhere: Answers) -> None:
    done = answers_elsewhere[way]
    assert done.returncode == 1 and "AuthenticationError" in done.stderr and "ran" not in done.stdout.split()

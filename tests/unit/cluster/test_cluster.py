import json

import pytest

from isograd.cluster import connection as cluster
from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.executors import executor
from isograd.executors.executor import make_executor

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.mark.parametrize("address", ["null", "auto", "127.0.0.1:6379"])
def test_clusters_on_the_loopback_interface_are_started_and_found(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferred = []
    monkeypatch.setattr(executor, "prefer_loopback", lambda: preferred.append(address))
    make_executor(Blueprint(load(["model.width=4", f"cluster.address={address}"])))
    assert preferred == [address]


@pytest.mark.parametrize("job", [{}, {"working_dir": "gcs://_ray_pkg_0.zip", "env_vars": {"PYTHONPATH": "platform:."}}])
def test_workers_get_the_drivers_packages(job: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": job, "metadata": {}}))
    folders = cluster._runtime_env()["py_modules"]
    assert [folder.rpartition("/")[2] for folder in folders] == ["isograd"]


def test_no_second_list_of_modules_beside_a_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"py_modules": ["gcs://_ray_pkg_0.zip"]}}))
    assert cluster._runtime_env() == {}

"""The files of cluster/, without any cluster: Ray's schemas, its autoscaler's plans, and that they agree."""

import copy
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.dashboard.modules.job.cli import submit
from ray.runtime_env import RuntimeEnv
from ray.scripts.scripts import start

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
LAUNCHED = ("local", "aws", "gcp")  # by `ray up`
MANIFESTS = ("kuberay_cluster", "kuberay_job")
SCALED = ("aws", "gcp", *MANIFESTS)  # with node types of their own
STAGE = {"CPU": 1, "GPU": 1}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
README = (CLUSTER / "README.md").read_text()


def read(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / f"{name}.yaml").read_text()))


def ray_cluster(name: str) -> dict[str, Any]:
    """The manifest of the cluster that ``name`` runs, as KubeRay hands it to Ray's autoscaler."""
    (found,) = [document for document in read(name) if document["kind"] in ("RayCluster", "RayJob")]
    spec = found["spec"] if found["kind"] == "RayCluster" else found["spec"]["rayClusterSpec"]
    return {"metadata": found["metadata"], "spec": spec}


def prepared(name: str) -> dict[str, Any]:
    """What Ray's autoscaler works with."""
    if name in MANIFESTS:
        return _derive_autoscaling_config_from_ray_cr(ray_cluster(name))
    return prepare_config(read(name)[0])


def groups(name: str) -> list[dict[str, Any]]:
    spec = ray_cluster(name)["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def container(group: Mapping[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]["containers"][0]


def launched_for(config: Mapping[str, Any], bundles: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """The nodes that the autoscaler would start for these bundles while only the head is there."""

    def score(*arguments: Any) -> Any:
        return _default_utilization_scorer(*arguments, node_availability_summary=NodeAvailabilitySummary({}))

    head, wanted = config["head_node_type"], [dict[str, Any](bundle) for bundle in bundles]
    nodes, left = get_nodes_for(
        config["available_node_types"], {head: 1}, head, config["max_workers"], wanted, utilization_scorer=score
    )
    assert not left, f"no node for {left}"
    return dict(nodes)


def ray_starts(command: str) -> Iterator[list[str]]:
    """The arguments of every ``ray start`` in a line for the shell."""
    for arguments in re.findall(r"\bray start ([^;&|]*)", re.sub(r"\$\(.*?\)", "x", command)):
        yield shlex.split(arguments, comments=True)


@pytest.mark.parametrize("name", LAUNCHED)
def test_follow_rays_schema(name: str) -> None:
    validate_config(prepared(name))


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_misspelt_option_is_refused(name: str) -> None:
    config = read(name)[0]
    config["idle_timeout_minute"] = 5
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ("aws", "gcp"))
def test_a_misspelt_option_of_a_node_type_is_refused(name: str) -> None:
    config = read(name)[0]
    config["available_node_types"]["gpu_stages"]["max_worker"] = 5
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_local_machines_are_named() -> None:
    config = read("local")[0]
    del config["provider"]["worker_ips"]
    with pytest.raises(click.ClickException, match="worker_ips"):
        prepare_config(config)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_group_without_its_least_size_is_refused(name: str) -> None:
    manifest = copy.deepcopy(ray_cluster(name))
    group = manifest["spec"]["workerGroupSpecs"][0]
    group["minReplica"] = group.pop("minReplicas")
    with pytest.raises(KeyError, match="minReplicas"):
        _derive_autoscaling_config_from_ray_cr(manifest)


@pytest.mark.parametrize("name", SCALED)
def test_the_head_takes_no_trials(name: str) -> None:
    config = prepared(name)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


def test_the_head_of_local_machines_takes_no_trials() -> None:
    (arguments,) = [found for line in prepared("local")["head_start_ray_commands"] for found in ray_starts(line)]
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(arguments)


@pytest.mark.parametrize("name", SCALED)
def test_all_but_the_head_come_and_go(name: str) -> None:
    config = prepared(name)
    assert 0 < config["idle_timeout_minutes"] <= 15
    for node_type in config["available_node_types"].values():
        assert node_type["min_workers"] == 0


@pytest.mark.parametrize("name", SCALED)
def test_a_pipelines_devices_come_together_on_few_nodes(name: str) -> None:
    readers, stages = list(prepared(name)["available_node_types"])[1:]
    driver = {"CPU": 1}
    assert launched_for(prepared(name), [driver, *[STAGE] * 4]) == {stages: 1}
    assert launched_for(prepared(name), [driver, *[STAGE] * 8]) == {stages: 2}
    assert launched_for(prepared(name), [{"CPU": 1}] * 17) == {readers: 2}


@pytest.mark.parametrize("name", SCALED)
def test_nodes_say_what_they_are_for(name: str) -> None:
    roles = [node_type.get("labels", {}) for node_type in prepared(name)["available_node_types"].values()]
    assert roles == [{}, {"isograd.io/role": "reader"}, {"isograd.io/role": "stage"}]


@pytest.mark.parametrize("name", LAUNCHED)
def test_start_commands_are_rays(name: str) -> None:
    config = prepared(name)
    lines = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [(line, found) for line in lines for found in ray_starts(line)]
    assert len(starts) == 2
    for line, arguments in starts:
        start.make_context("start", list(arguments))
        assert "RAY_AUTH_MODE=token" in line
    assert "--dashboard-host=127.0.0.1" in starts[0][1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_ask_for_the_token(name: str) -> None:
    assert ray_cluster(name)["spec"]["authOptions"] == {"mode": "token"}


def test_the_jobs_cluster_is_the_one_that_stays() -> None:
    stays, job = prepared("kuberay_cluster"), prepared("kuberay_job")
    assert stays["available_node_types"] == job["available_node_types"]
    assert [container(group) for group in groups("kuberay_cluster")] == [container(g) for g in groups("kuberay_job")]


def test_the_policy_covers_every_pod() -> None:
    policy = read("kuberay_cluster")[1]["spec"]
    covered = policy["podSelector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    for group in groups("kuberay_cluster"):
        assert covered.items() <= group["template"]["metadata"]["labels"].items()


def test_one_version_of_ray_everywhere() -> None:
    (version,) = re.findall(r"^ARG RAY_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert [ray_cluster(name)["spec"]["rayVersion"] for name in MANIFESTS] == [version] * 2
    assert re.findall(r"ray\[[\w,]+\]==([\w.]+)", (CLUSTER / "local.yaml").read_text()) == [version]
    (wanted,) = [text for text in PROJECT["dependencies"] if text.startswith("ray[")]
    extras, _, range_ = wanted.removeprefix("ray").partition("]")
    assert version in SpecifierSet(range_) and f'"ray{extras}]==${{RAY_VERSION}}"' in DOCKERFILE


def test_one_image_everywhere() -> None:
    image = f"isograd:{PROJECT['version']}"
    assert {container(group)["image"] for name in MANIFESTS for group in groups(name)} == {image}
    assert [read(name)[0]["docker"]["image"] for name in ("aws", "gcp")] == [image] * 2
    assert f"docker build -f cluster/Dockerfile -t {image} ." in DOCKERFILE


def test_the_image_has_a_python_and_files_that_exist() -> None:
    (version,) = re.findall(r"^FROM python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert version in SpecifierSet(PROJECT["requires-python"])
    sources = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert {"platform", "methods", "examples", "pyproject.toml"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= set(sources)


def test_runs_are_written_where_they_are_kept() -> None:
    (workdir,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    for name in MANIFESTS:
        for group in groups(name):
            assert [mount["mountPath"] for mount in container(group)["volumeMounts"]] == [f"{workdir}/runs"]


def test_the_job_runs_an_example() -> None:
    (job,) = read("kuberay_job")
    python, script, *options = job["spec"]["entrypoint"].split()
    (workdir,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    assert python == "python" and (ROOT / script).is_file() and options == [f"tune.folder={workdir}/runs"]


def test_the_runtime_environment_is_rays_and_names_folders_of_packages() -> None:
    environment = read("runtime_env")[0]
    RuntimeEnv(**environment)
    roots = environment["env_vars"]["PYTHONPATH"].split(":")
    assert any((ROOT / root / "isograd" / "methods").is_dir() for root in roots)


def test_commands_in_the_readme_are_rays() -> None:
    lines = "\n".join(re.findall(r"^    (.+)$", README, re.MULTILINE)).replace("\\\n", " ")
    starts = [arguments for line in lines.splitlines() for arguments in ray_starts(line)]
    submits = re.findall(r"ray job submit (.+)$", lines, re.MULTILINE)
    assert starts and submits
    for arguments in starts:
        start.make_context("start", list(arguments))
    for arguments in submits:
        submit.make_context("submit", shlex.split(arguments, comments=True))


def test_names_of_the_folder_are_in_the_readme() -> None:
    for path in CLUSTER.iterdir():
        assert path == CLUSTER / "README.md" or path.name in README

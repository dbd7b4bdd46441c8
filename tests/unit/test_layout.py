"""The top level is fixed, and `platform/` must never become a package."""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import isograd

ROOT = Path(__file__).parents[2]


def test_platform_is_a_source_root_and_not_a_package() -> None:
    """A package of that name would shadow the standard library's module, and `import uuid` would fail."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    command = "import platform, uuid; assert platform.system()"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", ["methods", "search_spaces"])
def test_folders_at_the_top_are_parts_of_the_package(name: str) -> None:
    """By relative links, so that a checkout may lie anywhere, and what is installed has one name."""
    link = ROOT / "platform" / "isograd" / name
    assert link.is_symlink() and os.readlink(link) == f"../../{name}" and (ROOT / name).is_dir()


def test_what_is_built_has_files_in_the_place_of_links(tmp_path: Path) -> None:
    """A wheel of the files that are versioned or new, as they are now."""
    pytest.importorskip("setuptools", minversion="77")  # what pyproject.toml builds with
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("no checkout")
    for name in filter(os.path.lexists, listed.stdout.splitlines()):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / "source" / name, follow_symlinks=False)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert not any(stat.S_ISLNK(info.external_attr >> 16) for info in archive.infolist())
    for folder, pattern in (("methods", "*.py"), ("search_spaces", "*.yaml")):
        assert {f"isograd/{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob(pattern)} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"isograd"}


def test_importing_the_platform_and_training_sequentially_need_no_ray() -> None:
    command = (
        "import sys; sys.modules['ray'] = None\n"
        "import isograd.run.experiment, isograd.cli.main, isograd.executors.sequential, isograd.tune.choice\n"
        "from isograd.config.load import load\n"
        "from isograd.engine.blueprint import Blueprint\n"
        "from isograd.executors.executor import make_executor\n"
        "make_executor(Blueprint(load(['executor=sequential'])))\n"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_schedules_need_neither_ray_nor_torch() -> None:
    command = (
        "import importlib, pkgutil, sys; sys.modules['ray'] = sys.modules['torch'] = None\n"
        "import isograd.schedules\n"
        "names = [module.name for module in pkgutil.iter_modules(isograd.schedules.__path__)]\n"
        "assert [importlib.import_module(f'isograd.schedules.{name}') for name in names]\n"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_every_package_can_be_found() -> None:
    roots = (Path(isograd.__file__).parent, ROOT / "methods")
    folders = {path.parent for root in roots for path in root.rglob("*.py")}
    assert ROOT / "methods" / "repl" in folders and all((folder / "__init__.py").exists() for folder in folders)

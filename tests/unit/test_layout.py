"""The top level is fixed, and `platform/` must never become a package."""

import subprocess
import sys
from pathlib import Path

import isograd

ROOT = Path(__file__).parents[2]


def test_platform_is_a_source_root_and_not_a_package() -> None:
    """A package of that name would shadow the standard library's module, and `import uuid` would fail."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    command = "import platform, uuid; assert platform.system()"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


def test_importing_the_platform_and_training_sequentially_need_no_ray() -> None:
    command = (
        "import sys; sys.modules['ray'] = None\n"
        "import isograd.run.experiment, isograd.cli, isograd.executor.sequential, isograd.tune.rerun\n"
        "from isograd.config.load import load\n"
        "from isograd.executor.blueprint import Blueprint\n"
        "from isograd.executor.executor import make_executor\n"
        "make_executor(Blueprint(load(['executor=sequential'])))\n"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_every_package_can_be_found() -> None:
    package = Path(isograd.__file__).parent
    assert all((folder / "__init__.py").exists() for folder in {path.parent for path in package.rglob("*.py")})

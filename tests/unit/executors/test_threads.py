"""Threads of a process, and the CPUs that it has for them."""

import logging
import os

import pytest

from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.executors.executor import make_executor


def test_more_threads_than_cpus_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    num_cpus = len(os.sched_getaffinity(0))
    for threads in (num_cpus, num_cpus + 1):
        with caplog.at_level(logging.WARNING):
            make_executor(Blueprint(load(["executor=sequential", f"executor.threads={threads}"])))
        warned = [record.getMessage() for record in caplog.records]
        assert len(warned) == threads - num_cpus
    assert warned[0].startswith(f"executor.threads={num_cpus + 1} is more than the {num_cpus} CPUs here")

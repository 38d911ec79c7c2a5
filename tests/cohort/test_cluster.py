"""A cohort on a Dask cluster that is there already: a worker dies, and its case goes to another."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client

from tests.cohort.test_cohort import COHORT, table_of, write_cohort
from tests.commandline import SEGXAI, segxai

DASK = (sys.executable, "-m", "dask")
PATIENCE = 120  # seconds


def wait_for(what, condition):
    """The first true value of a condition."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture
def cluster(folder, toys):
    """A scheduler's address and two workers by name, each a process started by hand."""
    address_file = folder / "scheduler.json"
    scheduler = (*DASK, "scheduler", "--port", "0", "--no-dashboard", "--no-show")
    worker = (*DASK, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    found = ("--scheduler-file", str(address_file))
    with ExitStack() as stack:

        def started(*command):
            log = stack.enter_context(open(folder / f"{command[-1]}.log", "w"))
            slow = os.environ | {"TOY_SECONDS": "0.02"}
            process = stack.enter_context(
                subprocess.Popen(command, stdout=log, stderr=log, env=slow)
            )
            stack.callback(process.kill)
            return process

        started(*scheduler, *found)
        wait_for("the scheduler", address_file.is_file)
        workers = {name: started(*worker, *found, "--name", name) for name in ("one", "two")}
        client = stack.enter_context(Client(scheduler_file=str(address_file)))
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client, workers


def kill_one_at_work(client, workers, out):
    """Kill a worker in the middle of a case, when a second result has been begun."""
    wait_for("a second result", lambda: len(list(out.glob("*.h5"))) == 2)
    names = {at: one["name"] for at, one in client.scheduler_info(n_workers=-1)["workers"].items()}
    at_work = wait_for("both at work", lambda: _both(client.processing()))
    workers[names[at_work]].kill()


def _both(processing):
    return len(processing) == 2 and all(processing.values()) and min(processing)


def test_the_case_of_a_killed_worker_goes_to_another(cluster):
    write_cohort(bad=False)
    assert segxai(*COHORT, "--out", "serial").status == 0
    client, workers = cluster
    command = [*SEGXAI, *COHORT, "--out", "d", "--scheduler", client.scheduler.address]
    with subprocess.Popen(command) as run:
        kill_one_at_work(client, workers, Path("d"))
        assert run.wait(PATIENCE) == 0
    assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1
    assert pd.read_csv("d/cases.csv")["status"].tolist() == ["done"] * 3 + ["empty", "done"]
    pd.testing.assert_frame_equal(table_of("d"), table_of("serial"), rtol=1e-5)

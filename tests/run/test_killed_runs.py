"""A run that dies, at whatever moment, goes on with the same command and the same values."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from segxai.run import resume
from segxai.store import hdf5
from segxai.store.writer import MapWriter, journal_of
from tests.commandline import (
    SEGXAI,
    assert_same,
    make_result,
    maps_of,
    process,
    remove_maps,
    segxai,
    snapshot,
)
from tests.forks import FORKS

DEFAULT = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--samples", "2")
COMMAND = (*DEFAULT, "--aggregator", "mean")  # the same with little to compute
RUN = "smoothgrad-mean"


pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What the command writes when nothing disturbs it."""
    return make_result(tmp_path_factory.mktemp("unbroken"), (*COMMAND, "--out", "r.h5"))


def child(folder, arguments, seconds, seconds_between, connection):
    """A command in another process, which reports how it ended if it lives so long."""
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in background jobs
    os.environ["TOY_SECONDS"] = str(seconds)
    resume.SECONDS_BETWEEN, resume.SHARE_FOR_KEEPING = seconds_between, float("inf")
    connection.send(segxai(*arguments))


@pytest.fixture
def start():
    """Starts commands in processes of their own; none outlives the test."""
    running = []

    def begin(*arguments, seconds=0.0, seconds_between=30.0):
        receiver, sender = FORKS.Pipe(duplex=False)
        settings = (Path.cwd(), arguments, seconds, seconds_between, sender)
        started = FORKS.Process(target=child, args=settings)
        started.start()
        sender.close()
        running.append(started)
        return started, receiver

    yield begin
    for one in running:
        one.kill()
        one.join()


def finished(path="r.h5", run=RUN):
    """Labels that would survive a kill now: in the file, or in the journal beside it."""
    path = Path(path)
    if not path.exists():
        return set()
    waiting = {one.label for name, one in journal_of(path).read() if name == run}
    return waiting | hdf5.finished(path, run)  # in this order: maps go from the one to the other


def wait_for(condition, started, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        assert started.is_alive(), "the command ended too early"
        assert time.monotonic() < deadline, "the command is stuck"
        time.sleep(0.002)


def assert_finished_maps_are_final(path, unbroken):
    """Plain h5py reads every finished map, and it is the one of the unbroken run."""
    final = snapshot(unbroken)
    if Path(path).exists():
        for name, values in maps_of(snapshot(path)).items():
            assert (values == final[name]).all(), name


# -------------------------------------------------------------------------------------- kill -9


def test_kill_in_the_middle_of_a_run_and_the_same_command_again(case):
    run = "smoothgrad-signed_max"
    words = [*SEGXAI, *DEFAULT, "--out", "r.h5"]
    deadline = time.monotonic() + 300
    with subprocess.Popen(words, env=os.environ | {"TOY_SECONDS": "0.3"}) as slow:
        try:
            while len(finished(run=run)) < 2:
                assert slow.poll() is None, "the command ended too early"
                assert time.monotonic() < deadline, "the command is stuck"
                time.sleep(0.01)
        finally:
            slow.kill()
    assert slow.returncode == -signal.SIGKILL
    count = len(finished(run=run))
    assert 2 <= count < 4
    assert segxai(*DEFAULT, "--out", "unbroken.h5").status == 0
    assert_finished_maps_are_final("r.h5", "unbroken.h5")
    again = process(*DEFAULT, "--out", "r.h5")
    assert again.status == 0, again.err
    assert f"resuming: r.h5 has {count} of the maps" in again.err
    assert_same(snapshot("r.h5"), snapshot("unbroken.h5"))


def test_kills_after_every_instance(case, unbroken, start):
    for count in range(4):
        started, _ = start(*COMMAND, "--out", "r.h5", seconds=0.05)
        wait_for(lambda count=count: len(finished()) >= count and Path("r.h5").exists(), started)
        started.kill()
        started.join()
        assert_finished_maps_are_final("r.h5", unbroken)
        if len(finished()) == 4:
            break
    assert segxai(*COMMAND, "--out", "r.h5").status == 0
    assert_same(snapshot("r.h5"), snapshot(unbroken))
    assert not list(Path().glob(".*"))


def test_kills_at_any_time(case, unbroken, start):
    for number in range(12):
        started, receiver = start(*COMMAND, "--out", "r.h5")
        receiver.poll(0.15 + 0.11 * number)
        started.kill()
        started.join()
        assert_finished_maps_are_final("r.h5", unbroken)
    assert segxai(*COMMAND, "--out", "r.h5").status == 0
    assert_same(snapshot("r.h5"), snapshot(unbroken))
    assert not list(Path().glob(".*"))


BALLS = [
    f"{x},{y},{z},1" for x in range(2, 18, 2) for y in range(2, 12, 2) for z in range(2, 12, 2)
]  # 200 instances of 7 voxels


def test_kills_at_random_moments_of_a_run_of_many_instances(case, start, tmp_path_factory):
    """SEGXAI_KILLS=50 takes some minutes, for 200 instances in place of 40."""
    words = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--method", "gradient")
    rng, kills = np.random.default_rng(0), int(os.environ.get("SEGXAI_KILLS", "3"))
    balls = ":".join(BALLS if kills > 3 else BALLS[:40])
    words += ("--aggregator", "mean", "--instances", f"sphere:{balls}", "--out", "r.h5")
    whole, run = make_result(tmp_path_factory.mktemp("many"), words), "gradient-mean"
    before, counts = set(), set()
    while kills:
        started, receiver = start(*words, seconds=0.001)
        if receiver.poll(rng.uniform(0.05, 2.0)):
            assert receiver.recv().status == 0
            assert_same(snapshot("r.h5"), snapshot(whole))
            Path("r.h5").unlink()
            before = set()
            continue
        started.kill()
        started.join()
        kills -= 1
        assert finished(run=run) >= before
        before = finished(run=run)
        counts.add(len(before))
        assert_finished_maps_are_final("r.h5", whole)
    assert segxai(*words).status == 0
    assert_same(snapshot("r.h5"), snapshot(whole))
    assert not list(Path().glob(".*"))


def test_what_a_dead_process_left_is_removed(case, unbroken):
    Path(".draft-r.h5").write_bytes(unbroken.read_bytes()[:1000])
    Path(".r.h5.lock").touch()
    assert segxai(*COMMAND, "--out", "r.h5").status == 0
    assert not list(Path().glob(".*"))
    assert_same(snapshot("r.h5"), snapshot(unbroken))


def test_control_c_says_that_the_run_can_go_on(case, unbroken, start):
    started, receiver = start(*COMMAND, "--out", "r.h5", seconds=0.5)
    wait_for(lambda: len(finished()) >= 1, started)
    os.kill(started.pid, signal.SIGINT)
    done = receiver.recv()
    assert done.status == 130
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1] == (
        "segxai: interrupted; what was finished is kept, and the same command continues from there"
    )
    assert_finished_maps_are_final("r.h5", unbroken)
    assert not list(Path().glob(".*"))


def test_two_commands_on_one_file_at_once(case, unbroken, start):
    started, _ = start(*COMMAND, "--out", "r.h5", seconds=1)
    wait_for(Path(".r.h5.lock").exists, started)
    second = segxai(*COMMAND, "--out", "r.h5")
    assert "another process is writing r.h5" in second.error
    started.kill()
    started.join()
    assert segxai(*COMMAND, "--out", "r.h5").status == 0
    assert_same(snapshot("r.h5"), snapshot(unbroken))


# ---------------------------------------------------------------------- inside of an instance

SMOOTH = "smoothgrad-signed_max"
INSIDE = (*DEFAULT[:-1], "6", "--batch", "4", "--out", "r.h5")  # 6 copies, many batches
STATE = Path(".r.h5.unfinished")


def kept():
    """How many copies and how many rows of the next one are kept of the instance in work."""
    try:
        with safe_open(STATE, framework="np") as file:
            names = file.keys()
            rows = file.get_tensor("inside.rows") if "inside.rows" in names else 0
            return int(file.get_tensor("copies")), int(rows)
    except OSError:
        return 0, 0


def owner():
    try:
        with safe_open(STATE, framework="np") as file:
            return file.metadata()["owner"]
    except OSError:
        return None


@pytest.fixture
def killed(case, start):
    """Kills a command inside of its second instance, when so many copies and rows are kept."""

    def kill(*more, copies=2, rows=1, seconds=0.05):
        started, _ = start(*INSIDE, *more, seconds=seconds, seconds_between=0.0)
        first = set()  # whose the states of the first instance are

        def far_enough():
            if not finished(run=SMOOTH):
                first.add(owner())
                return False
            return owner() not in first and kept() >= (copies, rows)

        wait_for(far_enough, started)
        started.kill()
        started.join()
        assert started.exitcode == -signal.SIGKILL
        assert len(finished(run=SMOOTH)) == 1
        return kept()

    return kill


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the command of this part writes when nothing disturbs it."""
    return make_result(tmp_path_factory.mktemp("whole"), INSIDE)


def test_kill_inside_of_an_instance_and_the_same_command_again(killed, whole):
    copies, _ = killed()
    assert copies >= 2
    again = process(*INSIDE)
    assert again.status == 0, again.err
    assert "resuming: r.h5 has 1 of the maps" in again.err
    share = int(again.err.split("resuming inside instance 2: ")[1].split("%")[0])
    assert 100 * copies // 6 <= share < 100
    assert_same(snapshot("r.h5"), snapshot(whole))
    assert not list(Path().glob(".*"))


def test_kills_inside_of_instances_again_and_again(case, start, whole):
    """Whatever is kept at whatever moment, copies and rows, leads to the same bits."""
    seen = set()
    for number in range(8):
        started, _ = start(*INSIDE, seconds=0.005, seconds_between=0.0)
        before = kept()
        wait_for(lambda before=before: kept() != before, started)
        time.sleep(0.013 * (number % 7))
        started.kill()
        started.join()
        seen.add(kept())
        if len(finished(run=SMOOTH)) >= 2:
            break
    assert any(rows > 0 for _, rows in seen)  # inside of a copy, too
    assert segxai(*INSIDE).status == 0
    assert_same(snapshot("r.h5"), snapshot(whole))
    assert not list(Path().glob(".*"))


def test_a_second_writer_cannot_get_at_the_state(case, start):
    started, _ = start(*INSIDE, seconds=0.2, seconds_between=0.0)
    wait_for(lambda: kept() > (0, 0), started)
    assert "another process is writing r.h5" in segxai(*INSIDE).error
    assert "another process is writing r.h5" in segxai(*INSIDE, "--overwrite").error
    assert kept() > (0, 0)


@pytest.mark.parametrize("option", [("--batch", "3"), ("--engine", "dense")])
def test_another_way_to_compute_starts_the_instance_again(killed, whole, option):
    killed()
    done = segxai(*INSIDE, *option)
    assert done.status == 0, done.err
    assert "resuming: r.h5 has 1 of the maps" in done.err
    assert "inside" not in done.err
    assert set(maps_of(snapshot("r.h5"))) == set(maps_of(snapshot(whole)))


def test_the_state_of_a_stored_instance_is_removed(case, start, whole):
    """The process died when the map was stored, and the state not yet removed."""
    assert segxai(*INSIDE, "--instances", "2,3").status == 0
    remove_maps("r.h5", SMOOTH, 3)
    task_owner = []
    with pytest.MonkeyPatch.context() as patch:
        real = resume.owner_of

        def spy(path, run, provenance, instance, engine):
            task_owner.append((instance.label, real(path, run, provenance, instance, engine)))
            return task_owner[-1][1]

        patch.setattr("segxai.run.attribute.owner_of", spy)
        patch.setattr(MapWriter, "add", lambda *_: None)
        segxai(*INSIDE, "--instances", "2,3")
    bookmark = resume.FileBookmark(STATE, dict(task_owner)[2])
    bookmark._next = 0.0
    bookmark.keep(lambda: {"copies": torch.tensor(6)})
    assert STATE.exists()
    assert segxai(*INSIDE, "--instances", "2,3").status == 0
    assert not STATE.exists()


def test_overwrite_forgets_the_state(killed, whole):
    killed()
    done = segxai(*INSIDE, "--overwrite")
    assert done.status == 0, done.err
    assert "resuming" not in done.err
    assert_same(snapshot("r.h5"), snapshot(whole))
    assert not list(Path().glob(".*"))


def test_another_run_neither_uses_the_state_nor_loses_it(killed, whole):
    before = killed()
    other = segxai(*INSIDE, "--seed", "1", "--instances", "2", "--append")
    assert other.status == 0, other.err
    assert "resuming" not in other.err
    assert kept() == before
    assert "resuming inside instance 2" in segxai(*INSIDE).err
    found = snapshot("r.h5")
    wanted = maps_of(snapshot(whole))
    assert_same({name: found[name] for name in wanted}, wanted)
    assert not STATE.exists()


def test_what_is_in_work_comes_first(killed, monkeypatch):
    """Another instance would take the place of its state."""
    killed("--instances", "2,3")
    order = []

    def add(self, run, attribution, instance):
        order.append(attribution.label)

    monkeypatch.setattr(MapWriter, "add", add)
    assert segxai(*INSIDE, "--append").status == 0
    assert order == [3, 1, 4]


def test_progress_goes_on_from_where_it_stopped(killed, monkeypatch):
    killed()
    begun, advanced = [], []
    monkeypatch.setattr(
        "segxai.cli.terminal.TerminalProgress.begin",
        lambda self, what, total, done=0.0: begun.append((what, total, done)),
    )
    monkeypatch.setattr(
        "segxai.cli.terminal.TerminalProgress.advance", lambda self, amount: advanced.append(amount)
    )
    assert segxai(*INSIDE).status == 0
    what, total, done = begun[-1]
    assert what == "explain"
    assert 0 < done < total
    work = sum(advanced[1:])  # the first is that of the segmentation
    assert work == pytest.approx(total - done, rel=1e-6)

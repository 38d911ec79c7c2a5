"""The benchmarks run and count what they say: in tiny sizes, and never with a time asserted."""

import json
import os
import re
import runpy
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import growth
import limit
import patient
import peers
import row_errors
import rows as rows_script
import startup
from segxai.rows.batch import RowBatch
from segxai.segment.inference_mode import frozen
from tests.literal import seeded
from tests.markdown import ROOT
from tests.networks import block, image_of, small_unet
from workbench import engines, lesions, libraries, references
from workbench.clock import in_turns, spread
from workbench.memory import apart, peak_bytes
from workbench.networks import setting
from workbench.published import published_loop, published_rows
from workbench.report import table

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.fixture(scope="module")
def tiny():
    return setting("tiny")


def run(script, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_tells_what_it_measures(script, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(script, monkeypatch, "--help")
    told = capsys.readouterr().out
    assert f"python benchmarks/{script.name}" in told
    assert "--json FILE" in told


def test_every_script_is_on_the_page_of_the_benchmarks():
    page = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()
    assert [one.name for one in SCRIPTS if f"`{one.name}`" not in page] == []


# --- errors of low-rank rows


def test_row_errors_goes_on_where_it_stopped(monkeypatch, tmp_path, capsys):
    script, file = FOLDER / "row_errors.py", tmp_path / "errors.json"
    records = []
    for networks in ("1", "2"):
        run(script, monkeypatch, "--networks", networks, "--json", str(file))
        records.append(json.loads(file.read_text())["figures"])
    (first,), both = records
    assert both[0] == first
    assert both[1]["seed"] > first["seed"]
    shown = capsys.readouterr().out
    share = np.mean([one["true"] <= one["told"] for one in both])
    assert re.search(rf"^all +2 +{share:.1%}", shown, re.MULTILINE)
    with pytest.raises(SystemExit, match="another seed"):
        run(script, monkeypatch, "--first-seed", "7", "--json", str(file))


def test_rows_of_zeros_leave_the_others_as_they_are():
    """Singular vectors without weight had amounts of such rows, which were divided by nearly 0."""
    assert row_errors.compared(225, row_errors.toy_case(225)).true < row_errors.EXACT


def test_a_turned_sign_is_seen_if_it_was_open():
    exact = torch.tensor([[[1.0, 0.50, 0.5, 0.01]], [[0.0, -0.49, -0.3, -0.0]]])
    found = torch.tensor([[[1.0, 0.49, 0.3, -0.01]], [[0.0, -0.50, -0.5, 0.0]]])
    assert row_errors.turned_signs(exact, found, 0.02) == {
        "open_signs": 1,
        "turned": 2,
        "turned_unseen": 1,
        "turned_size": 0.5,
    }


# --- lesions, rows, memory, clocks


def test_a_ball_has_the_nearest_voxels_and_lies_off_the_strides():
    large, small = lesions.ball(32, 93), lesions.ball(32, 33)
    np.testing.assert_array_equal(large[:33], small)
    assert len(np.unique(large, axis=0)) == 93
    assert np.ptp(large, axis=0).max() <= 6
    assert (lesions.ball(96, 1)[0] % 2).any()
    with pytest.raises(SystemExit, match="do not fit"):
        lesions.ball(2, 9)


def test_a_sample_is_a_seeded_choice():
    voxels = lesions.ball(16, 40)
    assert lesions.sample(voxels, 40) is voxels
    chosen = lesions.sample(voxels, 10)
    np.testing.assert_array_equal(chosen, lesions.sample(voxels, 10))
    assert len(np.unique(chosen, axis=0)) == 10
    assert {tuple(one) for one in chosen} <= {tuple(one) for one in voxels}


def test_the_published_loop_is_the_signed_max_of_its_rows(tiny):
    voxels = lesions.ball(24, 6)
    stack = torch.stack(list(published_rows(tiny.network, tiny.image, voxels)))
    found = published_loop(tiny.network, tiny.image, voxels)
    assert torch.equal(found.abs(), stack.abs().amax(dim=0))


def batches_of(stack, *, box=0):
    """Rows in another order and in two batches, with `box` voxels of zeros cut off."""
    order = torch.tensor([2, 0, 3, 1])
    cut = (slice(None), slice(None), *(slice(box, None),) * 3)
    return [RowBatch(part[cut], (box,) * 3) for part in torch.split(stack[order], 3)]


def test_the_largest_error_is_found_in_any_order_of_the_rows():
    stack = image_of((4, 2, 6, 6, 6))[0]
    stack[:, :, 0], stack[:, :, :, 0], stack[..., 0] = 0, 0, 0
    assert engines.largest_error(stack, batches_of(stack, box=1), 4) == 0
    assert engines.largest_error(stack[:2], batches_of(stack), 4) == 0
    wrong = stack.clone()
    wrong[1, 0, 3, 3, 3] += 0.01 * stack.abs().max()
    assert engines.largest_error(wrong, batches_of(stack), 4) == pytest.approx(0.01, rel=0.02)


def test_a_row_that_is_missing_is_an_error():
    stack = image_of((4, 2, 6, 6, 6))[0]
    with pytest.raises(SystemExit, match="3 rows were found for 4 voxels"):
        engines.largest_error(stack, batches_of(stack)[:1], 4)
    twice = [RowBatch(stack[[0, 1, 2, 2]], (0, 0, 0))]
    assert engines.largest_error(stack, twice, 4) > 0.1


def test_the_peak_is_what_the_work_holds():
    def hold():
        return torch.ones(2**24).sum()  # 64 MiB

    found = peak_bytes(hold)
    if sys.platform == "linux":
        assert 60 <= found / 2**20 < 90
    else:
        assert found >= 0


def test_a_measurement_has_a_process_of_its_own():
    assert apart(os.getpid) != os.getpid()


def test_ways_take_turns():
    seen = []
    times = in_turns({"a": partial(seen.append, "a"), "b": partial(seen.append, "b")}, 3)
    assert "".join(seen) == "abbaab"
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert spread([3.0, 1.0, 2.0]) == {"seconds": 2.0, "fastest": 1.0, "slowest": 3.0}


def test_a_table_is_aligned(capsys):
    table("title", ["way", "s"], [["loop", "1.5"], ["windowed", "12.25"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "title"
    assert {len(line) for line in lines[2:6]} == {len("windowed  12.25")}


# --- rows


def test_rows_writes_what_it_measured(monkeypatch, tmp_path, capsys):
    words = ["--networks", "tiny", "--voxels", "5", "--timed-rows", "3", "--rounds", "1"]
    out = tmp_path / "rows.json"
    run(FOLDER / "rows.py", monkeypatch, *words, "--no-memory", "--json", str(out))
    record = json.loads(out.read_text())
    assert record["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert record["options"]["voxels"] == "[5]"
    found = {one["way"]: one for one in record["figures"]}
    assert {way: one["timed_rows"] for way, one in found.items()} == {
        "loop": 3,
        "dense": 3,
        "windowed": 5,
    }
    assert max(one["error"] for one in found.values()) <= 1e-5
    told = capsys.readouterr().out
    assert "~" in told
    (ratio,) = found["windowed"]["faster_than_the_loop"]
    assert ratio == pytest.approx(found["loop"]["seconds"] / found["windowed"]["seconds"])
    assert f"{ratio:.1f}x to {ratio:.1f}x" in told


def test_ways_are_compared_within_a_round():
    assert rows_script.quotients([6.0, 8.0], [2.0, 4.0]) == [3.0, 2.0]


def test_rows_that_are_wrong_are_not_timed(monkeypatch):
    right = engines.batches

    def wrong(*arguments, **options):
        for batch in right(*arguments, **options):
            yield RowBatch(batch.values * 1.001, batch.start)

    monkeypatch.setattr(engines, "batches", wrong)
    monkeypatch.setattr(sys, "argv", ["rows.py", "--networks", "tiny", "--voxels", "4"])
    with pytest.raises(SystemExit, match=r"dense rows differ from the loop's by 1\.0e-03"):
        rows_script.main()


def test_what_does_not_depend_on_the_rows_is_not_multiplied():
    assert rows_script.whole_lesion(3.0, 1.0, timed_rows=4, rows=4) == 3.0
    assert rows_script.whole_lesion(3.0, 1.0, timed_rows=4, rows=40) == 21.0


# --- growth


def points(law, peak=lambda size: 100):
    return [growth.Point(n, law(n), law(n), law(n), peak(n)) for n in (33, 93, 500, 2000)]


def test_the_exponent_of_a_power_law_is_found():
    law = growth.fitted(points(lambda n: 0.5 * n**2, peak=lambda n: 8))
    assert law.time_exponent == pytest.approx(2)
    assert law.memory_exponent == pytest.approx(0)
    law = growth.fitted(points(lambda n: 3 + 0.25 * n))
    assert (law.fixed_seconds, law.seconds_each) == pytest.approx((3, 0.25))
    assert growth.fitted(points(float)[:1]) is None


def test_memory_that_grows_is_a_failure(capsys):
    growth.judge(points(float, peak=lambda n: 100 + n // 200))
    assert "1.10 times" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="memory is not flat"):
        growth.judge(points(float, peak=lambda n: n))


@pytest.mark.parametrize("axis", growth.WORK)
def test_the_work_of_every_axis_runs(axis, tiny):
    growth.WORK[axis](tiny, 2, "windowed")()


# --- limit


def test_operations_are_those_of_the_closed_form():
    one, other = torch.ones(4, 5), torch.ones(5, 6)
    assert limit.operations(lambda: one @ other) == 2 * 4 * 5 * 6
    image, weight = torch.ones(1, 2, 8, 8, 8), torch.ones(3, 2, 3, 3, 3)
    convolve = partial(nn.functional.conv3d, image, weight, padding=1)
    assert limit.operations(convolve) == 2 * (2 * 3 * 27) * 8**3


def test_operations_inside_of_the_windows_are_counted(tiny):
    voxels = lesions.ball(24, 4)
    dense, windowed = (
        limit.operations(
            partial(engines.signed_max, tiny, voxels, engines.chosen(tiny, voxels, engine))
        )
        for engine in ("dense", "windowed")
    )
    forward = limit.operations(partial(tiny.network, tiny.image))
    assert forward < windowed < dense
    assert dense - forward == pytest.approx(len(voxels) * forward, rel=0.05)


def test_shares_of_the_peak_have_a_range(capsys):
    dense = limit.Figure("unet", 4, "dense", 12e9, [0.2, 0.3], 120e9)
    windowed = limit.Figure("unet", 4, "windowed", 3e9, [0.1, 0.05], 120e9)
    assert dense.shares == pytest.approx([1 / 2, 1 / 3])
    limit.show([dense, windowed])
    assert "200.00 to 300.00   33% to 50%" in capsys.readouterr().out
    assert limit.in_words(dense, windowed).endswith(
        "4.0 times fewer operations and are 2.0 to 6.0 times faster"
    )


# --- patient


def test_a_patient_who_is_not_there_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["patient.py", "--data", str(tmp_path)])
    patient.main()
    assert "nothing is measured" in capsys.readouterr().out


def test_lesions_are_spaced_by_size_and_stand_for_those_near_to_them():
    instances = [block((20, 20), (0, 0), (n, 1), label=n) for n in (9, 2, 5, 3, 8)]
    assert [one.label for one in patient.spaced(instances, 3)] == [2, 5, 9]
    timed = [
        patient.Figure(1, voxels, 1, voxels, 4, 4, ours_fixed, 1.0, 0.0, 10.0)
        for voxels, ours_fixed in ((2, 0.5), (9, 1.5))
    ]
    total = patient.totals(timed, [2, 3, 9])
    assert total["ours_seconds_a_copy"] == (0.5 + 2) + (0.5 + 3) + (1.5 + 9)
    assert total["loop_seconds_of_all_copies"] == 50 * 10 * 14


def test_both_ways_of_a_patient_make_the_same_map():
    from segxai import Predictor, sliding_window

    network, shape = small_unet(), (20, 24, 20)
    predictor = Predictor(network, sliding_window(shape, (16, 16, 16)))
    image, voxels = image_of((2, *shape)), block(shape, (8, 9, 7), (2, 2, 1)).voxels
    local, box = predictor.crop_to(voxels)
    assert len(local.layout.windows) > 1
    with frozen(network):
        patient.compare(local, image[box.index], box.local(voxels))


# --- peers


@pytest.fixture
def scene():  # anew for each test: MONAI leaves a network in training mode
    shape = (16, 16, 16)
    network, image = seeded(small_unet()), image_of((2, *shape))
    pair = block(shape, (4, 5, 6), (2, 2, 2)), block(shape, (9, 8, 9), (3, 2, 1), label=2)
    layer = "model.1.submodule.2.conv"
    return network, references.Scene(image.numpy(), pair, copies=3, layer=layer)


@pytest.mark.parametrize("kind", peers.KINDS)
@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_ours_is_exact_and_the_others_run(scene, kind):
    network, where = scene
    reference, calls = peers.KINDS[kind]
    exact = reference(network, where, where.lesions[0])
    for name, call in calls.items():
        try:
            found = call(network, where, where.lesions[0]).detach()
        except ImportError:
            continue
        correlation, factor, _ = peers.compared(found, exact)
        if name.startswith("segxai") and kind != "SmoothGrad":  # another draw of the noise
            assert (correlation, factor) == pytest.approx((1, 1), abs=1e-5)


def test_what_survives_is_measured():
    exact = image_of((2, 4, 4, 4))
    assert peers.compared(3 * exact, exact) == pytest.approx((1, 3, 1))
    correlation, factor, sign = peers.compared(exact.abs(), exact)
    assert correlation < 0.5
    assert factor < 0.5
    assert 0.2 < sign < 0.8
    with pytest.raises(SystemExit, match="a map of shape"):
        peers.compared(exact[:, :1], exact)


def test_a_figure_says_whether_the_lesion_matters():
    exact = [image_of((2, 4, 4, 4), seed=seed) for seed in (1, 2)]
    cost = {"seconds": 1.0, "fastest": 1.0, "slowest": 1.0, "peak_bytes": 1}
    same = peers.judged("k", "n", {**cost, "maps": [exact[0].numpy()] * 2}, exact)
    assert same.instance == 0
    own = peers.judged("k", "n", {**cost, "maps": [one.numpy() for one in exact]}, exact)
    assert own.instance > 0.5
    assert own.factors == pytest.approx((1, 1))
    assert own.negative


def test_a_call_is_measured(scene, monkeypatch):
    network, where = scene
    monkeypatch.setattr(peers, "ADAPTER", SimpleNamespace(load_network=lambda: network))
    found = peers.attempt("mean gradient", "segxai InstanceGradient", where, 1)
    figure = peers.judged(
        "mean gradient",
        "segxai InstanceGradient",
        found,
        [references.exact_gradient(network, where, one) for one in where.lesions],
    )
    assert figure.factors == pytest.approx((1, 1))
    assert len(figure.line) == 10  # as in the head of the table


def test_a_command_that_is_started_is_run():
    assert startup.run(["-c", "import sys; sys.exit(3)"]) == 3
    assert libraries.NOISE == references.NOISE

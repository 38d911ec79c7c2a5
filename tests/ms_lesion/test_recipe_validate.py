"""What a lesion network is validated on, with which weights, and what is told of it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from segxai_ms_lesion import network
from segxai_ms_lesion.recipe import evaluate, train, validate
from segxai_ms_lesion.recipe.bank import case_path, store
from segxai_ms_lesion.recipe.evaluate import embedded
from segxai_ms_lesion.recipe.findings import Findings, find
from segxai_ms_lesion.recipe.scores import lesions
from segxai_ms_lesion.recipe.train import save_weights
from segxai_ms_lesion.recipe.validate import score_table, threshold_table
from segxai_ms_lesion.recipe.validation import Choice
from segxai_nnunet.recipe import train as nnunet
from segxai_swin_unetr.network import load_swin_unetr, swin_unetr

from segxai.plugins.registry import load_adapter
from tests.ms_lesion.heldout import SHAPE, block, held_out
from tests.networks import untrained

CASE = Path(network.__file__).parent / "case"
BRAIN = np.s_[4:36, 6:30, 4:36]  # its sizes are multiples of the U-Net's stride: nothing is padded


def findings(*pairs: tuple) -> Findings:
    """Of one group: each case with the mask where the network is sure, and how sure."""
    cases = [case for case, _, _ in pairs]
    return Findings(
        {"one": cases},
        {"one": [(mask * probability).astype(np.float32) for _, mask, probability in pairs]},
    )


def cells(table: str, name: str) -> dict[str, str]:
    """The cells of a row, by their headings."""
    lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    headings = next(line for line in lines if len(line) > 1)
    row = next(line for line in lines if len(line) > 1 and line[1] == name)
    return dict(zip(headings[2:-1], row[2:-1], strict=True))


# --- the tables


def test_lesions_are_counted_on_their_own_side_over_all_cases() -> None:
    large = np.s_[10:20, 10:14, 10:14]
    split = held_out(large, np.s_[28:31, 10:14, 10:14])
    inside_the_first = block(*np.s_[10:12, 10:14, 10:14]) | block(*np.s_[17:20, 10:14, 10:14])
    other = held_out()
    found = findings(
        (split, inside_the_first | block(*np.s_[24:26, 24:28, 24:28]), 0.9),
        (other, other.lesions > 0, 0.9),
    )
    row = cells(score_table(found, 0.5), "one")
    assert row["cases"] == "2"
    assert row["lesions, ml"] == "0.3"
    assert row["TPR of reference"] == "67% (2 of 3)"
    assert row["FDR of predicted"] == "25% (1 of 4)"
    hits, drawn, predicted = 5 * 16, 13 * 16, 5 * 16 + 2 * 16
    assert row["Dice"] == f"{(2 * hits / (drawn + predicted) + 1) / 2:.2f}"
    assert row["expected / true volume"] == f"{0.9 * (predicted + 64) / (drawn + 64):.2f}"


def test_a_side_without_lesions_has_no_rate() -> None:
    case = held_out()
    row = cells(score_table(findings((case, case.lesions < 0, 1.0)), 0.5), "one")
    assert row["TPR of reference"] == "0% (0 of 1)"
    assert row["FDR of predicted"] == "none"


def test_calibration_is_of_the_voxels_of_the_brain() -> None:
    case = held_out()
    found = findings((case, np.ones(SHAPE), 0.5))
    binned = found.reliability()["one"]
    assert binned.voxels.sum() == 32 * 24 * 32
    assert binned.lesion.sum() == 64
    assert cells(score_table(found, 0.4), "one")["ECE"] == f"{0.5 - 64 / (32 * 24 * 32):.4f}"


def test_the_dice_of_a_threshold_is_that_of_the_voxels_above_it() -> None:
    case = held_out()
    probability = np.where(case.lesions > 0, 0.75, 0) + 0.25 * block(*np.s_[20:24, 20:24, 20:24])
    table = threshold_table(findings((case, probability, 1.0)))
    assert cells(table, "0.2") == {"quality": f"{np.sqrt(2 / 3 * 2 / 3):.3f}", "one": "0.67"}
    assert cells(table, "0.3") == {"quality": "1.000", "one": "1.00"}
    assert cells(table, "0.8")["one"] == "0.00"


def test_the_best_threshold_is_that_of_the_highest_quality() -> None:
    case = held_out()
    probability = np.where(case.lesions > 0, 0.75, 0) + 0.25 * block(*np.s_[20:24, 20:24, 20:24])
    best = findings((case, probability, 1.0)).best()
    assert (best.threshold, best.quality) == (0.3, 1.0)  # the first of several


# --- training


def test_a_short_training_is_validated_through_the_adapters_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case, out = held_out(), tmp_path / "unet.safetensors"
    uneven = case.image * np.random.default_rng(0).uniform(1, 2, case.image.shape)
    store(replace(case, image=uneven.astype(np.float16)), case_path(tmp_path, 0))
    monkeypatch.setattr(train, "FIRST_CASES", 1)
    monkeypatch.setattr(train, "PATCH_VOXELS", 32)
    monkeypatch.setattr(train, "held_out_cases", lambda data, normalise: {"one": [case]})
    words = ["train", "--data", str(tmp_path), "--bank", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*words, "--minutes", "0.005", "--threads", "2"])
    train.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["steps"] >= 1
    adapter = embedded("ms_lesion", network.load_unet, out)
    best = find(adapter, train.InBfloat16(adapter.load_network()), {"one": [case]}).best()
    assert (best.threshold, list(best.groups["one"])) == (told["threshold"], told["groups"]["one"])
    assert adapter.criteria.threshold == told["threshold"]


def test_validation_computes_as_training_does() -> None:
    model, image = network.load_unet(), torch.from_numpy(held_out().image[:, *BRAIN]).float()[None]
    with torch.no_grad():
        found, exact = train.InBfloat16(model)(image), model(image)
    assert found.dtype == torch.float32
    assert 0 < float((found - exact).abs().max()) < 0.1 * float(exact.abs().max())


# --- the network's windows and weights


def test_probabilities_are_those_of_the_network_on_the_box_of_the_brain() -> None:
    case = held_out()
    adapter = load_adapter("ms_lesion")
    found = find(adapter, adapter.load_network(), {"one": [case]}).probabilities["one"][0]
    with torch.no_grad():
        logits = adapter.load_network()(torch.from_numpy(case.image[:, *BRAIN]).float()[None])
    expected = np.zeros(SHAPE, dtype=np.float32)
    expected[BRAIN] = torch.softmax(logits, dim=1)[0, 1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected[BRAIN].std() > 0


@pytest.mark.parametrize("plugin", ["ms_lesion", "swin_unetr"])
def test_other_weights_bring_their_threshold_and_see_the_embedded_windows(
    plugin: str, tmp_path: Path
) -> None:
    build = {"ms_lesion": network.unet, "swin_unetr": swin_unetr}[plugin]
    load = {"ms_lesion": network.load_unet, "swin_unetr": load_swin_unetr}[plugin]
    path = tmp_path / "next.safetensors"
    save_weights(untrained(build), Choice(0.35, 0.8, {}), path, half=plugin == "swin_unetr")
    adapter, own = embedded(plugin, load, path), load_adapter(plugin)
    assert adapter.criteria.threshold == 0.35
    assert adapter.criteria.min_volume_mm3 == own.criteria.min_volume_mm3
    assert adapter.predict == own.predict
    assert adapter.weights == path
    state = adapter.load_network().state_dict()
    for name, value in load_file(path).items():
        torch.testing.assert_close(state[name], value, check_dtype=False, rtol=0, atol=0)
    assert embedded(plugin, load).weights == own.weights


def test_other_weights_of_nnunet_have_their_threshold_in_the_last_bias(tmp_path: Path) -> None:
    path = tmp_path / "next.pth"
    model = untrained(nnunet.network)
    nnunet.save_checkpoint(model, Choice(0.2, 0.8, {}), path)
    adapter = embedded("nnunet", nnunet.load_checkpoint, path)
    assert adapter.criteria.threshold is None
    assert adapter.weights == path
    wanted, found = (one.state_dict() for one in (model, adapter.load_network()))
    last = {name for name in wanted if not torch.equal(found[name], wanted[name])}
    assert {name.split(".")[-1] for name in last} == {"bias"}
    for name in last:
        raised = torch.tensor([0.0, np.log(0.8 / 0.2)], dtype=torch.float32)
        torch.testing.assert_close(found[name] - wanted[name], raised, rtol=0, atol=1e-6)


# --- the programs


def test_one_command_tells_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawing the held-out cases takes minutes, so that a small one stands for them."""
    monkeypatch.setattr(validate, "held_out_cases", lambda *_: {"one": [held_out()]})
    words = ["validate", "--data", ".", "--diagram", str(tmp_path / "diagram.png")]
    monkeypatch.setattr(sys, "argv", words)
    validate.main()
    told = capsys.readouterr().out
    assert told.startswith("ms_lesion, unet.safetensors, sha256 ")
    assert f"\nthreshold {network.THRESHOLD:g}, quality 0." in told
    assert {"one", "0.02", "0.98"} <= {
        line.split("|")[1].strip() for line in told.splitlines() if "|" in line
    }
    assert (tmp_path / "diagram.png").read_bytes().startswith(b"\x89PNG")


def test_a_patient_is_scored_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded case, of whose three lesions here one alone is said to be one."""
    (tmp_path / "patient99").mkdir()
    for name, file in {"flair": "flair", "mprage": "t1", "reference": "gt"}.items():
        image = nib.load(CASE / f"{name}.nii.gz")
        values = np.asarray(image.dataobj)[40:104, 80:144, 30:78]
        if name == "reference":
            largest = max(lesions(values > 0), key=len)
            values = np.zeros_like(values)
            values[tuple(largest.T)] = 1
        path = tmp_path / "patient99" / f"{file}.nii.gz"
        nib.save(nib.Nifti1Image(values, image.affine), path)
    words = ["evaluate", "--data", str(tmp_path), "--patient", "99"]
    monkeypatch.setattr(sys, "argv", words)
    evaluate.main()
    told = json.loads(capsys.readouterr().out)
    assert (told["plugin"], told["patient"]) == ("ms_lesion", 99)
    assert (told["reference_found"], told["reference_fn"]) == (1, 0)
    assert told["predicted_tp"] == 1
    assert told["predicted_fp"] > 0
    assert told["fdr_of_predicted"] == 1 - 1 / (1 + told["predicted_fp"])
    assert 0 < told["dice"] < 1

"""Low-rank rows: exact where every field is computed, within the tolerance where few are."""

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

import segxai
from segxai.rows import lowrank
from segxai.rows.engines import find_engine, make_engine
from segxai.rows.jacobian import rows
from segxai.rows.lowrank import LowRank
from segxai.rows.window_pass import forward_pass
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.networks import block, image_of
from tests.rows.whole_grid import rows_on_grid

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Normalised(nn.Module):
    """Two normalisations with a residual that is added in place, as in nnU-Net's blocks."""

    def __init__(self, axes, norm):
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.first = convolution(2, 4, 3, padding=1)
        self.second = convolution(4, 4, 3, padding=1)
        self.last = convolution(4, 2, 1)
        self.norms = nn.ModuleList([norm(4), norm(4)])
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x):
        residual = self.first(x)
        out = self.act(self.norms[0](residual))
        out = self.norms[1](self.second(out))
        out += residual
        return self.last(self.act(out))


NORMS = {
    "plain": lambda axes: INSTANCE[axes],
    "affine": lambda axes: lambda channels: INSTANCE[axes](channels, affine=True),
    "group": lambda axes: lambda channels: nn.GroupNorm(2, channels),
}


class Watched:
    """An engine that remembers the voxels of the rows that were asked for last."""

    def __init__(self, engine):
        self.engine, self.batch, self.last = engine, engine.batch, None

    def rows_of(self, one, voxels, weights):
        compute = self.engine.rows_of(one, voxels, weights)

        def watched(members):
            self.last = voxels[members]
            return compute(members)

        return watched

    def facts(self):
        return self.engine.facts()


def all_rows(predictor, image, voxels, engine):
    """Rows on the whole grid in the order of the voxels, whatever order they come in."""
    found, watched = {}, Watched(engine)
    with frozen(predictor.network):
        for batch in rows(predictor, image, voxels, class_index=1, engine=watched):
            for voxel, values in zip(watched.last, batch.values, strict=True):
                full = torch.zeros(image.shape[1:])
                full[batch.box.index] = values
                found[tuple(voxel)] = full
    return torch.stack([found[tuple(voxel)] for voxel in voxels])


def relative_errors(found, wanted):
    return (found - wanted).abs().flatten(1).amax(1) / wanted.abs().flatten(1).amax(1)


def normalised(axes, norm, seed=0):
    network = literal.seeded(Normalised(axes, NORMS[norm](axes)))
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if getattr(module, "affine", False) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 2.0, generator=generator)
    return network


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(40,), (14, 12), (10, 9, 8)])
def test_with_all_fields_rows_are_exact(norm, shape):
    """The identity: D = W + sum of coefficients times fields, of which there are 2 a channel."""
    network = normalised(len(shape), norm)
    predictor, image = Predictor(network, whole_image(shape)), image_of((2, *shape))
    size = {1: (30,), 2: (6, 5), 3: (3, 3, 3)}[len(shape)]
    voxels = block(shape, (3,) * len(shape), size).voxels
    fields = 2 * (4 + 4) if norm != "group" else 2 * (2 + 2)
    assert len(voxels) > fields + lowrank.HELD_OUT  # most rows are explained
    wanted = all_rows(predictor, image, voxels, make_engine("dense"))
    engine = LowRank(tolerance=0, batch=5)
    found = all_rows(predictor, image, voxels, engine)
    assert relative_errors(found, wanted).max() < 1e-5
    assert engine.measured.rank == fields
    assert engine.measured.error < 1e-5


def test_windowed_rows_alone_are_far_from_exact():
    """What makes the test above able to fail."""
    predictor, image = (
        Predictor(normalised(2, "plain"), whole_image((14, 12))),
        image_of((2, 14, 12)),
    )
    voxels = block((14, 12), (3, 3), (6, 5)).voxels
    wanted = all_rows(predictor, image, voxels, make_engine("dense"))
    with frozen(predictor.network):
        one = forward_pass(predictor, image, predictor.layout.windows[0])
        found = lowrank.WindowedRows(one, voxels, torch.tensor([[0.0, 1.0]] * len(voxels)), 7)
    batch = found.rows(np.arange(len(voxels)))
    full = torch.zeros_like(wanted)
    full[batch.box.index] = batch.values
    assert relative_errors(full, wanted).max() > 0.01


@pytest.fixture(scope="module")
def dynunet():
    """MONAI's nnU-Net, small; its predictor, an image, voxels and their dense rows."""
    network = literal.seeded(
        DynUNet(
            3, 2, 2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2],
            filters=[4, 8, 16], norm_name="instance", res_block=True,
        )
    )  # fmt: skip
    shape = (32, 24, 24)
    predictor, image = Predictor(network, whole_image(shape)), image_of((2, *shape))
    voxels = block(shape, (13, 10, 9), (5, 4, 3)).voxels
    return predictor, image, voxels, all_rows(predictor, image, voxels, make_engine("dense"))


@pytest.mark.parametrize("tolerance", [0.1, 0.03])
def test_few_fields_keep_to_the_tolerance(dynunet, tolerance):
    predictor, image, voxels, wanted = dynunet
    engine = LowRank(tolerance=tolerance)
    errors = relative_errors(all_rows(predictor, image, voxels, engine), wanted)
    assert engine.measured.rank < len(voxels) / 2
    assert errors.max() <= engine.measured.error <= tolerance
    assert (errors < 1e-6).sum() >= lowrank.HELD_OUT  # held-out rows are given as they are


@pytest.mark.parametrize("norm", ["affine", "group"])
def test_the_reported_error_covers_every_row(norm):
    """In 95 % of networks: `benchmarks/row_errors.py` measures many more kinds."""
    shape, ratios = (14, 12), []
    image, voxels = image_of((2, *shape)), block(shape, (3, 3), (7, 6)).voxels
    for seed in range(20):
        predictor = Predictor(normalised(2, norm, seed), whole_image(shape))
        wanted = all_rows(predictor, image, voxels, make_engine("dense", 21))
        engine = LowRank(tolerance=0.05)
        errors = relative_errors(all_rows(predictor, image, voxels, engine), wanted)
        if errors.max() > 1e-5:  # with all fields nothing but rounding is left
            ratios.append(float(errors.max()) / engine.measured.error)
    assert len(ratios) >= 5, ratios
    assert sum(ratio <= 1 for ratio in ratios) >= 0.95 * len(ratios)
    assert np.median(ratios) > 0.2  # and does not exaggerate


def test_the_error_is_estimated_from_the_worst_of_the_held_out_rows():
    """Re-derived row by row: its error against what the fields leave out of its coefficients."""
    shape = (14, 12)
    predictor = Predictor(normalised(2, "group"), whole_image(shape))
    voxels = block(shape, (3, 3), (7, 6)).voxels
    with frozen(predictor.network):
        one = forward_pass(predictor, image_of((2, *shape)), predictor.layout.windows[0])
        weights = torch.tensor([[0.0, 1.0]] * len(voxels))
        windowed = lowrank.WindowedRows(one, voxels, weights, 21)
        shared = lowrank.SharedFields(one, windowed)
        shared.grow(tolerance=1e9)  # the first few fields
        basis = shared.amounts[:, : len(shared.fields)].double().numpy()
        coefficients = windowed.left_out.double().numpy()
        missing = np.linalg.norm(coefficients - basis @ (basis.T @ coefficients), axis=1)
        ratios = []
        for member in np.random.default_rng(0).choice(len(voxels), lowrank.HELD_OUT, replace=False):
            dense = one.gradient(voxels[[member]], weights[[member]])
            batch = windowed.rows(np.array([member]))
            found = torch.zeros_like(dense)
            found[batch.box.index] = batch.values[0]
            for amount, field in zip(basis[member], shared.fields, strict=True):
                found += amount * windowed.peaks[member] * field
            error = (found - dense).abs().max() / dense.abs().max()
            least = lowrank.LEAST_LEFT_OUT * missing.max()
            ratios.append(float(error) / max(missing[member], least))
    assert max(ratios) > 1.2 * np.mean(ratios)
    wanted = lowrank.MARGIN * max(ratios) * missing.max()
    assert shared.error == pytest.approx(wanted, rel=1e-3)


def test_rows_that_are_not_kept_are_computed_again(dynunet, monkeypatch):
    predictor, image, voxels, _ = dynunet
    kept = all_rows(predictor, image, voxels, LowRank(tolerance=0.1))
    monkeypatch.setattr(lowrank, "KEPT_BYTES", 0)
    again = all_rows(predictor, image, voxels, LowRank(tolerance=0.1))
    assert relative_errors(again, kept).max() < 1e-5


def test_batches_change_nothing(dynunet):
    predictor, image, voxels, _ = dynunet
    one, many = (all_rows(predictor, image, voxels, LowRank(0.1, batch=n)) for n in (3, 50))
    assert relative_errors(one, many).max() < 1e-4


def test_each_window_has_its_own_fields():
    shape = (20, 18)
    predictor = Predictor(normalised(2, "affine"), sliding_window(shape, (12, 12), 0.5))
    image, voxels = image_of((2, *shape)), block(shape, (7, 6), (5, 5)).voxels
    wanted = all_rows(predictor, image, voxels, make_engine("dense", 25))
    found = all_rows(predictor, image, voxels, LowRank(tolerance=0, batch=25))
    assert relative_errors(found, wanted).max() < 1e-5


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rank_and_error_are_the_largest_of_all_windows(order):
    """Whichever window comes last."""
    shape = (22, 18)
    predictor = Predictor(normalised(2, "affine"), sliding_window(shape, (14, 18), 0.5))
    image, voxels = image_of((2, *shape)), block(shape, (5, 4), (12, 4)).voxels

    def work(engine, windows):
        with frozen(predictor.network):
            for number in windows:
                window = predictor.layout.windows[number]
                inner = voxels[window.contains(voxels)]
                one = forward_pass(predictor, image, window)
                engine.rows_of(one, inner, torch.tensor([[0.0, 1.0]] * len(inner)))
        return engine.measured

    # After the first few fields one window is within this tolerance, and the other is not.
    tolerance = np.mean([work(LowRank(tolerance=1e9), [number]).error for number in order])
    first, second = (work(LowRank(float(tolerance)), [number]) for number in order)
    assert first.rank != second.rank
    assert first.error != second.error
    both = work(LowRank(float(tolerance)), order)
    assert both.error == max(first.error, second.error)
    assert both.rank == max(first.rank, second.rank)


def test_a_handful_of_rows_is_dense(dynunet):
    predictor, image, voxels, _ = dynunet
    few = voxels[: lowrank.STEP + lowrank.HELD_OUT]
    engine = LowRank()
    wanted = all_rows(predictor, image, few, make_engine("dense"))
    assert torch.equal(all_rows(predictor, image, few, engine), wanted)
    assert engine.facts() == {"rank": 0, "row_error": 0.0}


def test_a_network_that_leaves_nothing_out_stays_exact():
    shape = (14, 12)
    network = literal.seeded(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    )
    predictor, image = Predictor(network, whole_image(shape)), image_of((2, *shape))
    voxels = block(shape, (3, 3), (5, 5)).voxels
    wanted = all_rows(predictor, image, voxels, make_engine("windowed"))
    engine = LowRank()
    assert relative_errors(all_rows(predictor, image, voxels, engine), wanted).max() < 1e-6
    assert engine.measured.rank == 0


def test_auto_never_approximates(dynunet):
    predictor, image, voxels, _ = dynunet
    with frozen(predictor.network):
        found = find_engine(predictor, image, voxels)
    assert found.name == "dense"
    assert "batch_norm" in found.reason


def test_the_result_says_how_good_the_approximation_is(dynunet):
    predictor, image, voxels, _ = dynunet
    mask = np.zeros(image.shape[2:], dtype=bool)
    mask[tuple(voxels.T)] = True
    options = {"method": "gradient"}
    exact = segxai.explain(predictor.network, image[0], mask, **options)
    found = segxai.explain(
        predictor.network, image[0], mask, engine="lowrank", row_tolerance=0.03, **options
    )
    assert found.attrs["engine"] == "lowrank"
    assert 0 < found.attrs["rank"] < len(voxels)
    assert 0 < found.attrs["row_error"] <= 0.03
    assert "rank" not in exact.attrs
    assert "open_signs" not in exact.attrs
    peak = float(abs(exact).max())
    assert found.attrs["open_signs"] >= int((found * exact < -((0.03 * peak) ** 2)).sum())
    assert 0 <= found.attrs["open_sign_size"] <= 1
    # Where the largest and the smallest entry nearly tie, the sign is that of the error.
    worst = float(abs(abs(found) - abs(exact)).max() / abs(exact).max())
    assert 0 < worst < 0.06


def test_rows_of_zeros_tell_nothing_of_the_error_of_others():
    """Behind a dead ReLU a row is 0, and exact. With this seed all rows that were drawn are."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.ReLU()]
    layers += [nn.Conv2d(4, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        network[6].weight[:, 1:] = 0
    looking, image = Predictor(network, whole_image((16, 14))), image_of((2, 16, 14), 5)
    voxels, engine = block((16, 14), (4, 3), (6, 6)).voxels, LowRank(0.1)
    with frozen(network):
        wanted, found = (
            rows_on_grid(looking, image, voxels, one) for one in (make_engine("dense"), engine)
        )
    peaks = wanted.abs().flatten(1).amax(dim=1)
    assert (peaks == 0).sum() > 20
    errors = (found - wanted).abs().flatten(1).amax(dim=1)[peaks > 0] / peaks[peaks > 0]
    assert 1e-3 < float(errors.max()) <= engine.facts()["row_error"]

"""Contrasts at the doors: what they compare with, and who does not take them."""

import pytest
import torch

import segxai as public
from segxai import SegxaiError
from segxai.run.contrast import contrast_of
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps, provenance_of_run
from tests import literal
from tests.captum_plugin.subjects import flat
from tests.commandline import segxai

RUN = ("run", "--plugin", "toy_flat", "--method", "input_x_gradient", "--instances", "1")


def ok(*words):
    done = segxai(*words)
    assert done.status == 0, done.err
    return done


def test_contrasts_are_runs_of_their_own_and_are_repeated(toys, folder):
    words = [*RUN, "--out", "r.h5"]
    ok(*words)
    ok(*words, "--contrast", "border", "--append")
    ok(*words, "--contrast", "class:rest", "--append")
    names = ("input_x_gradient", "input_x_gradient-border", "input_x_gradient-class:rest")
    with open_result(folder / "r.h5") as tree:
        found = [maps(tree, name)[1]["map"] for name in names]
        assert provenance_of_run(tree, names[1])["contrast"] == "border"
        whole = [one.reindex(y=range(20), x=range(18), fill_value=0).values for one in found]
    assert literal.worst(whole[0], whole[1]) > 0.1
    assert literal.worst(whole[0], whole[2]) > 1e-3  # the toy hardly scores the rest
    assert "nothing left to do" in ok(*words, "--contrast", "border").err
    assert "0.0e+00" in ok("rerun", "r.h5", "--run", names[1]).out


def test_explain_explains_a_contrast():
    subject = flat()
    mask = subject.instance.mask((20, 14))
    model, image = subject.predictor.network, subject.image[0]
    more = {"method": "input_x_gradient", "window": (8, 8)}
    for text, contrast in (("border", "border"), ("class:0", 0)):
        leaf = subject.image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(subject.score(contrast=contrast)(leaf).sum(), leaf)
        found = public.explain(model, image, mask, contrast=text, **more)
        assert literal.worst(found.values, (gradient * subject.image)[0]) < 1e-5
        assert found.attrs["contrast"] == text
    assert "contrast" not in public.explain(model, image, mask, **more).attrs


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--contrast", "edge"], "--contrast edge: give border, or class:NAME"),
        (["--contrast", "class:bal"], "unknown class 'bal'; known: ball, rest"),
        (["--contrast", "class:ball"], "instance 1 is of class 1 itself: name another with"),
        (
            ["--method", "smoothgrad", "--contrast", "border"],
            "method 'smoothgrad' does not explain one number for each instance: leave out --con",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(toys, folder, words, error):
    assert error in segxai(*RUN, *words, "--out", "r.h5").error


def test_methods_that_do_not_know_of_contrasts_are_not_asked(toys, folder):
    """A stranger's method would explain the mean, and say that it is a contrast."""
    words = ["run", "--plugin", "toy_flat", "--method", "toy_image", "--contrast", "border"]
    assert "does not explain one number" in segxai(*words).error


def test_a_class_is_known_by_its_name_or_where_it_has_none_by_its_number():
    assert contrast_of("class:rest", ("rest", "ball")) == 0
    assert contrast_of("class:2", None) == 2
    assert contrast_of(None, None) is None
    with pytest.raises(SegxaiError, match="classes have no names here; give a number"):
        contrast_of("class:rest", None)
    assert contrast_of("class:0", ("1", "0")) == 1

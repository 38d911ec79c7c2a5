"""The cover: what a result says about itself, without its maps; damaged ones are refused."""

import json
from dataclasses import astuple

import h5py
import pytest

from segxai import SegxaiError, open_result
from segxai.store.cover import read_cover
from segxai.store.schema import provenance_of


def test_a_cover_says_what_the_opened_result_does(path):
    cover = read_cover(path)
    with open_result(path) as tree:
        assert astuple(cover) == (
            provenance_of(tree.to_dataset()),
            tree["input"].attrs["case"],
            3,
            2,
        )


def link_to_another_file(file):
    del file["instances/label"]
    file["instances/label"] = h5py.ExternalLink("other.h5", "/instances/label")


def drop_the_labels(file):
    del file["segmentation/labels"]


def name_a_number(file):
    file.attrs["provenance"] = json.dumps({"case": 7})


DAMAGES = {
    link_to_another_file: "is a link to something else",
    drop_the_labels: "cannot be read",
    name_a_number: "the record of the case has no usable 'case'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cover_is_refused(path, damage):
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(SegxaiError, match=DAMAGES[damage]):
        read_cover(path)

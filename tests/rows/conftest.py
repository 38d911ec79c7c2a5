"""Networks, images and voxels whose rows several test modules look at."""

import pytest

from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.networks import block, image_of, net2d, paper_unet, small_unet

CASES = {
    "paper": (paper_unet, (2, 32, 32, 32), whole_image((32, 32, 32)), (15, 14, 17), (2, 3, 2)),
    "windows": (
        small_unet,
        (2, 40, 36, 14),
        sliding_window((40, 36, 14), (16, 16, 16)),
        (13, 11, 5),
        (3, 3, 2),
    ),
    "2d": (net2d, (3, 24, 20), whole_image((24, 20)), (9, 8), (4, 3)),
    "2d windows": (net2d, (3, 40, 20), sliding_window((40, 20), (16, 16)), (11, 8), (6, 5)),
}


@pytest.fixture(params=CASES, scope="session")
def known_rows(request):
    """A predictor, an image, an instance and its rows, by autograd of each voxel."""
    network, shape, layout, start, size = CASES[request.param]
    predictor = Predictor(network(), layout)
    image, instance = image_of(shape), block(shape[1:], start, size)
    return predictor, image, instance, literal.rows(predictor, image, instance.voxels)


@pytest.fixture(scope="session")
def small():
    """A small network that sees its whole image, the image, and 24 voxels."""
    shape = (24, 24, 24)
    predictor, image = Predictor(small_unet(), whole_image(shape)), image_of((2, *shape))
    return predictor, image, block(shape, (9, 10, 8), (4, 3, 2)).voxels

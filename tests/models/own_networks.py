"""A module of networks, as a user writes it for `--model`."""

MODULE = """
import torch
from torch import nn
from tests.toy.segxai_toy import Strided, Toy

def network():
    return Toy()

def strided():
    return Strided()

def photo():
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 3, padding=1)

def grey():
    torch.manual_seed(0)
    return nn.Conv2d(1, 1, 3, padding=1)

def needs(channels, classes=2):
    return Toy()

def fails():
    raise ValueError("no luck\\nand more lines")

def leaves():
    raise SystemExit(3)

def settings():
    return {"channels": 2}

NUMBER = 3
READY = Toy()

class Family:
    member = Toy
"""

"""The options."""

import dataclasses
from typing import Literal

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the chain rule."""

    sizes: tuple[int, ...] = (2, 4, 3)
    """inputs, hidden widths, outputs; 2 and 3 take the spiral, others 300 random samples"""
    hidden: str = "relu"
    """activation of the hidden layers"""
    output: str = "softmax"
    """activation of the last layer"""
    loss: str = "cross_entropy"
    """cross_entropy, binary_cross_entropy, mse, sse, half_squared_error, norm"""
    init: str = "he"
    """initialisation: lecun, glorot, he, orthogonal"""
    bias_free: bool = False
    """leave out the biases"""
    weight: str = "W1[0,0]"
    """the weight to follow, counted from 0; or as the notes write it, from 1: V11 in the last
    layer, W11 in the one before, U11 in the third from the end"""
    sample: int | Literal["mean"] = 139
    """one sample, by its index, or the mean over all of them"""
    latex: bool = False
    """print the tables as LaTeX, for slides"""
    html: bool = False
    """write the page to click as well: its paths, numbers and sliders, in any browser"""

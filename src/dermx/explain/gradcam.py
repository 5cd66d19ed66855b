"""Where did the model look? Grad-CAM of every class from one forward pass, without gradients.

For a network that ends in global average pooling and one linear layer, the logit of class k is
the sum over channels of W[k, c] times the mean of map c. Its derivative by every cell of map c is
therefore W[k, c] / (h * w), the same in all cells, so Grad-CAM's channel weights are the row W[k]
up to the factor 1 / (h * w), which scaling to [0, 1] removes: here Grad-CAM and CAM are the same.
As the derivative is the same in all cells, HiResCAM (derivative times map, cell by cell) is that
map too, and LayerCAM, which drops negative derivatives, is it with the negative weights left out.
The autograd forms, for any layer of any network, are in `dermx.train.cam`.

Limits: the cells are coarse (9 x 9 for 288 pixels), and each sees far beyond itself. The maps show
what raised the class's logit, not where the lesion is, and not whether the answer is right.

Source: Zhou et al. 2016 (CAM, arXiv:1512.04150); Selvaraju et al. 2017, section 3 and appendix A
(Grad-CAM generalises CAM, arXiv:1610.02391); Draelos and Carin 2020 (HiResCAM,
arXiv:2011.08891); Jiang et al. 2021 (LayerCAM, doi:10.1109/TIP.2021.3089943).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dermx.errors import InputError
from dermx.model.runtime import evidence
from dermx.preprocess.views import align
from dermx.records import softmax

if TYPE_CHECKING:
    from jaxtyping import Float32


def class_maps(
    feature_map: Float32[np.ndarray, "c h w"], weight: Float32[np.ndarray, "classes c"]
) -> Float32[np.ndarray, "classes h w"]:
    """Grad-CAM of the last feature map for every class.

    Args:
        feature_map: What global average pooling takes, of one picture.
        weight: Of the linear layer, a row per class.

    Returns:
        Each class's map scaled to [0, 1] by its own maximum; all 0 where nothing speaks for the
        class. Strengths of different classes can't be compared.

    Raises:
        InputError: It is not one map, or its channels are not the linear layer's inputs.

    >>> bright = np.float32([[[0, 1], [2, 4]]])  # one channel
    >>> class_maps(bright, np.float32([[2], [-1]]))[0]
    array([[0.  , 0.25],
           [0.5 , 1.  ]], dtype=float32)
    >>> class_maps(bright, np.float32([[2], [-1]]))[1].max()
    np.float32(0.0)
    """
    if feature_map.ndim != 3:
        raise InputError(f"need the map of one picture, (c, h, w), got {feature_map.shape}")
    return _scaled(evidence(feature_map, weight))


def odds_maps(
    views: Float32[np.ndarray, "v classes h w"], logits: Float32[np.ndarray, " classes"]
) -> Float32[np.ndarray, "classes h w"]:
    """What speaks for each class rather than for the others: the map that people are shown.

    Grad-CAM of the log-odds of each class, log(p / (1 - p)), instead of its logit: a cell that
    raises all logits alike decides nothing. By the logits, the log-odds of class k have the
    derivative 1 for k itself and, for any other class, minus its share of what k leaves over; so
    the map is k's evidence less that mean of the others'.

    Args:
        views: `evidence` of a picture alone, or of its eight views (`dermx.preprocess.views`),
            which is turned back and averaged; at least two classes.
        logits: The answer's. Of several networks side by side the evidence may be that of one,
            and the map then is Grad-CAM at that one's last layer.

    Returns:
        As `class_maps`.

    >>> both_and_first = np.float32([[[[8, 4]], [[8, 0]]]])  # one view, two classes, two cells
    >>> odds_maps(both_and_first, np.float32([6, 4]))
    array([[[0., 1.]],
    <BLANKLINE>
           [[0., 0.]]], dtype=float32)
    """
    each = views[0] if len(views) == 1 else align(views).mean(axis=0)
    own = np.eye(len(each), dtype=np.float32)
    others = softmax(np.where(own > 0, -np.inf, logits))
    return _scaled(np.tensordot(own - others, each, 1))


def contrast_map(
    feature_map: Float32[np.ndarray, "c h w"],
    weight: Float32[np.ndarray, "classes c"],
    wanted: int,
    against: int,
) -> Float32[np.ndarray, "h w"]:
    """Why this class rather than that one: Grad-CAM of the difference of two logits.

    Args:
        feature_map: What global average pooling takes, of one picture.
        weight: Of the linear layer, a row per class.
        wanted: Index of the class that is explained.
        against: Index of the class it is compared with.

    Returns:
        Scaled to [0, 1] by its maximum; all 0 where no cell speaks for the first over the second.

    Raises:
        InputError: An index is not a class's, or both are the same.

    >>> two = np.float32([[[4, 0]], [[0, 4]]])  # two channels, two cells
    >>> contrast_map(two, np.float32([[2, 1], [1, 1]]), 0, 1)
    array([[1., 0.]], dtype=float32)
    """
    if not (0 <= wanted < len(weight) and 0 <= against < len(weight)) or wanted == against:
        raise InputError(
            f"need two different classes of 0 to {len(weight) - 1}, got {wanted} and {against}"
        )
    difference = weight[wanted, None] - weight[against, None]  # (1, c)
    return np.asarray(_scaled(evidence(feature_map, difference))[0])


def layer_maps(
    feature_map: Float32[np.ndarray, "c h w"], weight: Float32[np.ndarray, "classes c"]
) -> Float32[np.ndarray, "classes h w"]:
    """LayerCAM of the last feature map for every class: channels against it are left out.

    Returns:
        Each class's map scaled to [0, 1] by its own maximum. The map should not be negative, as
        after a ReLU; what a channel's negative values speak for is not told.

    Raises:
        InputError: The number of channels differs from the linear layer's inputs.
    """
    return _scaled(evidence(feature_map, np.maximum(weight, 0)))


def _scaled(signed: Float32[np.ndarray, "classes h w"]) -> Float32[np.ndarray, "classes h w"]:
    positive = np.maximum(signed, 0)
    peak = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray(positive / np.where(peak > 0, peak, 1), np.float32)

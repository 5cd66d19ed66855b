"""Where did the model look? Grad-CAM of every class from one forward pass, without gradients.

For a network that ends in global average pooling and one linear layer, the logit of class k is
the sum over channels of W[k, c] times the mean of map c. Its derivative by every cell of map c is
therefore W[k, c] / (h * w), the same in all cells, so Grad-CAM's channel weights are the row W[k]
up to the factor 1 / (h * w), which scaling to [0, 1] removes: here Grad-CAM and CAM are the same.

Limits: the cells are coarse (7 x 7 for 224 pixels), and each sees far beyond itself. The maps show
what raised the class's logit, not where the lesion is, and not whether the answer is right.

Source: Zhou et al. 2016 (CAM, arXiv:1512.04150); Selvaraju et al. 2017, section 3 and appendix A
(Grad-CAM generalises CAM, arXiv:1610.02391).
"""

import numpy as np
from jaxtyping import Float32

from dermx.errors import InputError


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
        InputError: The number of channels differs from the linear layer's inputs.

    >>> bright = np.float32([[[0, 1], [2, 4]]])  # one channel
    >>> class_maps(bright, np.float32([[2], [-1]]))[0]
    array([[0.  , 0.25],
           [0.5 , 1.  ]], dtype=float32)
    >>> class_maps(bright, np.float32([[2], [-1]]))[1].max()
    np.float32(0.0)
    """
    if feature_map.ndim != 3 or weight.ndim != 2 or feature_map.shape[0] != weight.shape[1]:
        raise InputError(
            f"need a map (c, h, w) and weights (classes, c), "
            f"got {feature_map.shape} and {weight.shape}"
        )
    positive = np.maximum(np.tensordot(weight, feature_map, axes=1), 0)  # (classes, h, w)
    peak = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray(positive / np.where(peak > 0, peak, 1), np.float32)

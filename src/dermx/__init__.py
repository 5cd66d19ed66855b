"""dermx: which of eight skin conditions a picture shows, how sure that is, and where it looked.

For research and education; not a medical device.

>>> import dermx
>>> dermx.predict("lesion.jpg")  # doctest: +SKIP
{'prediction': 'nv', 'confidence': 0.93, 'probabilities': {'nv': 0.93, 'mel': 0.04, ...}}
>>> model = dermx.load_model()  # doctest: +SKIP
>>> model.assess("lesion.jpg").heatmap("mel")  # (height, width), in [0, 1]  # doctest: +SKIP
"""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dermx.assess import Model
    from dermx.preprocess.reading import Source

__version__ = "0.1.0"


def load_model(path: Path | str | None = None) -> "Model":
    """Open a model, the shipped one when `path` is None; see `dermx.assess.Model`.

    Raises:
        BundleError: The model's folder is incomplete, damaged or of a newer format.
    """
    # By name and late: `import dermx` stays instant, and no layer depends on a higher one.
    model: Model = import_module("dermx.assess").load_model(path)
    return model


def predict(picture: "Source") -> dict[str, Any]:
    """Ask the shipped model about one picture.

    Args:
        picture: A path, the bytes of a file, a PIL image, or an RGB uint8 array (h, w, 3).

    Returns:
        `prediction`, a code; `confidence`, its probability; `probabilities`, by code, sum 1.

    Raises:
        PictureError: It can't be read.
    """
    assessment = _shipped().assess(picture)
    return {
        "prediction": assessment.prediction,
        "confidence": assessment.confidence,
        "probabilities": dict(assessment.probabilities),
    }


def predict_with_trust(picture: "Source") -> dict[str, Any]:
    """Ask the shipped model about one picture, and whether to believe it.

    Args:
        picture: A path, the bytes of a file, a PIL image, or an RGB uint8 array (h, w, 3).

    Returns:
        The keys of `predict`, and `predictive_entropy` and `mutual_information` in nats;
        `ood_score`, higher is stranger, and `is_ood`; `prediction_set`, codes; `malignancy` with
        `probability` and `refer`; `abstain`; and `message`, for a lay person.

    Raises:
        PictureError: It can't be read.
        BundleError: The shipped model has no trust parts.
    """
    assessment = _shipped().assess(picture)
    if not assessment.trust:
        from dermx.errors import BundleError

        raise BundleError(
            "the shipped model has no trust parts: dermx trust RUN --bundle FOLDER makes them"
        )
    answer = assessment.to_dict()
    del answer["image"]
    return answer


@cache
def _shipped() -> "Model":
    return load_model()


class _Predict(ModuleType):
    """The module `dermx.predict`, which can be called like the function it takes the place of."""

    def __call__(self, picture: "Source") -> dict[str, Any]:
        return _function(picture)


class _Package(ModuleType):
    """dermx itself: importing its module `predict` must not lose the function `predict`.

    Python sets an imported module as an attribute of its package, over what has its name there.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "predict" and isinstance(value, ModuleType):
            value.__class__ = _Predict
        super().__setattr__(name, value)


_function = predict
sys.modules[__name__].__class__ = _Package

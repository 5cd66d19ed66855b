"""What is on this picture, how sure is that, and where did the model look? All from one pass.

One picture, or a stream of them, to an `Assessment`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dermx.errors import PictureError
from dermx.explain.gradcam import class_maps
from dermx.model.bundle import Bundle, load_bundle
from dermx.model.runtime import Session
from dermx.predict import Failure, Passed, forward, passed, read_prepared, run_views
from dermx.preprocess.reading import Source
from dermx.records import Assessment, softmax


def load_model(path: Path | str | None = None) -> "Model":
    """Open a model to assess pictures with.

    Args:
        path: A model's folder; the one shipped with dermx when None.

    Raises:
        BundleError: The folder is incomplete, damaged or of a newer format.
    """
    return Model(load_bundle(None if path is None else Path(path)))


class Model:
    """A model that is ready to answer; safe to share between threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Open the network.

        Args:
            bundle: From `dermx.model.bundle.load_bundle`.
            threads: Used for one picture; None takes every core this process may use.
        """
        self.bundle = bundle
        self.session = Session(bundle, threads)

    def assess(self, picture: Source) -> Assessment:
        """Assess one picture.

        Args:
            picture: A path, the bytes of a file, a PIL image, or an RGB uint8 array (h, w, 3).

        Raises:
            PictureError: It can't be read; the message says why.
        """
        prepared = read_prepared(picture, self.bundle.preprocess)
        maps, features = run_views(self.session, [prepared.pixels])
        return self._assessment(_name(picture), passed(prepared, maps[0], features[0]))

    def assess_many(
        self, pictures: Sequence[Source], *, batch_size: int = 32, threads: int | None = None
    ) -> Iterator[Assessment | Failure]:
        """Assess pictures in order, reading ahead in threads; what can't be read is a `Failure`."""
        answers = forward(self.session, pictures, batch_size=batch_size, threads=threads)
        for picture, answer in zip(pictures, answers, strict=True):
            if isinstance(answer, PictureError):
                yield Failure(_name(picture), str(answer))
            else:
                yield self._assessment(_name(picture), answer)

    def _assessment(self, image: str, answer: Passed) -> Assessment:
        probs = softmax(self.session.logits(answer.features[None]))[0]
        return Assessment(
            image=image,
            size=answer.prepared.size,
            probabilities=dict(zip(self.bundle.codes, map(float, probs), strict=True)),
            view=answer.prepared.view,
            maps=class_maps(answer.map, self.bundle.weight),
            notes=answer.prepared.notes,
        )


def _name(picture: Source) -> str:
    return str(picture) if isinstance(picture, Path | str) else "picture"

"""What is on this picture, may that be believed, and where did the model look?

One picture, or a stream of them, to an `Assessment`. Where the bundle has trust parts, the eight
views of a picture go through the network in one batch, and everything else is arithmetic on the
mean of their features: calibration, gate, dropout, set, and the decision whether to answer. The
heat map is that of the mean: the eight maps turned back and averaged.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dermx.errors import PictureError
from dermx.explain.gradcam import odds_maps
from dermx.model.bundle import Bundle, load_bundle
from dermx.model.runtime import Session
from dermx.predict import Failure, Passed, forward, passed, read_prepared, run_views
from dermx.preprocess.reading import Source
from dermx.records import Assessment, softmax
from dermx.trust.verdict import Trust, judge, trust_keys


def load_model(path: Path | str | None = None, *, with_trust: bool = True) -> "Model":
    """Open a model to assess pictures with.

    Args:
        path: A model's folder; the one shipped with dermx when None.
        with_trust: Use the bundle's trust parts, if it has any.

    Raises:
        BundleError: The folder is incomplete, damaged or of a newer format.
    """
    return Model(load_bundle(None if path is None else Path(path)), with_trust=with_trust)


class Model:
    """A model that is ready to answer; safe to share between threads."""

    def __init__(
        self, bundle: Bundle, threads: int | None = None, *, with_trust: bool = True
    ) -> None:
        """Open the network.

        Args:
            bundle: From `dermx.model.bundle.load_bundle`.
            threads: Used for one picture; None takes every core this process may use.
            with_trust: Use the bundle's trust parts, if it has any; False gives the plain softmax
                of one view.

        Raises:
            BundleError: The network can't be opened, or the trust parts are not for this model.
        """
        self.bundle = bundle
        self.trust = Trust.of(bundle) if with_trust else None
        self.views = 1 if self.trust is None else self.trust.views
        self.session = Session(bundle, threads)

    def assess(self, picture: Source) -> Assessment:
        """Assess one picture.

        Args:
            picture: A path, the bytes of a file, a PIL image, or an RGB uint8 array (h, w, 3).

        Raises:
            PictureError: It can't be read; the message says why.
        """
        prepared = read_prepared(picture, self.bundle.preprocess)
        cells, features = run_views(self.session, [prepared.pixels], self.views)
        return self._assessment(_name(picture), passed(prepared, cells[0], features[0]))

    def assess_many(
        self, pictures: Sequence[Source], *, batch_size: int = 32, threads: int | None = None
    ) -> Iterator[Assessment | Failure]:
        """Assess pictures in order, reading ahead in threads; what can't be read is a `Failure`."""
        answers = forward(
            self.session, pictures, batch_size=batch_size, threads=threads, views=self.views
        )
        for picture, answer in zip(pictures, answers, strict=True):
            if isinstance(answer, PictureError):
                yield Failure(_name(picture), str(answer))
            else:
                yield self._assessment(_name(picture), answer)

    def _assessment(self, image: str, answer: Passed) -> Assessment:
        codes, weight, bias = self.bundle.codes, self.bundle.weight, self.bundle.bias
        logits = self.session.logits(answer.features[None])
        predicted, keys = None, {}
        if self.trust is None:
            probs = softmax(logits)[0]
        else:
            judged = judge(self.trust, answer.features[None], weight, bias)
            probs, predicted = judged.probs[0], codes[int(judged.answers[0])]
            keys = trust_keys(self.trust, judged)
        return Assessment(
            image=image,
            size=answer.prepared.size,
            probabilities=dict(zip(codes, map(float, probs), strict=True)),
            view=answer.prepared.view,
            maps=odds_maps(answer.evidence, logits[0]),
            notes=answer.prepared.notes,
            trust=keys,
            answer=predicted,
        )


def _name(picture: Source) -> str:
    return str(picture) if isinstance(picture, Path | str) else "picture"

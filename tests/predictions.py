"""A stranger's own kind of prediction."""

from dataclasses import dataclass

from segxai.segment.semantic import Semantic


@dataclass(frozen=True)
class Around:
    """A prediction around another one, whose instances a subclass finds."""

    inner: Semantic

    @property
    def predictor(self):
        return self.inner.predictor

    @property
    def classes(self):
        return self.inner.classes

    def explained(self, criteria):
        return self.inner.explained(criteria)

    def class_logit(self, criteria):
        return self.inner.class_logit(criteria)

"""What was published, and whether a measured number agrees with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from recsys_lt.errors import UserError

FILE = Path(__file__).with_name("published.yaml")


class Published(NamedTuple):
    """A published number.

    Parameters
    ----------
    mean
        Over the published seeds.
    std
        Their sample standard deviation; None for a single run.
    source
        Where it stands.
    """

    mean: float
    std: float | None
    source: str

    @property
    def tolerance(self) -> float:
        """The largest difference that we call agreement (our rule): 3 %, however much seeds vary."""
        return 0.03 * self.mean

    def agrees(self, measured: float) -> bool:
        """Whether a measured value lies within the tolerance."""
        return abs(measured - self.mean) <= self.tolerance

    def exceeds(self, measured: float) -> bool:
        """Whether a measured value lies below it by more than the tolerance."""
        return measured < self.mean - self.tolerance

    def __str__(self) -> str:
        return f"{self.mean:.5f}" if self.std is None else f"{self.mean:.5f} ± {self.std:.5f}"


class LanguageModelRecommender(NamedTuple):
    """A published recommender that is made of a language model.

    Parameters
    ----------
    model
        What it is called here.
    name
        What it is called in print.
    language_model
        What it is made of.
    parameters
        Of the language model, in millions.
    masked
        Whether items that the user has seen are left out of the published ranking.
    """

    model: str
    name: str
    language_model: str
    parameters: float
    masked: bool


@dataclass(frozen=True)
class Facts:
    """The published numbers by dataset, model, loss and metric."""

    content: Mapping[str, Any]

    def test(self, dataset: str, model: str, loss: str, metric: str = "ndcg@10") -> Published | None:
        """A published test metric; None where none is known."""
        return self._number(self._at("test", dataset, model, loss), metric)

    def valid(self, dataset: str, model: str, loss: str) -> dict[int, Published]:
        """Published validation NDCG@10 by completed epochs."""
        return {
            int(epoch): self._pair(value, "logs") for epoch, value in self._at("valid", dataset, model, loss).items()
        }

    @property
    def language_models(self) -> list[LanguageModelRecommender]:
        """The recommenders made of language models, in print's order."""
        return [
            LanguageModelRecommender(
                key, given["name"], given["language_model"], float(given["parameters"]), given["masked"]
            )
            for key, given in self._at("language_models").items()
        ]

    def of_language_model(self, model: str, dataset: str, metric: str = "ndcg@10") -> Published | None:
        """A published test metric of a recommender made of a language model."""
        return self._number(self._at("language_models", model, dataset), metric)

    def source(self, key: str) -> str:
        """A source in words."""
        return str(self._at("sources", key).get("what", key))

    def _at(self, *path: str) -> Mapping[str, Any]:
        found: Any = self.content
        for key in path:
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _number(self, entry: Mapping[str, Any], metric: str) -> Published | None:
        return None if metric not in entry else self._pair(entry[metric], str(entry.get("source", "")))

    @staticmethod
    def _pair(value: Any, source: str) -> Published:
        mean, std = value if isinstance(value, list) else (value, None)
        return Published(float(mean), None if std is None else float(std), source)


@cache
def facts(path: Path = FILE) -> Facts:
    """Read a file of published numbers.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot be read ({reason})", where=path, remedy="Name a file like published.yaml") from error
    return Facts(content if isinstance(content, Mapping) else {})

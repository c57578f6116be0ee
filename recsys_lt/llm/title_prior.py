"""How well a language model knows the items of a dataset by their titles, before it reads any interaction."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from recsys_lt.data.facts import item_texts
from recsys_lt.data.item_data import TITLE
from recsys_lt.data.needs import Artifact
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.language_model import LanguageModel, Read
from recsys_lt.llm.likelihoods import log_likelihoods, means, means_by
from recsys_lt.system.atomic import locked, replacing
from recsys_lt.system.machine import slow_bfloat16

_FILE = "prior.parquet"
_FORMAT = 1  # of the cached numbers; raised where the same settings give others
_TITLES = 256  # read at a time
#: What is not part of the cache's key: it changes nothing in the numbers.
_NO_DIFFERENCE = ("lora", "pack_tokens", "gradient_checkpointing")

_Halves = tuple[list[int], list[int]]  # tokens of a title


class ItemPrior(NamedTuple):
    """What a language model knows of each item by its title, all [I]; nan where it was not measured.

    ``likelihood`` is the mean log-likelihood of the title's tokens after a neutral opening, a mean over the openings;
    ``cost`` what the same tokens cost anywhere: the mean logarithm of the probability that the model gives them at any
    place of any title, and what the tokens of all titles gain on that at the same place, from what is before them.
    ``completion`` is how much likelier the tokens of the title's second half are after its first half than after the
    first halves of other titles. All are in nats a token. ``tokens`` is the length of the title as it was read, 0 for
    an item that was not.
    """

    likelihood: NDArray[np.float64]
    cost: NDArray[np.float64]
    completion: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def familiarity(self) -> NDArray[np.float64]:
        """Likelihood of the title less what its tokens cost anywhere, [I]."""
        return self.likelihood - self.cost


@dataclass(frozen=True)
class TitlePrior(Artifact):
    """What a language model knows of the items by their titles, before any recommendation data.

    A result is kept in ``<cache_dir>/priors`` under what decides it, the titles included: other runs, splits and
    commands use it again.

    Parameters
    ----------
    llm
        The language model, as it is: its adapters are left out.
    noun
        What the items are.
    openings
        Neutral texts that a title follows after a space; ``{noun}`` is what the items are. The completion is read after
        the first of them.
    others
        Titles whose first halves each second half is read after, beside its own.
    title_tokens
        Tokens of a title that are read: its first words as far as they fit.
    max_items
        Items that are measured, drawn at random from those with a title; None for all.
    cache_dir
        Where results are kept.
    """

    llm: LLM
    noun: str
    openings: Sequence[str]
    others: PositiveInt
    title_tokens: PositiveInt
    max_items: PositiveInt | None
    cache_dir: str

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        _write(folder / _FILE, self.of(data))

    def load(self, folder: Path) -> ItemPrior:
        return _read(folder / _FILE)

    def check(self, data: Sequences) -> None:
        """Raise UserError where no item has a title, or an opening cannot be filled."""
        self._titles(data)
        self.filled()

    def of(self, data: Sequences) -> ItemPrior:
        """The prior of the items of these data, from the cache where it was measured before.

        Raises UserError where no item has a title, an opening cannot be filled, or the language model cannot be had.
        """
        titles, openings = self._titles(data), self.filled()
        folder = Path(self.cache_dir).expanduser() / "priors"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._key(titles)}.parquet"
        with locked(path.with_suffix(".lock"), lambda: None):
            if not path.is_file():
                language = self.llm.load(adapted=False).eval()
                if torch.cuda.is_available():
                    language = language.cuda()
                elif self.llm.dtype == "bfloat16" and (slow := slow_bfloat16()):
                    print(slow)
                _write(path, measured(language, titles, openings, self.others, self.title_tokens, self.max_items))
        return _read(path)

    def _titles(self, data: Sequences) -> list[str]:
        return item_texts(data.item_data, TITLE, data.name, "prior")

    def filled(self) -> list[str]:
        """The openings with the noun in them; UserError for one that cannot be filled, or none."""
        if not self.openings:
            raise UserError("the list has no opening", where="prior.openings", remedy="Give at least one text")
        try:
            return [opening.format(noun=self.noun) for opening in self.openings]
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            what, remedy = f"an opening cannot be filled ({error})", "Only {noun} is allowed in braces"
            raise UserError(what, where="prior.openings", remedy=f"{remedy}; double literal braces") from error

    def _key(self, titles: Sequence[str]) -> str:
        settings = asdict(self)
        del settings["cache_dir"]
        settings["llm"] = {key: value for key, value in settings["llm"].items() if key not in _NO_DIFFERENCE}
        if isinstance(settings["llm"]["weights"], dict):
            settings["llm"]["weights"].pop("cache_dir", None)
        weights = type(self.llm.weights)
        content = [_FORMAT, f"{weights.__module__}.{weights.__qualname__}", settings, list(titles)]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


@torch.no_grad()
def measured(
    language: LanguageModel,
    titles: Sequence[str],
    openings: Sequence[str],
    others: int,
    title_tokens: int,
    max_items: int | None = None,
) -> ItemPrior:
    """Measure what a language model knows of titles [I], "" for an item without one; see ``TitlePrior``.

    A title is read word by word: its first words as far as ``title_tokens`` tokens hold them, of a longer first word
    its first tokens. The first half has as many words as the second, or one more. A title of one word has no second
    half, and its completion is nan.
    """
    known = [item for item, title in enumerate(titles) if title.strip()]
    if max_items is not None and max_items < len(known):
        known = sorted(np.random.default_rng(0).choice(known, max_items, replace=False).tolist())
    halves = _halves(language, [titles[item].split() for item in known], title_tokens)
    vocabulary = language.vocabulary.float()
    read = [language.read(language.vectors(language.opening(opening))) for opening in openings]
    logs, anywhere = _after_openings(language, read, halves, vocabulary)
    lengths = [len(first) + len(second) for first, second in halves]
    mean = logs.mean(0)
    # The later a token, the more is known before it: what all titles gain at a place is no merit of one. Places that
    # few titles have are taken together.
    most = int(np.quantile(lengths, 0.9))
    place = torch.tensor([min(place, most) for n in lengths for place in range(n)], device=mean.device)
    gained = means_by(mean - anywhere, place, most + 1)
    likelihood, cost = means(mean, lengths), means(anywhere + gained[place], lengths)
    completion = _completion(language, read[0], halves, vocabulary, logs[0], others)

    def placed(values: Tensor) -> NDArray[np.float64]:
        every = np.full(len(titles), np.nan)
        every[known] = values.cpu().numpy()
        return every

    n_tokens = np.zeros(len(titles), dtype=np.int64)
    n_tokens[known] = lengths
    return ItemPrior(placed(likelihood), placed(cost), placed(completion), n_tokens)


def _after_openings(
    language: LanguageModel, read: Sequence[Read], halves: Sequence[_Halves], vocabulary: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of the tokens of all titles after each opening, [n, T], and those of the same anywhere, [T]."""
    rows = [[*first, *second] for first, second in halves]
    total = torch.zeros(len(vocabulary), device=vocabulary.device, dtype=torch.float64)
    found = []
    for opening in read:
        parts = []
        for some in _pieces(len(rows)):
            of_piece = torch.zeros_like(vocabulary[:, 0])
            parts.append(log_likelihoods(language, opening, rows[some], vocabulary, total=of_piece))
            total += of_piece
        found.append(torch.cat(parts))
    tokens = torch.tensor([token for row in rows for token in row], device=vocabulary.device)
    return torch.stack(found).double(), (total / (len(read) * len(tokens))).log()[tokens]


def _completion(
    language: LanguageModel, opening: Read, halves: Sequence[_Halves], vocabulary: Tensor, logs: Tensor, others: int
) -> Tensor:
    """The completion of each title, [n]; ``logs`` are its tokens' log-likelihoods after the same opening, [T]."""
    completion = torch.full((len(halves),), torch.nan, dtype=torch.float64, device=logs.device)
    two = [row for row, (_, second) in enumerate(halves) if second]
    if len(two) < 2:
        return completion
    is_second = [second for first, rest in halves for second in [False] * len(first) + [True] * len(rest)]
    sizes = [len(halves[row][1]) for row in two]
    after_own = means(logs[torch.tensor(is_second, device=logs.device)], sizes)
    after_others = torch.zeros_like(after_own)
    # In a random circle each first half stands before as many second halves as any other, and never before its own.
    order = np.random.default_rng(0).permutation(len(two))
    place = np.argsort(order)
    shifts = range(1, min(others, len(two) - 1) + 1)
    for shift in shifts:
        firsts = [halves[two[order[(at + shift) % len(two)]]][0] for at in place]
        rows = [[*first, *halves[row][1]] for first, row in zip(firsts, two, strict=True)]
        given = [len(first) for first in firsts]
        parts = [log_likelihoods(language, opening, rows[some], vocabulary, given[some]) for some in _pieces(len(two))]
        after_others += means(torch.cat(parts).double(), sizes) / len(shifts)
    completion[two] = after_own - after_others
    return completion


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, start + _TITLES) for start in range(0, n, _TITLES))


def _halves(language: LanguageModel, titles: Sequence[Sequence[str]], most: int) -> list[_Halves]:
    """Tokens of the first and the second half of each title, given as its words; the second may be empty."""
    words = list(dict.fromkeys(word for title in titles for word in title))
    ids = dict(zip(words, language.ids([f" {word}" for word in words]), strict=True))
    found = []
    for title in titles:
        kept: list[list[int]] = []
        for word in title:
            if kept and sum(map(len, kept)) + len(ids[word]) > most:
                break
            kept.append(ids[word][:most])
        middle = (len(kept) + 1) // 2
        first, second = kept[:middle], kept[middle:]
        found.append(([token for word in first for token in word], [token for word in second for token in word]))
    return found


def _write(path: Path, prior: ItemPrior) -> None:
    import pandas as pd

    with replacing(path) as draft:
        pd.DataFrame(prior._asdict()).to_parquet(draft, index=False, compression="zstd")


def _read(path: Path) -> ItemPrior:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
        return ItemPrior(**{name: frame[name].to_numpy() for name in ItemPrior._fields})
    except (OSError, KeyError, ValueError) as error:  # pyarrow's are among them
        raise UserError(
            f"it is not a measured prior ({error})", where=path, remedy="Delete it; the prior is then measured again"
        ) from error

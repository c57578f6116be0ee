"""What the paper concludes, as statements that runs can contradict."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys_lt.analysis.cells import Cell
from recsys_lt.analysis.paper.evidence import BACKBONES, DATASETS, LOSSES, Evidence, largest, mean
from recsys_lt.analysis.paper.main_table import COMMANDS as TABLE_3
from recsys_lt.analysis.paper.negatives import ALPHA_COMMAND, K_COMMAND, sampled
from recsys_lt.analysis.paper.piece import Piece
from recsys_lt.analysis.paper.truncation import COMMANDS as FIGURE_1A
from recsys_lt.analysis.significance import LEAST, holm, paired_p_value

METRIC = "ndcg@10"
#: Datasets of the paper, and the one that its second version alone has: asked of where it was run.
_PAPER, _SECOND = ("beauty", "yelp"), "ml-1m"
_LEVEL = 0.05
#: Two settings are alike within this share of the better one.
_ALIKE = 0.03


class Finding(NamedTuple):
    """One comparison that a claim makes.

    Parameters
    ----------
    dataset
        On which dataset.
    what
        What was compared, with the numbers.
    holds
        Whether it came out as claimed; None where the runs settle it neither way.
    """

    dataset: str
    what: str
    holds: bool | None


class Claim(NamedTuple):
    """A conclusion of the paper.

    Parameters
    ----------
    statement
        What it says.
    test
        How we ask the runs.
    wanted
        Comparisons it makes when all is run, by dataset.
    findings
        Those the runs allow.
    """

    statement: str
    test: str
    wanted: Mapping[str, int]
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """``holds``, ``does not hold``, ``not yet run``, or how far either goes."""
        known = [finding.holds for finding in self.findings if finding.holds is not None]
        held, seen, wanted = sum(known), len(known), sum(self.wanted.values())
        if not seen:
            return "run, but not settled" if self.findings else "not yet run"
        if held == seen:
            return "holds" if seen == wanted else f"holds so far ({seen} of {wanted} settled)"
        missing = "" if seen == wanted else f", {seen} of {wanted} settled"
        return "does not hold" if not held and not missing else f"does not hold in {seen - held} of {seen}{missing}"

    @property
    def judged(self) -> str:
        """How many comparisons are settled on each dataset: ``Beauty 1 of 4, Yelp none of 3``."""
        settled = Counter(finding.dataset for finding in self.findings if finding.holds is not None)
        return ", ".join(f"{DATASETS[name]} {settled[name] or 'none'} of {n}" for name, n in self.wanted.items())


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim, with what the runs say of it."""
    return [make(evidence) for make in _CLAIMS]


def claim_check(evidence: Evidence) -> Piece:
    """The claims as a table."""
    return Piece(
        "claims",
        "Claim check: the paper's conclusions against these runs",
        ["claim", "test", "verdict", "settled on", "numbers"],
        [
            [
                claim.statement,
                claim.test,
                claim.verdict,
                claim.judged,
                "; ".join(f.what for f in claim.findings) or None,
            ]
            for claim in claims(evidence)
        ],
        "Published settings where they have been run, else the one with the best validation NDCG@10, which is said and "
        "counts only where it is no worse than the published number. "
        "p: paired permutation test over users on NDCG@10, each user averaged over the seeds both have, as the means "
        "are; Holm over the comparisons of a claim. Settled on: of each of the paper's datasets, how many comparisons "
        "these runs settle, either way, and how many there are; ML-1M, which its second version alone has, where it "
        "was run.",
        commands=(*TABLE_3, *FIGURE_1A, K_COMMAND, ALPHA_COMMAND),
    )


def _beats(evidence: Evidence, statement: str, pairs: Sequence[tuple[str, str, str, str]]) -> Claim:
    """A loss beats another: (dataset, model, loss, other loss) each."""
    found: list[tuple[str, Cell, Cell, bool]] = []
    for dataset, model, loss, other in pairs:
        better, worse = evidence.closest(dataset, model, loss), evidence.closest(dataset, model, other)
        if better is None or worse is None:
            continue
        said = f"{DATASETS[dataset]} {BACKBONES[model]} {LOSSES[loss]} against {LOSSES[other]}"
        settings = {LOSSES[cell.identity[2]]: evidence.in_words(cell) for cell in (better, worse)}
        said += "".join(f" ({name}: {words})" for name, words in settings.items() if words != "published")
        # The test is over the seeds both have, and so are the means beside it.
        seeds = set(better.seeds) & set(worse.seeds)
        found.append((said, _of_seeds(better, seeds), _of_seeds(worse, seeds), bool(seeds)))
    p_values = holm([paired_p_value(better, worse, "ndcg", 10) if same else None for _, better, worse, same in found])
    findings = []
    for (what, better, worse, _), p in zip(found, p_values, strict=True):
        a, b = mean(better, METRIC), mean(worse, METRIC)
        if a is None or b is None:
            continue
        said = _said_p(p)
        holds = None if p is None else a > b and p < _LEVEL
        findings.append(Finding(better.dataset, f"{what}: {a:.4f}, {b:.4f} ({said})", holds))
    return Claim(statement, f"higher NDCG@10, p < {_LEVEL}", _wanted([pair[0] for pair in pairs], findings), findings)


def _wanted(datasets: Sequence[str], findings: Sequence[Finding]) -> dict[str, int]:
    """Comparisons by dataset; those of the second version's count where one was made."""
    made = {finding.dataset for finding in findings}
    return {name: n for name, n in Counter(datasets).items() if name != _SECOND or name in made}


def _said_p(p: float | None) -> str:
    return "no seed with ranks in common" if p is None else f"p {p:.4f}" if p > LEAST else f"p <= {LEAST:g}"


def _of_seeds(cell: Cell, seeds: set[object]) -> Cell:
    """A cell's runs of these seeds; all of them where there are none."""
    return replace(cell, finished=tuple(run for run in cell.finished if run.seed in seeds)) if seeds else cell


def _ce_beats_bce(evidence: Evidence) -> Claim:
    pairs = [(d, m, "ce", "bce") for d in (*_PAPER, _SECOND) for m in BACKBONES if (d, m) != ("yelp", "caser")]
    return _beats(evidence, "CE beats BCE for every backbone (published exception: Caser on Yelp)", pairs)


def _ce_beats_bpr(evidence: Evidence) -> Claim:
    pairs = [(d, m, "ce", "bpr") for d in (*_PAPER, _SECOND) for m in BACKBONES if (d, m) != ("yelp", "caser")]
    return _beats(evidence, "CE beats BPR for every backbone (published exception: Caser on Yelp)", pairs)


def _sce_beats_ce(evidence: Evidence) -> Claim:
    pairs = [(d, m, "sce", "ce") for d in (*_PAPER, _SECOND) for m in ("gru4rec", "caser")]
    return _beats(evidence, "SCE beats CE for GRU4Rec and Caser", pairs)


def _sce_stands_in(evidence: Evidence) -> Claim:
    pairs = [(d, m) for d in (*_PAPER, _SECOND) for m in ("sasrec", "fmlp_rec")]
    findings = []
    for dataset, model in pairs:
        cells = [evidence.closest(dataset, model, loss) for loss in ("sce", "ce")]
        sce, ce = (mean(cell, METRIC) for cell in cells)
        if sce is not None and ce is not None:
            said = f"{DATASETS[dataset]} {BACKBONES[model]}: {sce:.4f}, {ce:.4f} ({sce / ce - 1:+.1%})"
            said += "".join(
                f" ({LOSSES[c.identity[2]]}: {w})" for c in cells if c and (w := evidence.in_words(c)) != "published"
            )
            findings.append(Finding(dataset, said, sce >= (1 - _ALIKE) * ce))
    return Claim(
        "SCE stands in for CE with SASRec and FMLP-Rec", f"at least {1 - _ALIKE:.0%} of CE",
        _wanted([pair[0] for pair in pairs], findings), findings,
    )  # fmt: skip


def _few_scaled_match_many(evidence: Evidence) -> Claim:
    few = evidence.families("beauty", "sasrec", "sce", "k", alpha=100).get((), {}).get(100.0)
    many = evidence.families("beauty", "sasrec", "ssm", "k").get((), {}).get(500.0)
    if few is None or many is None:  # not run in the published setting
        sweeps = sampled(evidence)
        few, many = sweeps["sce by K"].get(100.0), sweeps["ssm by K"].get(500.0)
    a, b = mean(few, METRIC), mean(many, METRIC)
    findings = []
    if few is not None and a is not None and b is not None:
        said = f"{a:.4f}, {b:.4f} ({a / b - 1:+.1%}; setting of SCE: {evidence.in_words(few)})"
        alike = a >= (1 - _ALIKE) * b
        if not alike and _still_rising(few):
            said += "; SCE is best at its last epoch, so it may not be done"
        findings.append(Finding("beauty", said, True if alike else None if _still_rising(few) else False))
    return Claim(
        "SCE with K = 100, alpha = 100 matches SSM with K = 500 (SASRec, Beauty)",
        f"at least {1 - _ALIKE:.0%} of it", {"beauty": 1}, findings,
    )  # fmt: skip


def _still_rising(cell: Cell) -> bool:
    """Whether some run was best at its very last epoch."""
    return any(run.metrics is not None and run.metrics["best_epoch"] == run.metrics["epochs"] for run in cell.finished)


def _scale_needs_some_negatives(evidence: Evidence) -> Claim:
    sweeps = sampled(evidence)
    wanted = (1.0, 10.0, 50.0, 100.0)
    findings = []
    for k in wanted:
        sce, ssm = (mean(sweeps[name].get(k), METRIC) for name in ("sce by K", "ssm by K"))
        if sce is not None and ssm is not None:
            findings.append(
                Finding("beauty", f"K {k:g}: SCE {sce:.4f}, SSM {ssm:.4f}", sce < ssm if k == 1 else sce > ssm)
            )
    return Claim(
        "Alpha = 100 hurts with one negative and helps from ten on (SASRec, Beauty)",
        "lower than SSM at K = 1, higher at 10, 50, 100", {"beauty": len(wanted)}, findings,
    )  # fmt: skip


def _large_alpha_is_no_harm(evidence: Evidence) -> Claim:
    swept = sampled(evidence)["sce by alpha"]
    gains = {alpha: gain for alpha, cell in swept.items() if (gain := mean(cell, METRIC)) is not None}
    findings = []
    if 10_000.0 in gains and len(gains) > 1:
        best = max(gains.values())
        numbers = ", ".join(f"{alpha:g}: {gain:.4f}" for alpha, gain in gains.items())
        findings.append(Finding("beauty", numbers, gains[10_000.0] >= 0.95 * best))
    return Claim(
        "Alpha up to 10,000 stays competitive (SASRec, Beauty, K = 100)",
        "at least 95% of the best alpha",
        {"beauty": 1},
        findings,
    )


def _a_band_is_best(evidence: Evidence) -> Claim:
    swept = largest(evidence.families("beauty", "sasrec", "ce_eta", "eta"))
    gains = {eta: gain for eta, cell in swept.items() if (gain := mean(cell, METRIC)) is not None}
    inside = [eta for eta in gains if 0.5 <= eta <= 1.0]
    outside = [eta for eta in gains if eta not in inside]
    findings = []
    if inside:
        best = max(inside, key=lambda eta: gains[eta])
        p_values = holm([paired_p_value(swept[best], swept[eta], "ndcg", 10) for eta in outside])
        for eta, p in zip(outside, p_values, strict=True):
            differs = p is not None and p < _LEVEL
            said = f"{best:g} against {eta:g}: {gains[best]:.4f}, {gains[eta]:.4f} ({_said_p(p)})"
            findings.append(Finding("beauty", said, gains[best] > gains[eta] if differs else None))
    return Claim(
        "CE-eta is best near eta = 0.7 (SASRec, Beauty)",
        f"the best eta of 0.5 to 1 gives higher NDCG@10 than 0.1, 0.3, 2 and 5, p < {_LEVEL}", {"beauty": 4}, findings,
    )  # fmt: skip


def _small_beats_large(evidence: Evidence) -> Claim:
    pairs = [(d, m, loss) for d in (*_PAPER, _SECOND) for m in ("sasrec", "fmlp_rec") for loss in ("ce", "sce")]
    findings = []
    for dataset, model, loss in pairs:
        cell, best = evidence.closest(dataset, model, loss), evidence.best_language_model(dataset)
        own = mean(cell, METRIC)
        if cell is not None and own is not None and best is not None:
            said = f"{DATASETS[dataset]} {BACKBONES[model]} {LOSSES[loss]} {own:.4f}, {best[0]} {best[1]:.4f}"
            words = evidence.in_words(cell)
            said += f" ({own / best[1] - 1:+.0%})" + ("" if words == "published" else f" (setting: {words})")
            findings.append(Finding(dataset, said, own > best[1]))
    return Claim(
        "SASRec and FMLP-Rec with CE or SCE beat P5, POD, LlamaRec and E4SRec",
        "higher NDCG@10 than the best published one (no test: theirs are single runs)",
        _wanted([pair[0] for pair in pairs], findings), findings,
    )  # fmt: skip


_CLAIMS: tuple[Callable[[Evidence], Claim], ...] = (
    _small_beats_large,
    _ce_beats_bce,
    _ce_beats_bpr,
    _sce_stands_in,
    _sce_beats_ce,
    _few_scaled_match_many,
    _scale_needs_some_negatives,
    _large_alpha_is_no_harm,
    _a_band_is_best,
)

"""What the paper concludes, as statements that runs can contradict."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from recsys_lt.analysis.cells import Cell
from recsys_lt.analysis.paper.evidence import BACKBONES, DATASETS, LOSSES, Evidence, mean
from recsys_lt.analysis.paper.negatives import sampled
from recsys_lt.analysis.paper.piece import Piece
from recsys_lt.analysis.significance import holm, paired_p_value

METRIC = "ndcg@10"
_PAPER = ("beauty", "yelp", "ml-1m")
_LEVEL = 0.05
#: Two settings are alike within this share of the better one.
_ALIKE = 0.03


class Finding(NamedTuple):
    """One comparison that a claim makes.

    Parameters
    ----------
    what
        What was compared, with the numbers.
    holds
        Whether it came out as claimed.
    """

    what: str
    holds: bool


class Claim(NamedTuple):
    """A conclusion of the paper.

    Parameters
    ----------
    statement
        What it says.
    test
        How we ask the runs.
    wanted
        Comparisons it makes when all is run.
    findings
        Those the runs allow.
    """

    statement: str
    test: str
    wanted: int
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """``holds``, ``does not hold``, ``not yet run``, or how far either goes."""
        held, seen = sum(f.holds for f in self.findings), len(self.findings)
        if not seen:
            return "not yet run"
        if held == seen:
            return "holds" if seen == self.wanted else f"holds so far ({seen} of {self.wanted} run)"
        missing = "" if seen == self.wanted else f", {seen} of {self.wanted} run"
        return "does not hold" if not held and not missing else f"does not hold in {seen - held} of {seen}{missing}"


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim, with what the runs say of it."""
    return [make(evidence) for make in _CLAIMS]


def claim_check(evidence: Evidence) -> Piece:
    """The claims as a table."""
    return Piece(
        "claims",
        "Claim check: the paper's conclusions against these runs",
        ["claim", "test", "verdict", "numbers"],
        [
            [claim.statement, claim.test, claim.verdict, "; ".join(f.what for f in claim.findings) or None]
            for claim in claims(evidence)
        ],
        "Published settings where they have been run, else the setting with the best validation NDCG@10. p: paired "
        "permutation test over users on NDCG@10, Holm over the comparisons of a claim.",
    )


def _beats(evidence: Evidence, statement: str, pairs: Sequence[tuple[str, str, str, str]]) -> Claim:
    """A loss beats another: (dataset, model, loss, other loss) each."""
    found: list[tuple[str, Cell, Cell]] = []
    for dataset, model, loss, other in pairs:
        better, worse = evidence.closest(dataset, model, loss), evidence.closest(dataset, model, other)
        if better is not None and worse is not None:
            found.append(
                (f"{DATASETS[dataset]} {BACKBONES[model]} {LOSSES[loss]} against {LOSSES[other]}", better, worse)
            )
    p_values = holm([paired_p_value(better, worse, "ndcg", 10) for _, better, worse in found])
    findings = []
    for (what, better, worse), p in zip(found, p_values, strict=True):
        a, b = mean(better, METRIC), mean(worse, METRIC)
        assert a is not None
        assert b is not None
        said = "no test" if p is None else f"p {p:.4f}" if p >= 1e-4 else "p < .0001"
        findings.append(Finding(f"{what}: {a:.4f}, {b:.4f} ({said})", a > b and p is not None and p < _LEVEL))
    return Claim(statement, f"higher NDCG@10, p < {_LEVEL}", len(pairs), findings)


def _ce_beats_bce(evidence: Evidence) -> Claim:
    pairs = [(d, m, "ce", "bce") for d in _PAPER for m in BACKBONES if (d, m) != ("yelp", "caser")]
    return _beats(evidence, "CE beats BCE for every backbone (published exception: Caser on Yelp)", pairs)


def _ce_beats_bpr(evidence: Evidence) -> Claim:
    pairs = [(d, m, "ce", "bpr") for d in _PAPER for m in BACKBONES if (d, m) != ("yelp", "caser")]
    return _beats(evidence, "CE beats BPR for every backbone (published exception: Caser on Yelp)", pairs)


def _sce_beats_ce(evidence: Evidence) -> Claim:
    pairs = [(d, m, "sce", "ce") for d in _PAPER for m in ("gru4rec", "caser")]
    return _beats(evidence, "SCE beats CE for GRU4Rec and Caser", pairs)


def _sce_stands_in(evidence: Evidence) -> Claim:
    pairs = [(d, m) for d in _PAPER for m in ("sasrec", "fmlp_rec")]
    findings = []
    for dataset, model in pairs:
        sce, ce = (mean(evidence.closest(dataset, model, loss), METRIC) for loss in ("sce", "ce"))
        if sce is not None and ce is not None:
            said = f"{DATASETS[dataset]} {BACKBONES[model]}: {sce:.4f}, {ce:.4f} ({sce / ce - 1:+.1%})"
            findings.append(Finding(said, sce >= (1 - _ALIKE) * ce))
    return Claim(
        "SCE stands in for CE with SASRec and FMLP-Rec", f"at least {1 - _ALIKE:.0%} of CE", len(pairs), findings
    )


def _few_scaled_match_many(evidence: Evidence) -> Claim:
    sweeps = sampled(evidence)
    few, many = (mean(sweeps[s].get(k), METRIC) for s, k in (("sce by K", 100.0), ("ssm by K", 500.0)))
    findings = []
    if few is not None and many is not None:
        findings.append(Finding(f"{few:.4f}, {many:.4f} ({few / many - 1:+.1%})", few >= (1 - _ALIKE) * many))
    return Claim(
        "SCE with K = 100, alpha = 100 matches SSM with K = 500 (SASRec, Beauty)",
        f"at least {1 - _ALIKE:.0%} of it", 1, findings,
    )  # fmt: skip


def _scale_needs_some_negatives(evidence: Evidence) -> Claim:
    sweeps = sampled(evidence)
    wanted = (1.0, 10.0, 50.0, 100.0)
    findings = []
    for k in wanted:
        sce, ssm = (mean(sweeps[name].get(k), METRIC) for name in ("sce by K", "ssm by K"))
        if sce is not None and ssm is not None:
            findings.append(Finding(f"K {k:g}: SCE {sce:.4f}, SSM {ssm:.4f}", sce < ssm if k == 1 else sce > ssm))
    return Claim(
        "Alpha = 100 hurts with one negative and helps from ten on (SASRec, Beauty)",
        "lower than SSM at K = 1, higher at 10, 50, 100", len(wanted), findings,
    )  # fmt: skip


def _large_alpha_is_no_harm(evidence: Evidence) -> Claim:
    swept = sampled(evidence)["sce by alpha"]
    gains = {alpha: gain for alpha, cell in swept.items() if (gain := mean(cell, METRIC)) is not None}
    findings = []
    if 10_000.0 in gains and len(gains) > 1:
        best = max(gains.values())
        numbers = ", ".join(f"{alpha:g}: {gain:.4f}" for alpha, gain in gains.items())
        findings.append(Finding(numbers, gains[10_000.0] >= 0.95 * best))
    return Claim(
        "Alpha up to 10,000 stays competitive (SASRec, Beauty, K = 100)", "at least 95% of the best alpha", 1, findings
    )


def _a_band_is_best(evidence: Evidence) -> Claim:
    swept = evidence.sweep("beauty", "sasrec", "ce_eta", "eta")
    gains = {eta: gain for eta, cell in swept.items() if (gain := mean(cell, METRIC)) is not None}
    findings = []
    if gains and min(gains) < 0.5 and max(gains) > 1.0:
        best = max(gains, key=lambda eta: gains[eta])
        numbers = ", ".join(f"{eta:g}: {gain:.4f}" for eta, gain in gains.items())
        findings.append(Finding(f"best at {best:g} ({numbers})", 0.5 <= best <= 1.0))
    return Claim("CE-eta is best near eta = 0.7 (SASRec, Beauty)", "the best eta lies in 0.5 to 1", 1, findings)


def _small_beats_large(evidence: Evidence) -> Claim:
    pairs = [(d, m, loss) for d in _PAPER for m in ("sasrec", "fmlp_rec") for loss in ("ce", "sce")]
    findings = []
    for dataset, model, loss in pairs:
        own, best = mean(evidence.closest(dataset, model, loss), METRIC), evidence.best_language_model(dataset)
        if own is not None and best is not None:
            said = f"{DATASETS[dataset]} {BACKBONES[model]} {LOSSES[loss]} {own:.4f}, {best[0]} {best[1]:.4f}"
            findings.append(Finding(f"{said} ({own / best[1] - 1:+.0%})", own > best[1]))
    return Claim(
        "SASRec and FMLP-Rec with CE or SCE beat P5, POD, LlamaRec and E4SRec",
        "higher NDCG@10 than the best published one (no test: theirs are single runs)", len(pairs), findings,
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

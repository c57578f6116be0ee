"""The file of published numbers holds together: no slip of a digit or a row would pass unseen."""

from itertools import pairwise

import pytest

from studies.ce_sce.evidence import BACKBONES
from studies.ce_sce.published import facts
from studies.ce_sce.tables import METRICS

LOSSES = ("bpr", "bce", "nce", "ce", "sce")
DATASETS = ("beauty", "yelp", "ml-1m")
#: Numbers are printed to four digits, and so may be equal or off by one in the last.
ROUNDING = 1e-4
CONTENT = facts().content
ENTRIES = {
    f"{dataset} {model} {loss}": entry
    for dataset, models in CONTENT["test"].items()
    for model, losses in models.items()
    for loss, entry in losses.items()
} | {
    f"{dataset} {model}": given[dataset]
    for model, given in CONTENT["language_models"].items()
    for dataset in DATASETS
    if dataset in given
}


def means(entry: dict[str, object]) -> dict[str, float]:
    values = {key: value for key, value in entry.items() if key != "source"}
    return {key: float(value[0] if isinstance(value, list) else value) for key, value in values.items()}


def test_every_cell_is_there() -> None:
    wanted = {f"{dataset} {model} {loss}" for dataset in DATASETS for model in BACKBONES for loss in LOSSES}
    wanted |= {f"{dataset} {model}" for dataset in DATASETS for model in ("pod", "p5", "llamarec", "e4srec")}
    assert set(ENTRIES) - wanted == {"beauty bsarec ce"}
    assert wanted <= set(ENTRIES)
    for name in wanted:
        lacking = set(METRICS) - set(ENTRIES[name])
        # The second version, which alone has language models on ML-1M, printed no MRR.
        assert lacking == ({"mrr@5", "mrr@10"} if ENTRIES[name]["source"] == "table5" else set()), name


@pytest.mark.parametrize("name", ENTRIES)
def test_metrics_of_a_cell_are_in_the_order_they_must_be(name: str) -> None:
    found = means(ENTRIES[name])
    assert all(0 < value < 1 for value in found.values())
    # Longer lists cannot lose; a hit is worth at most 1, by MRR's discount less than by NDCG's.
    for chain in (
        ("hr@1", "hr@5", "hr@10"), ("ndcg@5", "ndcg@10"), ("mrr@5", "mrr@10"),
        ("mrr@5", "ndcg@5", "hr@5"), ("mrr@10", "ndcg@10", "hr@10"), ("hr@1", "mrr@5"),
    ):  # fmt: skip
        known = [found[key] for key in chain if key in found]
        assert all(b >= a - ROUNDING for a, b in pairwise(known)), chain


@pytest.mark.parametrize("name", ENTRIES)
def test_a_cell_has_a_source_that_says_how_many_seeds(name: str) -> None:
    entry = ENTRIES[name]
    source = CONTENT["sources"][entry["source"]]
    assert len(source["what"]) > 10
    for key, value in entry.items():
        if key != "source":
            # Mean and spread of several runs, or the number of one.
            assert isinstance(value, list) == (source["seeds"] > 1), key
            if isinstance(value, list):
                mean, std = value
                assert 0 < std < 0.15 * mean, key


def test_the_losses_come_in_the_order_that_the_paper_tells() -> None:
    known = facts()
    for dataset in ("beauty", "yelp"):
        for model in ("sasrec", "fmlp_rec"):
            of = {loss: known.test(dataset, model, loss).mean for loss in LOSSES}
            high, low = [of["ce"], of["sce"], of["nce"]], [of["bce"], of["bpr"]]
            assert max(high) - min(high) < 0.003
            assert min(high) > max(low)
    caser = {loss: known.test("yelp", "caser", loss).mean for loss in LOSSES}
    assert caser["bce"] > caser["sce"] > caser["ce"]  # the exception


def test_validation_rises_towards_what_was_tested() -> None:
    known = facts()
    for dataset in DATASETS:
        for model in BACKBONES:
            for loss in LOSSES:
                curve, test = known.valid(dataset, model, loss), known.test(dataset, model, loss)
                assert list(curve) == [5, 10, 20], (dataset, model, loss)
                assert test is not None
                # Caser on Yelp is at its best after five epochs, before it overfits.
                early = (dataset, model) == ("yelp", "caser") and loss in ("nce", "ce", "sce")
                assert (curve[5].mean < curve[20].mean) is not early, (dataset, model, loss)
                assert all(point.mean < 1.5 * test.mean for point in curve.values()), (dataset, model, loss)

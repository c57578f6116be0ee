import io

import numpy as np
from rich.console import Console

from recsys_lt.metrics.all_metrics import all_metrics, expose
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.results.tables import print_final_table


def metrics(ks=(1, 5, 10, 20)):
    exposure = {k: np.zeros(40, dtype=np.int64) for k in ks}
    expose(exposure, np.tile(np.arange(max(ks)), (3, 1)))
    counts = np.arange(40, 0, -1)
    test = all_metrics(np.array([1, 7, 0]), np.array([0, 1, 20]), exposure, counts, ItemGroups(counts).of, ks)
    return {
        "dataset": "beauty", "model": "sasrec", "loss": "ce", "optimizer": "adam", "seed": 3,
        "protocol": {"split": "leave one out", "max_length": 50, "seen_masked": True, "n_items": 12101,
                     "groups": {"head": 0.2, "mid": 0.6, "tail": 0.2}, "ties": "pessimistic",
                     "ranking": "full, over all 12101 items", "users": 6040},
        "test": test, "best_epoch": 105, "epochs": 200,
    }  # fmt: skip


def printed(content, **options):
    stream = io.StringIO()
    print_final_table(content, console=Console(file=stream, width=80, **options))
    return stream.getvalue()


def test_fits_80_columns_when_not_a_terminal():
    text = printed(metrics())
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    lines = text.splitlines()
    row = next(line for line in lines if "NDCG@10" in line)
    assert row.split() == ["NDCG@10", "0.4444", "0.6667", "0.0000", "-", "0.0000"]  # no user has a tail target
    order = [line.split()[0] for line in lines if line.startswith((" NDCG@", " HR", " MRR@", "NDCG@"))]
    assert order[:3] == ["NDCG@10", "HR@10", "MRR@10"]
    assert "coverage 0.2500" in text
    assert "seen masked yes" in text
    assert "groups head 0.2/mid 0.6/tail 0.2" in text.replace("\n", " ")
    assert "n items 12,101; " in " ".join(text.split())
    assert "ranking full, over all 12,101 items; users 6,040" in " ".join(text.split())


def test_ten_stands_out_in_a_terminal():
    text = printed(metrics(), force_terminal=True)
    assert "\x1b[1m" in next(line for line in text.splitlines() if "NDCG@10" in line)


def test_a_run_with_other_list_lengths():
    text = printed(metrics(ks=(5,)))
    assert "NDCG@5" in text
    assert "@20" not in text
    assert "recommended@5" in text


def test_candidates_in_random_order_stand_beside_the_retriever_alone():
    content = metrics()
    assert "random order" not in printed(content)
    first = {"retriever/ndcg@10": 0.0988, "random_order/ndcg@10": 0.0852, "random_order/ndcg_std@10": 0.0117}
    content["test"] |= first | {"position_bias": 0.25, "generated/catalogue": 0.5, "generated/history": 0.125}
    text = " ".join(printed(content).split())
    assert "NDCG@10, retriever alone 0.0988" in text
    assert "NDCG@10, its candidates in random order 0.0852" in text
    assert "its standard deviation over orders 0.0117" in text
    assert "position bias 0.2500" in text
    assert "generated titles in the catalogue 0.5000" in text
    assert "generated titles of the history 0.1250" in text

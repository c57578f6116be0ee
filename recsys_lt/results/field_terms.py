"""The field's terms for names in configurations and metrics: SASRec for ``sasrec``, NDCG@10 for ``ndcg@10``."""

from __future__ import annotations

from unicodedata import lookup

_REGULAR = """
    ML-100K ML-1M Beauty Sports Toys Yelp SASRec GRU4Rec BERT4Rec BIGRec BSARec Caser E4SRec LlamaRec LRURec
    Cotten4Rec LinRec HSTU eSASRec gSASRec
    BCE BPR BSL CE DSL NCE PSL SCE SL SSM gBCE Adagrad Adam AdamW ASAM EISAM ImbSAM NAdam SAM SGD Gini Coverage Exposure
    NDCG HR MRR ARP APLT Overall Head Mid Tail Nonhead Uniform Retriever
"""
_TERMS = {term.lower(): term for term in _REGULAR.split()} | {
    "lastfm": "Last.fm", "sl_at_k": "SL@K",
    "fmlp_rec": "FMLP-Rec", "pop": "Popularity", "title_likelihood": "title likelihood",
    "ce_logit_adjusted": "logit-adjusted CE", "sce_logit_adjusted": "logit-adjusted SCE", "own": "the model's loss",
    "causal_linrec": "causal LinRec", "focal_sam": "Focal-SAM", "lazy_adam": "Lazy Adam",
    "inverse_frequency": "inverse frequency",
    "random_order": "Random order", "prior_head": "Prior head", "prior_nonhead": "Prior nonhead",
    "data_head": "data head", "data_nonhead": "data nonhead", "lr": "learning rate", "itemgraph": "item graph",
}  # fmt: skip
GREEK = {name: lookup(f"GREEK SMALL LETTER {name}") for name in ("alpha", "eta", "gamma", "rho", "tau")}


def term(name: str) -> str:
    """A dataset, model, loss, optimizer or group as the field writes it; of a setting ``key=value``, "key value"."""
    key, equals, value = name.partition("=")
    if equals:
        return f"{GREEK[key]}={value}" if key in GREEK else f"{key.replace('_', ' ')} {value}"
    first, *more = name.split(", ")  # a dataset may be followed by how it was ranked
    return ", ".join([_TERMS.get(first, first), *more])


def metric_and_group(metric: str) -> tuple[str, str]:
    """A metric by its name in metrics.json, as "NDCG@10", and its group of targets, "Overall" where it has none."""
    *group, measure = metric.split("/")
    name, at, k = measure.partition("@")
    return f"{term(name)}{at}{k}", " ".join(map(term, group)) or "Overall"


def in_a_sentence(metric: str) -> str:
    """A metric such as "NDCG@10", or "NDCG@10 of tail targets"."""
    measure, group = metric_and_group(metric)
    return measure if "/" not in metric else f"{measure} of {group.lower()} targets"

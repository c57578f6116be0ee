"""What ``bench.py`` measures."""

from dataclasses import dataclass

#: Beauty's sizes, for machines that do not have it.
MADE_UP = (
    "dataset=synthetic",
    "dataset.source.n_users=22363",
    "dataset.source.n_items=12101",
    "dataset.source.mean_length=8.876",
)
SETTING = ("trainer.batch_rows=512", "trainer.rank_rows=256", "optimizer=adam", "strategy=cpu", "logger=none")
#: The published setting of SASRec on Beauty: alike for every loss, so that their times compare.
SASREC = ("model=sasrec", "model.dropout=0.6", "optimizer.lr=5e-4")


@dataclass(frozen=True)
class Measurement:
    """What is timed.

    Parameters
    ----------
    choices
        Overrides of the configuration.
    products
        Columns of the products of the loss: ``items`` for the catalogue, ``k`` for the negatives, ``pair`` for
        a target and one negative; ``ranking`` is the evaluation.
    exponentials
        Columns of its exponentials, in the same words; "" for none.
    lists
        Length of the lists an evaluation makes.
    against
        Name of a measurement timed in turn with this one, in the same process; "" for none.
    """

    choices: tuple[str, ...]
    products: str
    exponentials: str
    lists: int = 0
    against: str = ""


_CE = (*SASREC, "loss=ce")
_SCE = (*SASREC, "loss=sce", "loss.k=500", "loss.alpha=100")
MEASUREMENTS = {
    "ce-float32": Measurement(_CE, "items", "items"),
    "ce-bf16": Measurement((*_CE, "precision=bf16"), "items", "items", against="ce-float32"),
    "sce-500-position": Measurement((*_SCE, "loss.share=position"), "k", "k", against="ce-float32"),
    "sce-500-batch": Measurement((*_SCE, "loss.share=batch"), "k", "k", against="ce-float32"),
    "bce": Measurement((*SASREC, "loss=bce"), "pair", "pair", against="ce-float32"),
    "gru4rec-ce": Measurement(("model=gru4rec", "loss=ce"), "items", "items"),
    # A row is a user: 87 of Beauty's have 512 targets.
    "gru4rec-ce-one-pass": Measurement(
        ("model=gru4rec", "model.one_pass=true", "loss=ce", "trainer.batch_rows=87"), "items", "items"
    ),
    "caser-ce": Measurement(("model=caser", "loss=ce"), "items", "items"),
    "fmlp_rec-ce": Measurement(("model=fmlp_rec", "loss=ce"), "items", "items"),
    "bert4rec-ce": Measurement(("model=bert4rec", "loss=ce"), "items", "items"),
    "cotten4rec-ce": Measurement(("model=cotten4rec", "loss=ce"), "items", "items", against="bert4rec-ce"),
    "linrec-ce": Measurement(("model=linrec", "loss=ce"), "items", "items", against="bert4rec-ce"),
    "causal_linrec-ce": Measurement(("model=causal_linrec", "loss=ce"), "items", "items", against="ce-float32"),
    "hstu-ce": Measurement(("model=hstu", "loss=ce"), "items", "items", against="ce-float32"),
    "adamw": Measurement((*_SCE, "optimizer=adamw"), "k", "k"),
    "sam": Measurement((*_SCE, "optimizer=sam"), "k", "k", against="adamw"),
    "eisam": Measurement((*_SCE, "optimizer=eisam"), "k", "k", against="adamw"),
    "eisam-stale": Measurement((*_SCE, "optimizer=eisam", "optimizer.form=stale"), "k", "k", against="adamw"),
    "eisam-every-4": Measurement((*_SCE, "optimizer=eisam", "optimizer.every=4"), "k", "k", against="adamw"),
    "evaluate": Measurement(_CE, "ranking", ""),
    "evaluate-lists-20": Measurement(_CE, "ranking", "", lists=20),
}

"""A callback: how long the item vectors are, epoch by epoch."""

import pytorch_lightning as pl


class ItemNorms(pl.Callback):
    """Logs the mean norm of the item vectors; what a callback logs is a column of ``learning_curve.csv``."""

    def __init__(self, name: str = "norms/items") -> None:
        self.name = name

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        (table,) = pl_module.item_tables()
        pl_module.log(self.name, table.detach().norm(dim=1).mean())

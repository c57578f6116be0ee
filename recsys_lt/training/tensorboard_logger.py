"""TensorBoard as a logger."""

import os
import shlex
from pathlib import Path
from typing import Any

from recsys_lt.runs.reading import flat
from recsys_lt.training.loggers import Examples, SendingLogger, floats


class TensorBoardLogger(SendingLogger):
    """TensorBoard: curves, final metrics beside the settings, and pictures, in ``tensorboard/`` of the run folder."""

    name, package, extra = "TensorBoard", "tensorboard", "tensorboard"

    def _start(self, cell: dict[str, Any], group: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._epoch, self._cell = 0, cell
        self._writer = SummaryWriter(str(self._folder / "tensorboard"))
        place = self._folder if group is None else self._folder.parent
        print(f"TensorBoard: tensorboard --logdir {shlex.quote(os.path.relpath(place))}", flush=True)

    def _log(self, row: dict[str, Any]) -> None:
        self._epoch = row["epoch"]
        for name, value in floats(row).items():
            if name != "epoch":
                self._writer.add_scalar(name, value, self._epoch)
        self._writer.flush()

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None:
        if metrics is not None:
            from matplotlib.image import imread

            for name, path in pictures.items():
                self._writer.add_image(name, imread(path)[..., :3], self._epoch, dataformats="HWC")
            stage = "test" if "test" in metrics else "valid"
            settings = self._cell | {
                key: value for key, value in flat(self._config).items() if isinstance(value, bool | int | float | str)
            }
            found = {f"final/{stage}/{name}": value for name, value in floats(metrics[stage]).items()}
            self._writer.add_hparams(settings, found, run_name=".", global_step=self._epoch)
        self._writer.close()

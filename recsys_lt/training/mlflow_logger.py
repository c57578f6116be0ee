"""MLflow as a logger."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_lt.runs.reading import flat
from recsys_lt.training.loggers import Artifact, Examples, SendingLogger, artifacts, floats, without_long_tail


class MLflowLogger(SendingLogger):
    """MLflow: an experiment with a run per run folder, the same one after a resume. ``@`` is ``_at_`` in its names.

    Parameters
    ----------
    experiment
        MLflow experiment.
    uri
        Server or database, such as ``http://localhost:5000`` or ``sqlite:///mlflow.db``; null for
        ``MLFLOW_TRACKING_URI``, or MLflow's own default.
    artifacts
        Files that are sent with a finished run, beside pictures: ``config``, ``report``, ``checkpoint``.
    """

    name, package, extra = "MLflow", "mlflow", "mlflow"

    def __init__(
        self, experiment: str = "recsys_lt", uri: str | None = None, artifacts: Sequence[Artifact] = ()
    ) -> None:
        self.experiment, self.uri, self.artifacts = experiment, uri, artifacts

    def _start(self, cell: dict[str, Any], group: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.uri)

        def new() -> str:
            found = self._client.get_experiment_by_name(self.experiment)
            number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
            tags = {key: str(value) for key, value in cell.items()} | ({} if group is None else {"sweep": group})
            made = self._client.create_run(number, run_name=self._folder.name, tags=tags)
            settings = {_plain(key): str(value)[:500] for key, value in flat(self._config).items()}
            params = [Param(key, value) for key, value in settings.items()]
            for first in range(0, len(params), 100):  # as many as it takes at a time
                self._client.log_batch(made.info.run_id, params=params[first : first + 100])
            return str(made.info.run_id)

        self._id, self._epoch = self._known_id(new), 0
        self._client.update_run(self._id, status="RUNNING")
        print(f"MLflow: {self._client.tracking_uri}, experiment {self.experiment}, run {self._id}", flush=True)

    def _log(self, row: dict[str, Any]) -> None:
        self._epoch = row["epoch"]
        self._send({name: value for name, value in floats(row).items() if name != "epoch"})

    def _send(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        sent = [Metric(_plain(name), value, now, self._epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=sent)

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None:
        if metrics is not None:
            final = floats(flat(without_long_tail(metrics), "/"))
            self._send({f"final/{name}": value for name, value in final.items()})
            sent = [*pictures.values(), *(path for _, path in artifacts(self._folder, self.artifacts))]
            for path in sent:
                self._client.log_artifact(self._id, str(path))
        self._client.set_terminated(self._id, "FAILED" if metrics is None else "FINISHED")


def _plain(name: str) -> str:
    """A name as MLflow takes it."""
    return name.replace("@", "_at_")

"""Table 2: how large the models are."""

from studies.ce_sce.evidence import BACKBONES, DATASETS, Evidence
from studies.ce_sce.language_models import names
from studies.ce_sce.main_table import COMMANDS
from studies.ce_sce.piece import Piece, Value


def models_table(evidence: Evidence) -> Piece:
    """Parameters as the runs counted them, beside the published language models."""
    rows: list[list[Value]] = []
    called = BACKBONES | names(evidence)
    for dataset, dataset_name in DATASETS.items():
        models = dict.fromkeys(
            [*BACKBONES, *(cell.identity[1] for cell in evidence.readable if cell.dataset == dataset and cell.finished)]
        )
        for model in models:
            cells = evidence.any_of(dataset, model)
            trains = [run.metrics["train"] for cell in cells for run in cell.finished if run.metrics is not None]
            counts = sorted({int(train["parameters"]) for train in trains if train.get("parameters")})
            if not counts:
                continue
            both = (train.get("trained_parameters", train.get("parameters")) for train in trains)
            trained = sorted({int(count) for count in both if count is not None})
            lengths = sorted(
                {
                    int(run.metrics["protocol"]["max_length"])
                    for c in cells
                    for run in c.finished
                    if run.metrics is not None and run.metrics["protocol"].get("max_length") is not None
                }
            )
            rows.append(
                [dataset_name, called.get(model, model), _range(counts), _range(trained), _range(lengths), "counted"]
            )
    for each in evidence.facts.language_models:
        size = f"{each.parameters:,.1f} M".replace(".0 M", " M")
        rows.append([None, f"{each.name} ({each.language_model})", size, None, None, "published"])
    return Piece(
        "table2",
        "Table 2: models",
        ["dataset", "model", "parameters", "trained", "latest events read", "where from"],
        rows,
        "Counted by the runs themselves, item vectors included.",
        commands=COMMANDS,
    )


def _range(values: list[int]) -> str:
    if not values:
        return "-"
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"

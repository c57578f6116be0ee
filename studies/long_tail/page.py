"""Make docs/long_tail.md: what tuning found and what the chosen settings gave, from runs.parquet.

``python studies/long_tail/page.py`` (or ``make page``). Only what ran is on it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from recsys_lt.cli import table
from recsys_lt.results.cells import cells_of
from recsys_lt.runs.listing import find_runs
from recsys_lt.runs.packed import runs_in
from recsys_lt.system.atomic import write_text
from studies.long_tail.tune import RUNS, Trial, base_of, choice, study_named, trials_of
from studies.shared.pages import table_lines

ROOT = Path(__file__).resolve().parents[2]
CONTENT = RUNS.parents[1] / "content" / "runs.parquet"
COMMAND = "python studies/long_tail/page.py"


def _words(change: Mapping[str, Any]) -> str:
    words = (f"`{key}={'null' if value is None else value}`" for key, value in change.items())
    return " ".join(words) or "unchanged"


def trials_table(study: Mapping[str, Any], trials: Mapping[str, list[Trial]], best: Mapping[str, Trial | None]) -> str:
    """Markdown: a row a trial that ran, the chosen ones bold."""
    rows = []
    base = max((trial.overall for trial in trials[base_of(study)]), default=None)
    for method, found in trials.items():
        for trial in found:
            numbers = (trial.overall, trial.head, trial.nonhead)
            kept = "-" if base is None else f"{trial.overall / base:.1%}"
            cells = [method, _words(trial.change), *(f"{number:.4f}" for number in numbers), kept]
            rows.append([f"**{cell}**" for cell in cells] if trial == best[method] else cells)
    wanted = sum(len(given["trials"]) for given in study["methods"].values())
    lines = table_lines(["method", "trial", "valid NDCG@10", "head", "nonhead", f"of {base_of(study)}'s best"], rows)
    if len(rows) < wanted:
        lines += ["", f"{len(rows)} of {wanted} trials have run."]
    return "\n".join(lines)


def _of_the_choice(study: Mapping[str, Any], best: Mapping[str, Trial | None], seeds: Path) -> list[str]:
    """What a reader must know of how the runs with more seeds were picked."""
    ran = {tuple(run.name.rsplit("_", 2)[:2]) for run in runs_in(seeds) or []}
    chosen = {(method, str(trial.number)) for method, trial in best.items() if trial is not None}
    base = best[base_of(study)]
    lines = []
    if besides := sorted((m, n) for m, n in ran - chosen if m in best and best[m] is not None):
        said = "; ".join(f"{m} ({_words(study['methods'][m]['trials'][int(n)])})" for m, n in besides)
        lines += [
            f"Chosen after a look at test results, not by the rule: {said}.",
            "Their p is no confirmation: the seed that was looked at is among those tested.", "",
        ]  # fmt: skip
    if base is not None and (
        short := [t.method for t in best.values() if t and t.overall < study["keep"] * base.overall]
    ):
        required = f"the required share of {base_of(study).capitalize()}'s validation NDCG@10"
        lines += [f"No trial of {', '.join(short)} keeps {required}; the closest is used.", ""]
    return lines


def sharpness_table(study: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Markdown: how sharp the loss is around trials in one neighbourhood; nothing where none was measured."""
    found = {}
    for method, given in study["methods"].items():
        for number, change in enumerate(given["trials"]):
            if (result := measured.get(f"{method}_{number}")) is not None:
                found[method, number, _words(change)] = result
    if not found:
        return []
    rows = []
    for (method, _, words), result in found.items():
        groups = [group for group in result["here"] if group != "all"]
        numbers = [result["here"][group] for group in groups] + [result["neighbourhood"][group] for group in groups]
        rows.append([method, words, *(f"{number:.3f}" for number in numbers)])
    (rule,) = {result["rule"] for result in found.values()}
    (targets,) = {result["targets"] for result in found.values()}
    return [
        f"### Sharpness: rise of the training loss under {rule}'s perturbation", "",
        f"`python -m recsys_lt sharpness <run> --rule <run of {rule} with optimizer.form=rowwise>`: the best",
        "checkpoint of each trial is perturbed by the same rule, with radii relative to the norms of the rows.",
        f"The losses are those of {targets:,} training targets.", "",
        *table_lines(
            ["method", "trial", *(f"loss, {group}" for group in groups), *(f"rise, {group}" for group in groups)], rows
        ), "",
    ]  # fmt: skip


def _reference(seeds: Path, base: str, taken: Trial | None) -> str | None:
    """The cell of the base's chosen trial, as briefly as it is unmistakable; None if the base has no seeds."""
    cells = cells_of(find_runs(seeds)) if seeds.is_dir() or runs_in(seeds) else []
    wanted = f"{base}_" if taken is None else f"{base}_{taken.number}_seed"
    found = next((c for c in cells if any(run.folder.name.startswith(wanted) for run in c.finished)), None)
    if found is None:
        return None
    alike = [cell for cell in cells if cell.identity == found.identity]
    return "/".join(found.identity[1:]) if len(alike) == 1 else found.label


def section(name: str, study: Mapping[str, Any], runs: Path, measured: Mapping[str, Any], pictures: Path) -> list[str]:
    """One study; nothing if none of it has run."""
    trials = {method: trials_of(name, method, study, runs) for method in study["methods"]}
    if not any(trials.values()):
        return []
    best = {method: choice(name, method, study, runs) for method in study["methods"]}
    picture = pictures / f"{name}_trials.png"
    if table.main([str(runs / name / "trials"), "--plot", str(picture)]) != 0:
        raise SystemExit(f"error: no table of {name}'s trials")
    lines = [
        f"## {name}", "",
        f"`python studies/long_tail/tune.py {name}`: {_words(study['common'])}, "
        f"a trial must keep {study['keep']:g} of {base_of(study)}'s validation NDCG@10.",
        "", "### Trials, seed 0: validation", "", trials_table(study, trials, best), "",
        "Test NDCG@10 of the same trials, the best overall on top:", "",
        f"![NDCG@10 by group of targets, trials]({pictures.name}/{picture.name})", "",
    ]  # fmt: skip
    seeds = runs / name / "seeds"
    against = _reference(seeds, base_of(study), best[base_of(study)])
    if against is not None:
        draft, picture = pictures / f"{name}.md", pictures / f"{name}.png"
        if table.main([str(seeds), "--against", against, "--markdown", str(draft), "--plot", str(picture)]) != 0:
            raise SystemExit(f"error: no table of {seeds}")
        lines += [
            "### More seeds: test", "",
            *([] if all(best.values()) else ["Not all trials have run, so what is chosen may yet change.", ""]),
            *_of_the_choice(study, best, seeds),
            f"`python -m recsys_lt table studies/long_tail/runs.parquet/{name}/seeds --against {against}`", "",
            draft.read_text(encoding="utf-8").strip(), "",
            f"![NDCG@10 by group of targets]({pictures.name}/{picture.name})", "",
        ]  # fmt: skip
        draft.unlink()
    lines += sharpness_table(study, measured)
    besides = runs / name / "besides"
    if runs_in(besides):
        draft = pictures / f"{name}.md"
        if table.main([str(besides), "--markdown", str(draft)]) != 0:
            raise SystemExit(f"error: no table of {besides}")
        lines += [
            "### Also run, outside the study's trials: test", "",
            f"`python -m recsys_lt table studies/long_tail/runs.parquet/{name}/besides`", "",
            draft.read_text(encoding="utf-8").strip(), "",
        ]  # fmt: skip
        draft.unlink()
    return lines


def together(name: str, study: str, content: str, against: str, runs: Path, pictures: Path) -> list[str]:
    """Training rules, item text and counts on a dataset in a figure and a table; nothing if a part has not run."""
    places = [CONTENT / content, *(runs / f"{study}{text}" / "seeds" for text in ("", "_text"))]
    if not all(runs_in(place) for place in places):
        return []
    of_rules = (f"studies/long_tail/runs.parquet/{place.parent.name}/seeds" for place in places[1:])
    said = [f"studies/content/runs.parquet/{content}", *of_rules]
    draft, picture = pictures / f"{study}_together.md", pictures / f"{study}_together.png"
    written = ["--markdown", str(draft), "--trade-off", str(picture), "--against", against]
    if table.main([*map(str, places), *written]) != 0:
        raise SystemExit(f"error: no table of text and counts on {name}")
    lines = [
        f"## Training rules, item text and counts on {name}", "",
        "`features=TfIdf`: item text in SASRec's item table. `itemgraph`: transition counts, and item text if",
        "the search selects it; nothing is trained ([item graph](models/itemgraph.md)). `blend`, if in the",
        "table: the item graph and three seeds of SASRec without text. The test results of the item graph on",
        "Beauty were seen during its development (`studies/content/README.md`), so its p there are no",
        "confirmation. `keep`: the share of the best validation NDCG@10 that is kept for the best nonhead",
        "one.", "",
        f"`python -m recsys_lt table {' '.join(said)} --against {against} --trade-off {picture.name}`", "",
        f"![nonhead against all and head targets]({pictures.name}/{picture.name})", "",
        draft.read_text(encoding="utf-8").strip(), "",
    ]  # fmt: skip
    draft.unlink()
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("study.yaml"), help="the studies")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished runs are kept")
    parser.add_argument("--sharpness", type=Path, default=RUNS.with_name("sharpness.json"), help="measured sharpness")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "long_tail.md", help="the page")
    asked = parser.parse_args(argv)
    sharpness = json.loads(asked.sharpness.read_text(encoding="utf-8"))
    pictures = asked.out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Long-tail results", "",
        "Trials and test results of the methods for the long tail. [Improve the long tail](lifting_the_tail.md) sums",
        f"them up. Made by `{COMMAND}` from runs.parquet beside it; not written by hand.", "",
        "Head is the most popular fifth of the items by training interactions, nonhead is all others. Users are",
        "grouped by their target. Within a study each method has about as many trials. A trial must keep the",
        "stated share of Adam's validation NDCG@10. Of those that do, the one with the best nonhead validation",
        "NDCG@10 is chosen (bold) and run with more seeds. Adam, the reference, is chosen by its overall",
        "validation NDCG@10 instead, so its nonhead NDCG@10 is not tuned, and a method may exceed it there by this",
        "choice alone. Where another trial of Adam has seeds too, compare with both. EISAM is our reconstruction (see",
        "`recsys_lt/optim/eisam.py`). [How differences are tested](statistics.md) explains the intervals and p.", "",
    ]  # fmt: skip
    for name in yaml.safe_load(asked.file.read_text(encoding="utf-8")):
        lines += section(name, study_named(name, asked.file), asked.runs, sharpness.get(name, {}), pictures)
    for name, study, content, loss in (
        ("Beauty", "beauty_sce", "front", "sce"),
        ("ML-100K", "ml_100k", "ml100k", "ce"),
    ):
        lines += together(name, study, content, f"sasrec/{loss}/adam/features=none", asked.runs, pictures)
    write_text(asked.out, "\n".join(lines).rstrip() + "\n")
    print(f"{asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Schema of ``metrics.json`` in a run folder."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import read_json


def _printable(text: str) -> str:
    if not text.isprintable() or not text or len(text) > 200:
        raise ValueError("it is not a line of at most 200 printable characters")
    return text


Line = Annotated[str, AfterValidator(_printable)]
#: Sums over any number of runs stay finite.
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Metrics = dict[Line, Number | None]


class _Part(BaseModel):
    """Finite numbers and exact types; keys of other versions are kept as they are."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Protocol(_Part):
    split: Line | None = None
    users: NonNegativeInt | None = None
    items: NonNegativeInt | None = None
    interactions: NonNegativeInt | None = None
    max_length: NonNegativeInt | None = None
    ranked_users: Line | None = None
    training_rows: Line | None = None
    mask_seen: Line | None = None
    groups: dict[Line, float] | None = None
    groups_by: Line | None = None
    fingerprint: str | None = None


class _Train(_Part):
    seconds_per_epoch: float | None = None
    eval_seconds: float | None = None
    peak_rss_mb: float | None = None
    targets_per_second: float | None = None
    tokens_per_second: float | None = None
    parameters: NonNegativeInt | None = None
    trained_parameters: NonNegativeInt | None = None
    device: Line | None = None
    processes: NonNegativeInt | None = None
    threads: NonNegativeInt | None = None


class _Served(_Part):
    users: NonNegativeInt | None = None
    ndcg: float | None = Field(None, alias="ndcg@10")
    low: float | None = None
    high: float | None = None


class _Decile(_Served):
    least: NonNegativeInt
    most: NonNegativeInt
    interactions: float | None = None
    exposure: float | None = None


class _History(_Served):
    shortest: NonNegativeInt
    longest: NonNegativeInt
    users: NonNegativeInt


class _LongTail(_Part):
    deciles: list[_Decile] | None = None
    histories: list[_History] | None = None


class _ByPrior(_Part):
    prior: Line
    data: Line
    items: NonNegativeInt
    users: NonNegativeInt
    interactions: float | None
    exposure: float | None
    ndcg: float | None = Field(alias="ndcg@10")
    low: float | None
    high: float | None
    hr: float | None = Field(alias="hr@10")


class _Prior(_Part):
    matrix: list[_ByPrior] = Field(alias="2x2")


class _File(_Part):
    dataset: Line
    model: Line
    loss: Line
    optimizer: Line
    seed: int
    test: Metrics
    # What versions before did not write may be absent.
    valid: Metrics = {}
    protocol: _Protocol = _Protocol()
    long_tail: _LongTail = _LongTail()
    prior: _Prior | None = None
    best_epoch: NonNegativeInt = 0
    epochs: NonNegativeInt = 0
    finished: bool = True
    train: _Train = _Train()
    versions: dict[Line, Line | None] = {}


def read_metrics(path: Path) -> dict[str, Any]:
    """Read and check the metrics.json of a run; UserError for a file that is absent, or not what a run writes."""
    content = read_json(path)
    try:
        validated = isinstance(content, dict) and "valid" in content  # and not tested, with trainer.test=false
        _File.model_validate({"test": {}} | content if validated else content)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        lacking = [str(each["loc"][0]) for each in wrong if each["type"] == "missing" and len(each["loc"]) == 1]
        first = wrong[0]
        place = ".".join(str(key) for key in first["loc"])
        what = f"{place or 'it'} is {str(first['input'])[:60]!r} ({first['msg'][:1].lower()}{first['msg'][1:]})"
        if lacking:
            what = f"does not say its {', '.join(lacking)}"
        raise UserError(what, where=path, remedy="Mend or remove that run folder") from error
    assert isinstance(content, dict)
    return content

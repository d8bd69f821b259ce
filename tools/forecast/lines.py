"""Which published lines a forecast is fitted to: plain LoRA, one line a trained sweep, in one unit.

Scores are in points (0 to 100) and losses in % of the loss (100 times the logarithm); higher is better in both. Left
out, each for a reason: other methods, what was forgotten, training and classifier losses, averages of tasks that were
trained one by one, single tasks of an average over the same runs, second metrics of one task, repeats, learning rates
that were not the best of their rank where a study tried several, scores that are not a share of 100, and ranks above
256. Reinforcement learning is apart: its lines are drawn, and no forecast uses them.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlparse

from rankviz.core.forecast.bands import GRID, LOSS, RankLine, points_scale, share_error
from rankviz.core.model.towers import is_chat
from rankviz.core.studies.lines import RL, Evidence, Line, Study

REPEATED = {
    ("adalora_glue", "Table 1", "GLUE dev: MNLI-m"),
    ("adalora_glue", "Table 1", "GLUE dev: MNLI-mm"),
    ("adalora_glue", "Table 1", "GLUE dev: SST-2"),
}
"""Runs that another table of the study has too, with more ranks."""
BROKEN = {"dora_commonsense"}
"""At its low ranks the authors' generations broke: r = 4 is 26 points short of r = 64. It stands among the studies, but
no width of band is worth having that holds it."""
MATH_OR_CODE = re.compile(r"gsm|math|humaneval|mbpp|\bcode\b|program", re.IGNORECASE)
COMMONSENSE = re.compile("commonsense", re.IGNORECASE)
TEST_ITEMS = {
    "gsm": 1319, "math": 5000, "humaneval": 164, "mmlu": 14042, "mt-bench": 80, "squad": 10570, "mnli": 9815,
    "multinli": 9815, "sst": 872, "cola": 1043, "qqp": 40430, "qnli": 5463, "rte": 277, "mrpc": 408, "sts-b": 1500,
    "wikisql": 8421, "arc": 1172, "truthfulqa": 817, "commonsense": 22000, "ifeval": 541, "imdb": 25000,
    "robot": 129,
}  # fmt: skip
"""Items of public test sets, by a word of the task or metric; the first that occurs after the arrow counts."""
STATED_ITEMS = re.compile(r"\bn\s?=\s?(\d+)|\blimit (\d+)\b|\((\d+) items\)")


def rank_lines(evidence: Evidence, *, rl: bool = False) -> tuple[RankLine, ...]:
    """All lines that a forecast rests on, in the order of the evidence; or with rl those of reinforcement learning,
    which none rests on."""
    published = [line for line in evidence.published if (line.study.task_kind == RL) is rl]
    lines = _tuned([line for line in published if _usable(line)])
    kept = [line for line in lines if not _is_part(line, lines) and not _is_second_metric(line, lines)]
    return tuple(rank_line for line in kept if (rank_line := _rank_line(line)) is not None)


def _usable(line: Line) -> bool:
    first = line.first
    return (
        first.method == "lora"
        and first.role in ("main", "detail")
        and line.study.study_id not in BROKEN
        and (line.study.study_id, first.table, first.task) not in REPEATED
        and not first.metric.startswith(("average", "train_loss"))
        and (first.is_loss or "loss" not in first.metric)
    )


def _tuned(lines: Iterable[Line]) -> list[Line]:
    """Lines with the best rate of each rank, where a study tried several at each rank and has them as lines."""
    tuned: dict[tuple, Line] = {}
    for line in lines:
        first = line.first
        one_rate = first.learning_rates_tried == 1
        key = (first.study_id, first.base_model, first.task, first.metric, first.duration, first.target_modules)
        key = key if one_rate else (*key, first.table, first.run_date)
        known = tuned.get(key)
        tuned[key] = replace(line, points=(*known.points, *line.points)) if known else line
    by_rank = {key: line for key, line in tuned.items() if len(_best_by_rank(line)) > 1}
    # The study's own choice of rates comes before ours.
    chosen = {key[:6] for key in by_rank if len(key) > 6}
    return [line for key, line in by_rank.items() if len(key) > 6 or key not in chosen]


def _is_part(line: Line, lines: Iterable[Line]) -> bool:
    """A single task of an average over the same runs."""
    return line.first.role == "detail" and any(
        other.first.role == "main" and "average" in other.first.task.lower() and _same_runs(line, other)
        for other in lines
    )


def _is_second_metric(line: Line, lines: Sequence[Line]) -> bool:
    """Another metric of a task that is better known by its main one, or by an earlier one."""
    same = [other for other in lines if _same_runs(line, other) and _test(other) == _test(line)]
    main = [other for other in same if other.first.role == "main"]
    return bool(same) and line is not (main or same)[0]


def _same_runs(line: Line, other: Line) -> bool:
    a, b = line.first, other.first
    return (
        line.study is other.study
        and a.is_loss == b.is_loss
        and (a.base_model, a.duration, a.run_date, a.target_modules, a.table)
        == (b.base_model, b.duration, b.run_date, b.target_modules, b.table)
    )


def _test(line: Line) -> str:
    """The task without the variants of one test: matched and mismatched MNLI share a training."""
    return re.sub(r"MNLI-m+$", "MNLI", line.first.task)


def _best_by_rank(line: Line) -> dict[int, tuple[float, float | None]]:
    """Value and standard error by rank, up to the largest rank of a forecast; of several runs the best."""
    best: dict[int, tuple[float, float | None]] = {}
    sign = 1 if line.first.higher_is_better else -1
    for point in line.points:
        known = best.get(point.rank)
        if point.rank <= GRID[-1] and (known is None or sign * point.value > sign * known[0]):
            best[point.rank] = point.value, point.standard_error
    return dict(sorted(best.items()))


def _rank_line(line: Line) -> RankLine | None:
    first, best = line.first, _best_by_rank(line)
    loss = first.is_loss
    if loss and min(value for value, _ in best.values()) <= 0:
        return None
    scale = 1.0 if loss else points_scale(first.metric, [value for value, _ in best.values()])
    if not loss and not all(0 <= scale * value <= 100 for value, _ in best.values()):
        return None
    sign = 1 if first.higher_is_better else -1
    values, errors = [], []
    for value, error in best.values():
        values.append(-100 * math.log(value) if loss else sign * scale * value)
        errors.append(_standard_error(line, value, error, scale, loss))
    return RankLine(
        metric=LOSS if loss else "score",
        kind=LOSS if loss else kind_of(line.study, first.task),
        publication=publication(line.study),
        study_id=line.study.study_id,
        base_model=first.base_model,
        task=first.task,
        ranks=tuple(best),
        values=tuple(values),
        standard_errors=tuple(errors),
        parameters=line.model.parameters,
        base=not is_chat(first.base_model),
        errors_published=any(error for _, error in best.values()),
    )


def _standard_error(line: Line, value: float, error: float | None, scale: float, loss: bool) -> float | None:
    """In the line's unit: as published, or of a share of so many test items."""
    if error is not None and error > 0:
        return 100 * error / value if loss else error * scale
    items = None if loss or line.study.task_kind == RL else items_of_test(f"{line.first.task} {line.first.metric}")
    return share_error(value * scale, items) if items else None


def items_of_test(task: str) -> int | None:
    """Items of the test set that a task names; None where it names none that is known."""
    if stated := STATED_ITEMS.search(task):
        return int(next(group for group in stated.groups() if group))
    tested = task.split("->")[-1].lower()
    return next((items for word, items in TEST_ITEMS.items() if word in tested), None) or next(
        (items for word, items in TEST_ITEMS.items() if word in task.lower()), None
    )


def kind_of(study: Study, task: str) -> str:
    """The kind of score: from the study's kind of task and the words of its test."""
    if study.task_kind == "pretraining":
        return "shift"
    if study.task_kind == "instruction" or (study.task_kind == "simple" and COMMONSENSE.search(task)):
        return "instruct"
    if study.task_kind in ("simple", RL):
        return study.task_kind
    return "math-code" if MATH_OR_CODE.search(task) else "shift"


def publication(study: Study) -> str:
    """The paper or repository that a study is from."""
    if not study.source:
        return study.citation
    address = urlparse(study.source)
    depth = 2 if address.netloc in ("github.com", "arxiv.org", "huggingface.co") else 9
    return "/".join([address.netloc, *address.path.strip("/").split("/")[:depth]])

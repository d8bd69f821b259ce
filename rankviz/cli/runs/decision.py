"""What the command line says of a sweep with a forecast: what to train next and what to ship."""

from typing import Any

from rankviz.api import Api
from rankviz.cli.forecast import print_bent


def decision_keys(api: Api, sweep_id: str) -> dict[str, Any]:
    """Forecast and decision for the JSON of a sweep, None as long as fewer than two ranks have finished runs; the
    better learning rate of one rank, and the rank by each score."""
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.quick_look import bent_json

    decision, rate = api.decisions.of(sweep_id), api.decisions.rate(sweep_id)
    return {
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
        "rate": {"r": rate.r, "best": rate.best, "differs": rate.differs, "sentences": list(rate.sentences)}
        if rate
        else None,
        "scores": {
            metric.key: {"r": score.pick, "sentences": list(score.sentences)}
            for metric in api.verdicts.metrics(sweep_id)
            if (score := api.decisions.score(sweep_id, metric))
        },
    }


def print_decision(api: Api, sweep_id: str) -> None:
    """The forecast as a table, then both answers; of one rank the better learning rate."""
    decision = api.decisions.of(sweep_id)
    if rate := api.decisions.rate(sweep_id):
        print(*rate.sentences, sep="\n")
    if decision is None:
        return
    print_bent(decision.forecast)
    print(*decision.train_sentences, sep="\n")
    if decision.forecast.repeat_at and not api.runs.sweep(sweep_id).recorded:
        print(f"Measure the noise: rankviz runs add {sweep_id} -r {decision.forecast.repeat_at}")
    print()
    print(*decision.ship_sentences, sep="\n")
    print()

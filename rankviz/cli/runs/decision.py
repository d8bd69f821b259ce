"""What the command line says of a sweep with a forecast: what to train next and what to ship."""

from typing import Any

from rankviz.api import Api
from rankviz.cli.forecast import print_bent


def decision_keys(api: Api, sweep_id: str) -> dict[str, Any]:
    """Forecast and decision for the JSON of a sweep; both None as long as fewer than two ranks have finished runs."""
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.json import bent_json

    decision = api.decisions.of(sweep_id)
    return {
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
    }


def print_decision(api: Api, sweep_id: str) -> None:
    """The forecast as a table, then both answers; nothing without a forecast."""
    decision = api.decisions.of(sweep_id)
    if decision is None:
        return
    print_bent(decision.forecast)
    print(*decision.train_sentences, sep="\n")
    if decision.forecast.third_run and not api.runs.sweep(sweep_id).recorded:
        print(f"Add that run: rankviz runs add {sweep_id} -r {decision.forecast.third_run}")
    print()
    print(*decision.ship_sentences, sep="\n")
    print()

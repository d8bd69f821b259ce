"""An estimate, with what it rests on."""

from dataclasses import asdict

from rankviz.api.estimates import EstimateAnswer
from rankviz.core.accuracy.evidence import Basis
from rankviz.core.cost.estimate import CalibrationJSON, EstimateJSON, as_json
from rankviz.core.from_json import shape

BasisJSON = shape(Basis)


class EstimateAnswerJSON(EstimateJSON):
    """An estimate; how far off settings of its kind were (`rests_on`), and what probes and runs on this machine say of
    it (`calibration`)."""

    calibration: CalibrationJSON | None
    rests_on: BasisJSON


def estimate_json(answer: EstimateAnswer) -> EstimateAnswerJSON:
    """As `rankviz estimate --json` prints it."""
    return {
        **as_json(answer.estimate),
        "calibration": answer.calibration.as_json() if answer.calibration else None,
        "rests_on": asdict(answer.basis),
    }

"""A configuration file for LLaMA-Factory, of a text model and of one with a vision tower."""

import yaml

from rankviz.catalog.models import load_model
from rankviz.exports import recipe
from rankviz.exports.configs import llamafactory
from tests.support.models.recipes import made
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS


def vision():
    """Gemma 3 with adapters in its vision tower, too."""
    question = questions.question("google/gemma-3-4b-it:whole", framework="trl")
    return yaml.safe_load(
        llamafactory(recipe(load_model(ASSETS, question.model_id), question, 8, framework="trl", tool="LLaMA-Factory"))
    )


def config(**changes):
    return yaml.safe_load(llamafactory(made(**{"framework": "trl", **changes})))

from rankviz.api import Api as Api
from rankviz.api import estimate as estimate
from rankviz.core.advice.use_case import Goal as Goal
from rankviz.core.cost.question import Question as Question
from rankviz.core.cost.setup import Grpo as Grpo
from rankviz.core.cost.setup import TrainingData as TrainingData
from rankviz.core.cost.setup import TrainingSetup as TrainingSetup
from rankviz.core.lora.config import LoraConfig as LoraConfig
from rankviz.core.runs.request import SweepRequest as SweepRequest

__version__: str

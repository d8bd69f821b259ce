"""What the guide says in numbers is what the core counts."""

from rankviz.catalog.models import load_model
from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.ui.guide.tab import HOW
from tests.support.toy import ASSETS


def test_the_number_of_an_older_notebook_is_attention_alone():
    model = load_model(ASSETS, "openai/gpt-oss-20b")
    today, attention = (
        resolve(model, LoraConfig(target_modules=targets), "unsloth", precision="nf4-dq").parameters(8)
        for targets in ("unsloth", UNSLOTH_SEVEN[:4])
    )

    assert f"has {today:,} trainable" in HOW
    assert f"printed {attention:,},\nwhich is attention alone" in HOW

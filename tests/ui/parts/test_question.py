"""The question's widgets: what they offer and what they read."""

import re

from rankviz.ui.parts.question import DEFAULTS, ask, gpu_label


def test_a_gpu_has_one_price_in_the_list_in_the_cost_and_in_the_table_of_gpus(api):
    cards = {card.gpu_id: card for card in api.estimates.fit(ask(DEFAULTS), DEFAULTS["r"]).cards}

    for gpu in api.workspace.gpus:
        cost = api.estimates.estimate(ask({**DEFAULTS, "gpu": gpu.id})).estimate.price
        in_list = re.search(r"\$([\d.]+)/h, (.+)", gpu_label(gpu))

        if cost is None:
            assert (None, None) == (in_list, cards[gpu.id].usd_per_hour), gpu.id
        else:
            assert (f"{cost.usd_per_hour:.2f}", cost.provider) == in_list.groups(), gpu.id
            assert cost.usd_per_hour == cards[gpu.id].usd_per_hour, gpu.id

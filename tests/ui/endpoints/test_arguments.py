"""Arguments that several endpoints share: described once, each a plain argument of the endpoint."""

from inspect import signature

import pytest

from rankviz.ui.endpoints.cost import More, Setup, spelled_out


@spelled_out
def operation(model: str = "", *, setup: Setup, prices: float | None = None, more: More) -> dict:
    """What it does.

    Args:
        model: An id.
        steps: As many as here.
        prices: One's own.
    """
    return {"model": model, "setup": setup, "prices": prices, "more": more}


def test_the_arguments_of_a_group_stand_in_its_place_with_their_defaults_and_types():
    parameters = signature(operation).parameters

    assert ["model", "precision", "framework", "batch", "accumulation", "max_length", "steps", "gpu", "prices"] == list(
        parameters
    )[:9]
    assert "expert_rank" == list(parameters)[-1]
    assert (2048, int) == (parameters["max_length"].default, operation.__annotations__["max_length"])
    assert dict is operation.__annotations__["return"]


def test_they_can_be_given_by_place_and_arrive_as_a_group():
    result = operation("some/model", "bf16", "trl", 4, 1, 512, 10, None, 1.5, epochs=2.0)

    assert (
        Setup(precision="bf16", framework="trl", batch=4, accumulation=1, max_length=512, steps=10, gpu=None)
        == (result["setup"])
    )
    assert (1.5, More(epochs=2.0)) == (result["prices"], result["more"])


def test_each_has_its_line_in_order_and_the_operations_own_line_goes_before_the_groups():
    summary, _, arguments, *lines = operation.__doc__.splitlines()

    assert ("What it does.", "Args:") == (summary, arguments)
    assert list(signature(operation).parameters) == [line.split(":")[0].strip() for line in lines]
    assert "    steps: As many as here." in lines
    assert "    batch: Batch size per micro-step." in lines


def test_an_argument_without_a_meaning_is_refused_when_it_is_written():
    with pytest.raises(KeyError, match="unexplained"):

        @spelled_out
        def unexplained_one(unexplained: int, *, setup: Setup) -> None:
            """What it does."""

"""How a card fails is told by classes, wherever in the chain of causes, never by words."""

import itertools

from rankviz.worker.device import causes, is_lost, ran_out_of_memory


def chain(*errors: BaseException) -> BaseException:
    """The first error, caused by the second, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_the_causes_of_an_error_are_walked_to_the_first():
    first, second, third = ValueError("a"), RuntimeError("b"), KeyError("c")

    assert [first, second, third] == list(causes(chain(first, second, third)))
    assert [] == list(causes(None))


def test_what_happened_while_an_error_was_handled_counts_too():
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise RuntimeError("while detaching") from None
    except RuntimeError as error:
        assert ran_out_of_memory(error)


def test_memory_that_ran_out_in_a_cause_is_memory_that_ran_out():
    assert ran_out_of_memory(chain(RuntimeError("the loader failed"), MemoryError()))
    assert not ran_out_of_memory(RuntimeError("CUDA out of memory, says a log line"))


def test_without_a_card_none_is_lost():
    assert not is_lost(RuntimeError("CUDA error: an illegal memory access was encountered"))

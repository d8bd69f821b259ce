"""How quantities read."""

from rankviz.units import counted


def test_one_of_something_is_not_plural():
    assert ["0 seeds", "1 seed", "2 seeds"] == [counted(n, "seed") for n in (0, 1, 2)]
    assert ["1 study", "1,200 studies"] == [counted(n, "study", "studies") for n in (1, 1200)]

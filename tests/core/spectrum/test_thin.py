"""What a figure of a large adapter shows instead of every number."""

from rankviz.core.spectrum import grouped, quantiles, spaced


def test_a_few_numbers_are_all_there_and_many_are_spaced_on_a_logarithmic_scale():
    assert [1, 2, 3] == spaced(3, 3)
    assert [1, 10, 100] == spaced(100, 3)
    assert [1, 7, 10, 100] == spaced(100, 3, always=[7])


def test_quantiles_are_values_of_the_lines_and_short_lines_end():
    lines = quantiles([[float(n), float(-n)] for n in range(10)] + [[100.0]])

    assert ([100.0, 0.0], [5.0, -5.0], [0.0, -9.0]) == (lines["highest"], lines["median"], lines["lowest"])


def test_neighbours_are_grouped_as_little_as_needed():
    assert [["a"], ["b"]] == grouped(["a", "b"], 2)
    assert [["a", "b"], ["c", "d"], ["e"]] == grouped(list("abcde"), 4)

import pytest
from rankviz.jobs.hf_jobs.following import lines
from rankviz.jobs.hf_jobs.following.lines import Piece

from rankviz.core.runs.events import Attempt

ATTEMPT = Attempt("r4", 2)


def test_each_line_of_a_journal_is_a_line_of_the_log_with_its_place():
    written = list(lines.written(ATTEMPT, 10, b'{"a": 1}\n{"b": 2}\n'))

    assert [Piece(ATTEMPT, 10, b'{"a": 1}\n'), Piece(ATTEMPT, 19, b'{"b": 2}\n')] == list(map(lines.read, written))
    assert all("\n" not in line for line in written)


def test_a_long_line_comes_in_pieces_that_fit_a_log():
    journal = b"x" * 9000 + b"\n"
    pieces = [lines.read(line) for line in lines.written(ATTEMPT, 0, journal)]

    assert [0, 4000, 8000] == [piece.offset for piece in pieces]
    assert journal == b"".join(piece.data for piece in pieces)


def test_a_log_may_put_something_before_a_line():
    (line,) = lines.written(ATTEMPT, 0, b"{}\n")

    assert Piece(ATTEMPT, 0, b"{}\n") == lines.read(f"2026-11-26T12:00:00 {line}")


def test_the_exit_code_has_a_line_of_its_own():
    assert -9 == lines.read(lines.ended(-9))


@pytest.mark.parametrize(
    "line",
    [
        "loading",
        "RANKVIZ ",
        "RANKVIZ {",
        "RANKVIZ []",
        "RANKVIZ {}",
        'RANKVIZ {"exit_code": "x"}',
        'RANKVIZ {"exit_code": 1e999}',
        'RANKVIZ {"exit_code": 1e300}',
        'RANKVIZ {"run": "r", "attempt": 1, "offset": 1e999, "text": ""}',
        'RANKVIZ {"run": "r", "attempt": 1, "offset": -1, "text": ""}',
        pytest.param('RANKVIZ {"run": "r", "attempt": 1, "offset": 0, "text": "%s"}' % ("x" * 4001), id="long"),
        'RANKVIZ {"run": "r", "attempt": "x", "offset": 0, "text": ""}',
        'RANKVIZ {"run": "r", "attempt": 1, "offset": 0, "text": 5}',
        'RANKVIZ {"run": "r", "attempt": 1, "offset": 0, "text": "\\u4e2d"}',
    ],
)
def test_what_is_no_such_line_is_nothing(line):
    assert lines.read(line) is None

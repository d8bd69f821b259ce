import pytest

from rankviz.errors import BadDataError
from tests.support.runs.measured_rows import measured_row


@pytest.mark.parametrize("value", ["1e300", "1e999", "-inf", "nan", "many"])
def test_a_number_that_no_run_could_have_is_refused_with_its_place(value):
    with pytest.raises(BadDataError, match=r"Line 2, column measured_bytes"):
        measured_row(measured_bytes=value)

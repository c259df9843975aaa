import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from search.quantities import number_of_bytes, seconds, size_text, time_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 min", 720), ("90s", 90), ("1 h 30 min", 5400), ("1h30min", 5400),
        ("1.5 h", 5400), ("250 ms", 0.25), ("2 d", 172800),
    ],
)  # fmt: skip
def test_lengths_of_time_are_read_with_their_units(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "12", "1h30", "min", "12 minutes", "-3 s", "1 h ago", "nan s", "1e999 s", "١٢ min"]
)
def test_what_is_no_length_of_time_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"expected a length of time .* such as"):
        seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("4 GB", 4e9), ("4GiB", 2**32), ("500 MB", 5e8), ("0.5 KB", 500)])
def test_amounts_of_memory_are_read_with_their_units(text, expected):
    assert number_of_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "4", "4 gigs", "-1 GB", "GB", "4 gb"])
def test_what_is_no_amount_of_memory_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"expected an amount .* such as"):
        number_of_bytes(text)


@examples(max_examples=50)
@given(st.floats(1e-3, 1e9), st.integers(1, 10**15))
def test_what_is_written_is_read_back(duration_s, size_bytes):
    assert seconds(time_text(duration_s)) == duration_s
    assert number_of_bytes(size_text(size_bytes)) == size_bytes


def test_texts_are_in_the_largest_unit_that_divides():
    assert [time_text(s) for s in (660, 5400, 7200, 90, 0.5)] == ["11 min", "90 min", "2 h", "90 s", "0.5 s"]
    assert [size_text(n) for n in (4 * 10**9, 2**30, 1001)] == ["4 GB", "1 GiB", "1001 B"]

import datetime
import json
import math

import pytest

from results.plain import duration, finite, json_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.14, "3.1 s"), (9.97, "10 s"), (45, "45 s"), (600, "10 min"), (7500, "2 h 05 min"), (190_000, "2 d 4 h"),
        (200_000, "2 d 7 h"), (-3, "-3.0 s"), (-7500, "-2 h 05 min"), (math.nan, "–"), (math.inf, "–"), (None, "–"),
    ],
)  # fmt: skip
def test_lengths_of_time_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_what_json_cannot_hold_is_null():
    time = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
    document = {"a": [math.nan, -math.inf, 1.5, True], 3: (time, None), "b": {"c": math.inf}}
    assert finite(document) == {
        "a": [None, None, 1.5, True],
        "3": ["2026-05-01T00:00:00+00:00", None],
        "b": {"c": None},
    }
    assert json.loads(json_text(document)) == finite(document)
    assert json_text({"é": 1}, indent=None) == '{"é": 1}'

"""A card is Markdown that a person can read, whatever strings are in it."""

from search.card import text

CARD = {
    "sweep": "s",
    "trial": 1,
    "kind": "single",
    "seed": 1,
    "epochs": 3,
    "best_epoch": 2,
    "made": "now",
    "task": "t",
    "data": {"name": "", "fingerprint": ""},
    "scores": {},
    "metrics": {},
    "samples": [],
    "environment": {},
    "objective": "o",
    "goal": "min",
}


def rows(values, **more):
    """The rows of the table of a configuration."""
    lines = text({**CARD, "configuration": values, **more}).splitlines()
    begin = lines.index("## Configuration") + 4
    return lines[begin : lines.index("", begin)]


def test_whatever_a_value_is_it_stays_in_its_cell():
    assert rows({"bar": "x|y"}) == ["| `bar` | `x\\|y` |"]
    assert rows({"broken": "one\ntwo\r\nthree"}) == ["| `broken` | `one two three` |"]
    assert rows({"empty": ""}) == ["| `empty` | ` ` |"]
    assert rows({"tag": "<b>"}) == ["| `tag` | `<b>` |"]


def test_backticks_do_not_end_the_code_that_they_are_in():
    assert rows({"tick": "`<script>`"}) == ["| `tick` | `` `<script>` `` |"]
    assert rows({"tick": "a``b"}) == ["| `tick` | ``` a``b ``` |"]


def test_what_is_no_code_is_no_html_and_no_markup_either():
    space = {"kind": [{"range": "one of a|b, `c`, <i>"}]}
    assert rows({"kind": "a"}, space=space) == ["| `kind` | `a` | one of a\\|b, \\`c\\`, &lt;i> |"]
    scored = text({**CARD, "configuration": {}, "metrics": {"a": 1.0}, "scores": {"a": 1.0}, "floors": {"<i>|": {}}})
    assert "|  | this model | &lt;i>\\| |" in scored

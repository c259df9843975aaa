import pytest

from search.cluster_shell import commands, docker_options, options


def seen(text, name="A"):
    """What `ray start` sees of a variable in each place where a script runs it."""
    return [c.environment.get(name) for c in commands(text) if c.after("ray", "start") is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1 ray start", ["1"]),
        ("A='1 2' /x/bin/ray start --head", ["1 2"]),
        ('A="1" ray start && A=2 ray start', ["1", "2"]),
        ("A=1; ray start", [None]),  # set, but not exported
        ("A=1\nexport A\nray start", ["1"]),
        ("export A=1 B=2; A=3; ray start", ["3"]),
        ("export A=1; unset A; ray start", [None]),
        ("env A=1 nohup ray start &", ["1"]),
        ("if true; then A=1 ray start; fi", ["1"]),
        ("A=1 srun --nodes=$((N - 1)) \\\n  ray start --block", ["1"]),
        ("bash -c 'A=1 ray start'", ["1"]),
        ("B=x; A=$B/${C:-y} ray start", ["x/y"]),
        ("A=$B ray start", ["$B"]),
        ("X=1 #A=1\nray start # A=2", [None]),
        ("A=1#2 ray start", ["1#2"]),
        ("# it's all right\nA=1 ray start", ["1"]),
        ("echo A=1 ray start; echo 'ray start'; raystart; ray stop start", []),
        ("'unclosed ray start", [None]),
    ],
)
def test_what_a_command_sees_of_the_environment(text, expected):
    assert seen(text) == expected


def test_redirections_are_no_words():
    (command,) = commands("ray start --head > log 2>&1 --port 6379 < /dev/null &> all")
    assert command.words == ("ray", "start", "--head", "--port", "6379")
    assert options(command.words) == {"head": "", "port": "6379"}


def test_a_command_knows_its_line():
    assert [(c.line, c.words) for c in commands("a\n\n# b\nc \\\n d\ne")] == [(1, ("a",)), (4, ("c", "d")), (6, ("e",))]


def test_dockers_options_stand_in_one_item_or_two():
    items = ["-p", "1:1", "-p 2:2 --publish=3:3", "-p4:4", "-e A=5:5", 7, None]
    assert list(docker_options(items, "-p", "--publish")) == [(0, "1:1"), (2, "2:2"), (2, "3:3"), (3, "4:4")]

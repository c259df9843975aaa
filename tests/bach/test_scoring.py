"""Scores: worked examples by hand, the two protocols against each other, and answers that are refused."""

import json
import math

import numpy as np
import pytest

from bach.corpus import Chorale, Dataset
from bach.encoding import encode
from bach.errors import DataError, ModelError, SettingError
from bach.floors import CountingFloor, RepeatFloor
from bach.notes import NUM_TOKENS, VOICES
from bach.scoring import (
    GROUPS,
    NOTES_PER_CALL,
    Report,
    score,
    score_chorales,
    summarise,
)


class Oracle:
    """Gives the true note the probability that stands for it in `bits`, 2 ** -bits, and spreads the rest evenly."""

    def __init__(self, bits):
        self.bits = bits

    def log_probabilities(self, sequences):
        answers = []
        for tokens in sequences:
            true = 2.0 ** -np.resize(np.asarray(self.bits, float), len(tokens))
            rows = np.repeat((1 - true[:, None]) / (NUM_TOKENS - 1), NUM_TOKENS, axis=1)
            rows[np.arange(len(tokens)), tokens] = true
            answers.append(np.log(rows))
        return answers


class Uniform:
    def log_probabilities(self, sequences):
        return [np.full((len(tokens), NUM_TOKENS), -math.log(NUM_TOKENS)) for tokens in sequences]


class Answers:
    """Gives whatever `change` makes of a uniform answer."""

    def __init__(self, change):
        self.change = change

    def log_probabilities(self, sequences):
        return [self.change(rows) for rows in Uniform().log_probabilities(sequences)]


def melody(steps, seed=0):
    """A chorale of random held notes, each voice within its range."""
    rng = np.random.default_rng(seed)
    chords = rng.integers((60, 55, 48, 40), (80, 72, 65, 60), size=(-(-steps // 4), 4))
    pitches = np.repeat(chords, 4, axis=0)[:steps]
    pitches[rng.random(pitches.shape) < 0.1] = 0
    return pitches


def chorales(*lengths, split="valid"):
    return tuple(Chorale(id=f"{split}/{i:03}", pitches=melody(n, seed=i)) for i, n in enumerate(lengths))


def dataset(*lengths):
    train, test = chorales(40, 40, split="train"), chorales(36, split="test")
    return Dataset.of("made up", {"train": train, "valid": chorales(*lengths), "test": test})


TINY = Chorale(
    id="valid/tiny",
    pitches=np.array(
        [
            [60, 55, 50, 0],  # step 0, on the beat; no note has a step before it, so all four count as changed
            [60, 55, 52, 0],  # step 1, off the beat: soprano and alto held, tenor changed, bass goes on resting (held)
        ]
    ),
)


def test_each_note_of_a_piece_is_charged_once_and_in_its_groups():
    # notes:     S  A  T  B | S  A  T  B
    bits = np.array([1, 2, 3, 4, 0.5, 1, 6, 7])
    (tiny,) = score_chorales(Oracle(bits), [TINY])
    np.testing.assert_allclose(tiny.nll / math.log(2), bits)
    assert tiny.note.tolist() == list(range(8))
    # 2 ** -bits beats an even share of the rest, (1 - p) / 46, down to 2 ** -5; not at 6 and 7 bits
    assert tiny.correct.tolist() == [True] * 6 + [False] * 2
    assert tiny.held.tolist() == [False] * 4 + [True, True, False, True]

    summary = summarise([tiny])
    assert summary.notes.count == 8
    assert summary.notes.nll_bits == pytest.approx(24.5 / 8)
    assert summary.notes.nll_nats == pytest.approx(24.5 / 8 * math.log(2))
    assert summary.notes.perplexity == pytest.approx(2 ** (24.5 / 8))
    assert summary.notes.accuracy == 6 / 8
    assert {
        name: (group.count, round(group.nll_bits, 9), group.accuracy) for name, group in summary.groups.items()
    } == {
        "soprano": (2, 0.75, 1.0),  # (1 + 0.5) / 2
        "alto": (2, 1.5, 1.0),  # (2 + 1) / 2
        "tenor": (2, 4.5, 0.5),  # (3 + 6) / 2
        "bass": (2, 5.5, 0.5),  # (4 + 7) / 2
        "on_beat": (4, 2.5, 1.0),  # step 0: (1 + 2 + 3 + 4) / 4
        "off_beat": (4, 3.625, 0.5),  # step 1: (0.5 + 1 + 6 + 7) / 4
        "held": (3, round(8.5 / 3, 9), 2 / 3),  # soprano 0.5, alto 1, bass 7
        "changed": (5, 3.2, 0.8),  # step 0 and the tenor: (1 + 2 + 3 + 4 + 6) / 5
    }


def test_pieces_count_by_their_notes_in_the_micro_mean_and_alike_in_the_macro_mean():
    pieces = chorales(2, 6)  # 8 and 24 notes
    short, long = score_chorales(Oracle([1]), pieces[:1]) + score_chorales(Oracle([3]), pieces[1:])
    summary = summarise([short, long])
    assert summary.notes.nll_bits == pytest.approx((8 * 1 + 24 * 3) / 32)
    assert summary.pieces.nll_bits == pytest.approx((1 + 3) / 2)
    assert summary.pieces.count == 2
    assert [round(piece.nll_bits, 9) for piece in summary.by_piece.values()] == [1, 3]


def test_the_uniform_predictor_pays_ln_47_and_guesses_silence():
    summary = summarise(score_chorales(Uniform(), [TINY]))
    assert summary.notes.nll_nats == pytest.approx(math.log(47))
    assert summary.notes.perplexity == pytest.approx(47)
    assert summary.notes.accuracy == 2 / 8  # all tokens are equal, so the lowest stands: silence, twice in the bass


@pytest.mark.parametrize(
    ("steps", "windows"),
    [
        (1, 0),
        (32, 0),  # one step short of a window
        (33, 1),  # exactly one
        (48, 1),  # a second would need steps 16..48, and 48 is missing
        (49, 2),  # steps 0..32 and 16..48
        (640, 38),  # (640 - 33) // 16 + 1; the rest is dropped
    ],
)
def test_windows_of_33_steps_shifted_by_16_give_131_predictions_each(steps, windows):
    (piece,) = score_chorales(Oracle([1]), chorales(steps), "windows")
    assert len(piece.nll) == len(piece.correct) == len(piece.held) == 131 * windows
    starts = [64 * window for window in range(windows)]
    assert piece.note.tolist() == [note for start in starts for note in range(start + 1, start + 132)]


def test_the_first_note_of_a_window_is_given_and_the_rest_is_seen_from_its_start():
    bits = np.arange(1, 133) / 20  # what each place in a window costs, wherever in the piece the window lies
    (piece,) = score_chorales(Oracle(bits), chorales(65), "windows")
    np.testing.assert_allclose(piece.nll.reshape(3, 131) / math.log(2), np.tile(bits[1:], (3, 1)))


def test_a_piece_of_one_window_costs_the_same_either_way_but_for_its_first_note():
    model = CountingFloor.fit(chorales(64, 64, split="train"))
    piece = chorales(33)
    (whole,), (window,) = score_chorales(model, piece, "pieces"), score_chorales(model, piece, "windows")
    np.testing.assert_array_equal(whole.nll[1:], window.nll)
    np.testing.assert_array_equal(whole.correct[1:], window.correct)
    assert whole.nll[0] == pytest.approx(math.log(47))


def test_a_model_that_remembers_8_notes_predicts_alike_from_the_9th_note_of_a_window_on():
    model = CountingFloor.fit(chorales(64, 64, split="train"))
    piece = chorales(97)  # 5 windows
    (whole,), (windows,) = score_chorales(model, piece, "pieces"), score_chorales(model, piece, "windows")
    place = np.tile(np.arange(1, 132), 5)
    agree = whole.nll[windows.note] == windows.nll
    assert agree[place >= 8].all()
    assert not agree[place < 8].all()


@pytest.mark.parametrize("protocol", ["pieces", "windows"])
def test_each_division_of_the_notes_recombines_to_the_mean_over_all(protocol):
    model = CountingFloor.fit(chorales(64, 64, split="train"))
    summary = summarise(score_chorales(model, chorales(33, 70, 130), protocol))
    for division in (VOICES, ("on_beat", "off_beat"), ("held", "changed")):
        parts = [summary.groups[name] for name in division]
        count = sum(part.count for part in parts)
        assert count == summary.notes.count
        assert sum(part.count * part.nll_nats for part in parts) / count == pytest.approx(summary.notes.nll_nats)
        assert sum(part.count * part.accuracy for part in parts) / count == pytest.approx(summary.notes.accuracy)
    pieces = summary.by_piece.values()
    assert sum(p.count * p.nll_nats for p in pieces) / summary.notes.count == pytest.approx(summary.notes.nll_nats)
    assert summary.pieces.nll_nats == pytest.approx(np.mean([p.nll_nats for p in pieces]))


def test_pieces_come_back_in_the_order_given_however_they_are_batched():
    pieces = chorales(400, 3, 640, 33, *[640] * 30)  # more notes than one call may hold
    calls = []

    class Watched(RepeatFloor):
        def log_probabilities(self, sequences):
            calls.append([len(tokens) for tokens in sequences])
            return super().log_probabilities(sequences)

    scores = score_chorales(Watched(), pieces)
    assert [piece.id for piece in scores] == [piece.id for piece in pieces]
    for piece, chorale in zip(scores, pieces, strict=True):
        tokens = encode(chorale.pitches)
        np.testing.assert_array_equal(piece.correct[4:], tokens[4:] == tokens[:-4])
    assert len(calls) > 1
    assert max(map(sum, calls)) <= NOTES_PER_CALL


def test_the_report_names_its_scores_and_carries_the_data():
    data = dataset(33, 49)
    report = score(Oracle([2]), data, "valid")
    assert report.primary == {
        "val_nll": pytest.approx(2 * math.log(2)),
        "val_accuracy": 1.0,
        "window_nll": pytest.approx(2 * math.log(2)),
        "window_accuracy": 1.0,
    }
    assert list(score(Uniform(), data, "test", protocols=["pieces"]).primary) == ["test_nll", "test_accuracy"]
    assert list(score(Uniform(), data, "train", protocols=["windows"]).primary) == ["window_nll", "window_accuracy"]
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (told["data"], told["fingerprint"], told["split"]) == ("made up", data.fingerprint, "valid")
    assert told["val_nll"] == told["pieces"]["notes"]["nll_nats"] == pytest.approx(2 * math.log(2))
    assert told["pieces"]["notes"]["nll_bits"] == pytest.approx(2)
    assert told["pieces"]["notes"]["count"] == 4 * (33 + 49)
    assert told["windows"]["notes"]["count"] == 131 * 3
    assert list(told["pieces"]["by_piece"]) == ["valid/000", "valid/001"]
    assert list(told["pieces"]["groups"]) == list(GROUPS)


def test_near_duplicates_are_left_out_of_a_second_score_and_stay_in_the_first():
    data = dataset(4, 8, 12)

    class Longer:  # a piece costs as many bits a note as it has steps, over 4
        def log_probabilities(self, sequences):
            return [Oracle([len(tokens) / 16]).log_probabilities([tokens])[0] for tokens in sequences]

    report = score(Longer(), data, leave_out=["valid/002", "train/000"])  # of another split: no matter here
    assert report.left_out == ("valid/002",)
    assert report.results["pieces"].notes.nll_bits == pytest.approx((16 * 1 + 32 * 2 + 48 * 3) / 96)
    assert report.distinct["pieces"].notes.nll_bits == pytest.approx((16 * 1 + 32 * 2) / 48)
    assert list(report.distinct["pieces"].by_piece) == ["valid/000", "valid/001"]
    assert report.to_json()["without_left_out"]["pieces"]["notes"]["count"] == 48
    assert score(Longer(), data).distinct == {}


def test_an_impossible_note_makes_the_score_infinite_and_null_in_json():
    report = score(RepeatFloor(), dataset(33, 40))
    summary = report.results["pieces"]
    assert summary.notes.nll_nats == summary.notes.nll_bits == summary.notes.perplexity == math.inf
    assert summary.nll_interval is None
    assert summary.accuracy_interval is not None
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["val_nll"] is None
    assert told["pieces"]["notes"]["nll_nats"] is None
    assert told["val_accuracy"] == summary.notes.accuracy > 0
    assert "inf" in report.table()


def test_pieces_too_short_for_a_window_have_no_window_score():
    report = score(Uniform(), dataset(5, 32))
    windows = report.results["windows"]
    assert (windows.notes.count, windows.pieces.count) == (0, 0)
    assert math.isnan(report.primary["window_nll"])
    assert report.to_json()["window_nll"] is None
    assert [line.split()[-1] for line in report.table().splitlines() if "all notes" in line] == [str(4 * 37), "0"]
    both = score(Uniform(), dataset(5, 33)).results["windows"]
    assert (both.notes.count, both.pieces.count, both.by_piece["valid/000"].count) == (131, 1, 0)


def test_the_interval_is_of_pieces_and_the_same_for_the_same_seed():
    pieces = chorales(*range(8, 28))
    alike = summarise(score_chorales(Oracle([2]), pieces))
    assert alike.nll_interval == pytest.approx((2 * math.log(2),) * 2)
    uneven = [score_chorales(Oracle([1 + i / 5]), [piece])[0] for i, piece in enumerate(pieces)]
    summary = summarise(uneven, seed=3)
    assert summary.nll_interval is not None
    low, high = summary.nll_interval
    assert low < summary.notes.nll_nats < high
    # The standard error of 20 means with standard deviation sd is about sd / sqrt(20); the interval is about 4 of them.
    sd = np.std([piece.nll.mean() for piece in uneven])
    assert high - low == pytest.approx(3.92 * sd / math.sqrt(20), rel=0.2)
    assert summarise(uneven, seed=3).nll_interval == (low, high)
    assert summarise(uneven, seed=4).nll_interval != (low, high)
    assert summarise(uneven[:1]).nll_interval is None


def test_the_table_shows_every_group_for_both_protocols():
    text = score(Oracle([2]), dataset(33, 49), leave_out=["valid/000"]).table()
    assert "made up valid, fingerprint" in text
    for name in ("all notes", "mean of pieces", *(group.replace("_", " ") for group in GROUPS), "without 1 near-dupl."):
        assert sum(line.strip().startswith(name) for line in text.splitlines()) == 2
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"gave shape \[31, 47\]; expected \[32, 47\]"),
        (lambda rows: rows[:, 1:], r"gave shape \[32, 46\]"),
        (lambda rows: rows[None], r"gave shape \[1, 32, 47\]"),
        (lambda rows: np.where(np.arange(32)[:, None] == 7, np.nan, rows), "note 7: the predictor gave NaN"),
        (lambda rows: np.where(np.arange(32)[:, None] == 9, np.inf, rows), "note 9: the probabilities sum to inf"),
        (np.zeros_like, "note 0: the probabilities sum to 47"),  # logits
        (np.exp, "note 0: the probabilities sum to 48.0107"),  # probabilities: 47 * e ** (1 / 47)
        (lambda rows: rows - 0.001, "note 0: the probabilities sum to 0.999"),
        (lambda rows: np.full(rows.shape, -np.inf), "sum to 0, not to 1"),
        (lambda rows: np.full(rows.shape, -4), "gave type int64"),
    ],
)
def test_answers_that_are_not_log_probabilities_are_refused(change, message):
    with pytest.raises(ModelError, match=message):
        score_chorales(Answers(change), chorales(8))


def test_answers_in_float32_are_taken():
    (piece,) = score_chorales(Answers(lambda rows: rows.astype(np.float32)), chorales(8))
    assert piece.nll.dtype == np.float64
    np.testing.assert_allclose(piece.nll, math.log(47), rtol=1e-6)


def test_an_answer_for_each_sequence_is_required():
    class Forgetful(Uniform):
        def log_probabilities(self, sequences):
            return super().log_probabilities(sequences[1:])

    with pytest.raises(ModelError, match="gave 1 arrays for 2 sequences"):
        score_chorales(Forgetful(), chorales(8, 8))


def test_unknown_names_are_refused_before_anything_is_predicted():
    data = dataset(8, 8)

    class Untouched:
        def log_probabilities(self, sequences):
            raise AssertionError("was asked")

    def refused(**given) -> Report:
        return score(Untouched(), data, **given)

    with pytest.raises(SettingError, match="unknown split 'vlid'; did you mean 'valid'"):
        refused(split="vlid")
    with pytest.raises(SettingError, match="unknown protocol 'window'; did you mean 'windows'"):
        refused(protocols=["window"])
    with pytest.raises(SettingError, match="has no chorale 'valid/00' to leave out; did you mean"):
        refused(leave_out=["valid/00"])
    with pytest.raises(SettingError, match="leaving out 2 chorales leaves nothing of split 'valid'"):
        refused(leave_out=["valid/000", "valid/001"])
    bare = Dataset(name="bare", fingerprint="0" * 64, splits={"train": (), "valid": (), "test": ()})
    with pytest.raises(DataError, match="split 'valid' has no chorales"):
        score(Untouched(), bare)


def test_progress_counts_pieces_and_windows_up_to_the_total():
    told = []
    score(Uniform(), dataset(33, 49, 640), progress=lambda what, done, total: told.append((what, done, total)))
    assert told[-1] == ("score", 3 + 41, 3 + 41)  # 3 pieces; 1 + 2 + 38 windows
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)

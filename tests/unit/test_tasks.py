import datetime
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tasks import (
    _FORMS,
    DISTRACTORS,
    KEYS,
    TASKS,
    add_integers,
    dates,
    echo,
    long_lag,
    reverse_integers,
    write_task,
)

UNITS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"]
TEENS = [f"{stem}teenth" for stem in ["thir", "four", "fif", "six", "seven", "eigh", "nine"]]
TWENTIES = ["twentieth", *(f"twenty-{unit}" for unit in UNITS)]
ORDINALS = [*UNITS, "tenth", "eleventh", "twelfth", *TEENS, *TWENTIES, "thirtieth", "thirty-first"]
SEEDS = st.integers(0, 2**32)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


@given(SEEDS)
def test_the_first_three_integers_come_back_reversed(seed):
    one = reverse_integers(random.Random(seed))
    numbers = one.source.split()
    assert len(numbers) == 6 and all(1 <= int(number) <= 50 for number in numbers)
    assert one.target.split() == [numbers[2], numbers[1], numbers[0]]


@given(SEEDS, st.integers(1, 12))
def test_sums_are_right(seed, longest):
    one = add_integers(random.Random(seed), longest)
    left, right = one.source.split("+")
    assert (str(int(left)), str(int(right))) == (left, right)  # no leading zeros
    assert int(left) + int(right) == int(one.target)
    assert one.group == str(max(len(left), len(right))) and int(one.group) <= longest


def test_sums_have_numbers_of_every_length():
    rng = random.Random(1)
    assert {add_integers(rng, 5).group for _ in range(200)} == set("12345")


@given(SEEDS)
def test_an_echo_is_the_same_again(seed):
    one = echo(random.Random(seed))
    assert one.source == one.target and 1 <= len(one.source.split()) <= 8


@given(SEEDS, st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_a_key_stands_a_lag_before_the_end(seed, lags):
    one = long_lag(random.Random(seed), lags)
    assert one.source[0] == one.target and one.target in KEYS
    assert set(one.source[1:]) <= set(DISTRACTORS) and not set(KEYS) & set(DISTRACTORS)
    assert len(one.source) - 1 == int(one.group) and int(one.group) in lags


def test_lags_have_as_many_steps_each():
    rng = random.Random(1)
    found = [len(long_lag(rng, [9, 99]).source) for _ in range(11_000)]
    assert found.count(10) * 10 == pytest.approx(found.count(100) * 100, rel=0.15)


def read_date(text: str) -> datetime.date:
    """The day that is meant, read in another way than it was written."""
    words = re.findall(r"[a-z]+(?:-(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth))?|\d+", text.lower())
    if len(words) == 1:
        return datetime.datetime.strptime(text, "%Y%m%d").date()
    numbers = [int(word) for word in words if word.isdigit()]
    month = next((MONTHS.index(word[:3]) + 1 for word in words if word[:3] in MONTHS and word != "second"), None)
    if month is None:
        day, month, year = numbers if numbers[0] <= 31 else reversed(numbers)
        return datetime.date(year, month, day)
    if len(numbers) == 1:  # the day is a word
        numbers.insert(0, next(ORDINALS.index(word) + 1 for word in words if word in ORDINALS))
    day, year = sorted(numbers) if max(numbers) > 31 and min(numbers) <= 31 else numbers
    if text.lower().rfind("'") >= 0 or re.fullmatch(r"\d+-[a-z]+-\d\d", text.lower()):
        day, year = numbers
    return datetime.date(year if year > 99 else year + (1900 if year >= 50 else 2000), month, day)


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_dates_are_the_days_that_they_say(seed):
    one = dates(random.Random(seed))
    assert read_date(one.source).isoformat() == one.target


def test_no_two_days_are_written_alike():
    first, last = (datetime.date(year, *rest).toordinal() for year, rest in ((1950, (1, 1)), (2049, (12, 31))))
    written: dict[str, int] = {}
    for number in range(first, last + 1):
        day = datetime.date.fromordinal(number)
        for form in _FORMS:
            assert written.setdefault(form(day).lower(), number) == number


@pytest.mark.parametrize("task", TASKS)
def test_files_share_no_source_and_depend_on_the_seed(task, tmp_path):
    sizes = {"train": 200, "valid": 20, "test": 30}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_task(tmp_path / folder, task, sizes, seed)
    texts = [{p.name: p.read_text() for p in sorted((tmp_path / folder).iterdir())} for folder in "abc"]
    assert texts[0] == texts[1] != texts[2]
    sources = [texts[0][f"{split}.source"].splitlines() for split in sizes]
    assert [len(lines) for lines in sources] == list(sizes.values())
    assert len(set().union(*sources)) == sum(sizes.values())
    assert all(len(texts[0][f"{split}.target"].splitlines()) == size for split, size in sizes.items())
    grouped = {split: texts[0].get(f"{split}.group", "").splitlines() for split in sizes}
    if task in ("reverse_integers", "echo", "dates"):
        assert not any(grouped.values())
    else:
        assert [len(labels) for labels in grouped.values()] == list(sizes.values())
        for split, lines in zip(sizes, sources, strict=True):
            for line, label in zip(lines, grouped[split], strict=True):
                assert label == str(len(line) - 1 if task == "long_lag" else max(map(len, line.split("+"))))


def test_options_of_a_task_are_handed_on(tmp_path):
    write_task(tmp_path, "long_lag", {"train": 50}, 1, lags=[3])
    assert {len(line) for line in (tmp_path / "train.source").read_text().splitlines()} == {4}


def test_what_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no task 'sort': choose one of reverse_integers, add_integers"):
        write_task(tmp_path, "sort", {"train": 1}, 1)
    monkeypatch.setitem(TASKS, "few", lambda rng: reverse_integers(random.Random(rng.randrange(5))))
    with pytest.raises(ValueError, match="asked for 20 examples, but only 5 different ones"):
        write_task(tmp_path, "few", {"train": 20}, 1)

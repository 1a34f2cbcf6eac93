"""Generated tasks on which a sequence model can be right or wrong, without any data: what the tutorials begin with.

Each makes one example from a source of random numbers; `write_task` writes files of examples, no source of which
stands in two splits. None of them depends on the machine's language or time zone.
"""

import datetime
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTEGERS, READ, WRITTEN = 50, 6, 3  # the founding tutorial's: six integers up to 50, the first three come back reversed
LONGEST_ECHO = 8
FIRST_YEAR, LAST_YEAR = 1950, 2049  # so that two digits of a year are enough to tell it
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
)  # fmt: skip
LAGS = (10, 20, 50, 100, 200, 500)
KEYS, DISTRACTORS = "ABCDEFGH", "stuvwxyz"
TRIES = 100  # for each example that is wanted, before there are taken to be no more


@dataclass(frozen=True)
class Example:
    """A pair, and the label of those that results are to be told of together; "" is none."""

    source: str
    target: str
    group: str = ""


def reverse_integers(rng: random.Random) -> Example:
    """Six integers from 1 to 50, and the first three of them from the third to the first."""
    numbers = [str(rng.randint(1, INTEGERS)) for _ in range(READ)]
    return Example(" ".join(numbers), " ".join(reversed(numbers[:WRITTEN])))


def add_integers(rng: random.Random, longest: int = 3) -> Example:
    """A sum of two numbers of one to `longest` digits; each count of digits is as likely as another."""
    digits = [rng.randint(1, longest) for _ in range(2)]
    one, other = (rng.randrange(10 ** (count - 1) if count > 1 else 0, 10**count) for count in digits)
    return Example(f"{one}+{other}", str(one + other), str(max(len(str(one)), len(str(other)))))


def echo(rng: random.Random) -> Example:
    """Up to eight integers below 100, and the same again."""
    text = " ".join(str(rng.randrange(100)) for _ in range(rng.randint(1, LONGEST_ECHO)))
    return Example(text, text)


def long_lag(rng: random.Random, lags: Sequence[int] = LAGS) -> Example:
    """A key, then as many random distractors as the lag, which is one of `lags`; the key is to be told.

    The shorter a lag the more often it comes up, so that the examples of each lag have as many steps in all. What lies
    between holds no regularity to lean on (Bengio, Simard and Frasconi 1994, section 2; Hochreiter and Schmidhuber
    1997, section 5.2, task 2c).
    """
    key, lag = rng.choice(KEYS), rng.choices(lags, weights=[1 / (lag + 1) for lag in lags])[0]
    return Example(key + "".join(rng.choices(DISTRACTORS, k=lag)), key, str(lag))


def dates(rng: random.Random) -> Example:
    """A day from 1950 to 2049 as people write it, in any of many forms, and in ISO 8601."""
    first = datetime.date(FIRST_YEAR, 1, 1).toordinal()
    last = datetime.date(LAST_YEAR, 12, 31).toordinal()
    day = datetime.date.fromordinal(rng.randint(first, last))
    text = rng.choice(_FORMS)(day)
    casing: Callable[[str], str] = rng.choices((str, str.lower, str.upper), weights=(8, 1, 1))[0]
    return Example(casing(text), day.isoformat())


def _month(day: datetime.date) -> str:
    return _MONTHS[day.month - 1]


def _ordinal(day: datetime.date) -> str:
    """1st, 2nd, 3rd, 4th ..."""
    teens = 10 < day.day < 20
    return f"{day.day}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(day.day % 10, 'th')}"


def _ordinal_word(day: datetime.date) -> str:
    """first ... thirty-first."""
    if day.day < 20:
        return _UNITS[day.day - 1]
    tens, units = divmod(day.day, 10)
    if not units:
        return {2: "twentieth", 3: "thirtieth"}[tens]
    return f"{ {2: 'twenty', 3: 'thirty'}[tens] }-{_UNITS[units - 1]}"


def _weekday(day: datetime.date) -> str:
    return _WEEKDAYS[day.weekday()]


# Each form means one day: between dots the day comes first, between slashes the year; there is no form like 3/5/1979.
_FORMS: tuple[Callable[[datetime.date], str], ...] = (
    lambda d: f"{d.day} {_month(d)} {d.year}",
    lambda d: f"{d.day:02} {_month(d)} {d.year}",
    lambda d: f"{_month(d)} {d.day}, {d.year}",
    lambda d: f"{_month(d)} {_ordinal(d)}, {d.year}",
    lambda d: f"{_ordinal(d)} of {_month(d)} {d.year}",
    lambda d: f"the {_ordinal(d)} of {_month(d)}, {d.year}",
    lambda d: f"the {_ordinal_word(d)} of {_month(d)} {d.year}",
    lambda d: f"{_weekday(d)}, {d.day} {_month(d)} {d.year}",
    lambda d: f"{_weekday(d)}, {_month(d)} {d.day}, {d.year}",
    lambda d: f"{_weekday(d)[:3]} {d.day} {_month(d)[:3]} {d.year}",
    lambda d: f"{d.day} {_month(d)[:3]} {d.year}",
    lambda d: f"{_month(d)[:3]} {d.day} {d.year}",
    lambda d: f"{d.day}-{_month(d)[:3]}-{d.year}",
    lambda d: f"{d.day} {_month(d)} '{d.year % 100:02}",
    lambda d: f"{d.day}-{_month(d)[:3]}-{d.year % 100:02}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d: f"{d.year}{d.month:02}{d.day:02}",
    lambda d: f"{d.year} {_month(d)} {d.day}",
)

TASKS: dict[str, Callable[..., Example]] = {
    "reverse_integers": reverse_integers,
    "add_integers": add_integers,
    "echo": echo,
    "long_lag": long_lag,
    "dates": dates,
}
GROUPED_BY = {
    "add_integers": "digits of the longer number",
    "long_lag": "lag",
    "learning_to_execute": "length/nesting",
}


def write_task(folder: Path, task: str, sizes: dict[str, int], seed: int, **options: Any) -> None:
    """Write SPLIT.source, SPLIT.target and, if examples have one, SPLIT.group; no source stands twice.

    Args:
        sizes: Examples of each split.
        options: What the task is to be told beside random numbers.

    Raises:
        ValueError: there is no such task, or it has not so many sources.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}: choose one of {', '.join(TASKS)}")
    rng, make = random.Random(seed), TASKS[task]
    found: dict[str, Example] = {}
    wanted = sum(sizes.values())
    for _ in range(TRIES * wanted):
        if len(found) == wanted:
            break
        example = make(rng, **options)
        found.setdefault(example.source, example)
    if len(found) < wanted:
        raise ValueError(f"{task} was asked for {wanted:,} examples, but only {len(found):,} different ones came up")
    examples = iter(found.values())
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        write_examples(folder, split, list(itertools.islice(examples, size)))


def write_examples(folder: Path, split: str, examples: Sequence[Example]) -> None:
    """Write the files of a split, an example a line."""
    grouped = any(one.group for one in examples)
    for suffix in ("source", "target", "group") if grouped else ("source", "target"):
        text = "".join(f"{getattr(one, suffix)}\n" for one in examples)
        (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8", newline="\n")

"""Fields of the records that data come in, and what to say of one that is missing or of the wrong kind."""

import difflib
from collections.abc import Mapping

from data.errors import UserError


def string_field(record: Mapping[str, object], name: str | int, option: str, place: str, number: int) -> str:
    """What a field holds; raises UserError naming the `option` to set if it is missing or holds something else."""
    value = find_field(record, str(name), option, place, number)
    if not isinstance(value, str):
        raise UserError(
            f"{place} {number}: field {str(name)!r} holds {shorten(value)}, not a string. Correct the data, or "
            f"set {option} to a field of text; there are: {', '.join(_field_names(record))}."
        )
    return value


def find_field(record: Mapping[str, object], name: str, option: str, place: str, number: int) -> object:
    value: object = record
    for part in [name] if name in record else name.split("."):
        try:
            value = _inside(value, part)
        except KeyError:
            near = nearest(name, _field_names(record))
            raise UserError(f"{place} {number}: no field {name!r}.{near} Set {option}.") from None
    return value


def _inside(value: object, part: str) -> object:
    """A field of an object, or of every object of a list."""
    if isinstance(value, list):
        return [_inside(one, part) for one in value]
    if not isinstance(value, dict):
        raise KeyError(part)
    return value[part]


def _field_names(record: Mapping[str, object], prefix: str = "") -> list[str]:
    names = []
    for name, value in record.items():
        names += _field_names(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return names


def nearest(name: str, names: list[str]) -> str:
    lowered = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    question = f" Did you mean {lowered[near[0]]!r}?" if near else ""
    return f"{question} There are: {', '.join(names) or 'none'}."


def shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"

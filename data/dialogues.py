"""Dialogues as sentence pairs: what was said last, with some turns before it, and the reply (Vinyals and Le 2015,
section 3).

The turns of a source stand in their order with a mark between them. It is one visible character that no tokenizer
changes or joins to a word, and that no turn may hold: one that does has a space in its place.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

TURN_MARK = "␞"  # Unicode's picture of the record separator


def join_turns(turns: Iterable[str]) -> str:
    """The source that these turns make, the oldest first; blank ones leave no trace."""
    cleaned = (turn.replace(TURN_MARK, " ") for turn in turns)
    return f" {TURN_MARK} ".join(turn for turn in cleaned if turn.strip())


def split_dialogue(turns: Sequence[str], history: int) -> Iterator[tuple[str, str]]:
    """Source and reply for every turn but the first; the source is at most `history` turns before it.

    A blank turn is no reply and has none: its pairs have a blank side.
    """
    for i in range(1, len(turns)):
        said = turns[max(0, i - history) : i]
        yield join_turns(said) if join_turns(said[-1:]) else "", turns[i]


def parse_conversations(text: str) -> list[list[str]]:
    """The dialogues of a YAML file of the chatterbot-corpus: a list of lists of turns under `conversations`.

    The corpus has some single texts among them: each is a dialogue of one turn, which has no reply.

    Raises:
        ValueError: the text is no such file.
    """
    try:
        read: Any = yaml.load(text, Loader=yaml.BaseLoader)  # makes only strings: "Yes" is no boolean
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error
    found = read.get("conversations") if isinstance(read, dict) else None
    if not isinstance(found, list):
        raise ValueError("no list named conversations in it")
    dialogues = [[turns] if isinstance(turns, str) else turns for turns in found]
    for number, turns in enumerate(dialogues, 1):
        if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
            raise ValueError(f"conversation {number} is not a list of texts")
    return dialogues


def clip(ids: Sequence[int], most: int, *, end: bool) -> Sequence[int]:
    """The first `most` tokens of a source, or the last: the latest turn of a dialogue stands at its end."""
    return ids[-most:] if end else ids[:most]

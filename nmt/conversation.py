"""A conversation with a model: each turn is answered with the turns before it in mind, its own replies among them."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.dialogues import join_turns
from nmt.checkpoint import load_model
from nmt.search_options import SearchOptions
from nmt.streaming import Notes, decode_pools
from nmt.translator import Translation, Translator

RESET = "/reset"


class Conversation:
    """Keeps as many turns as the model was trained to read.

    A model that was not trained on dialogues answers every turn by itself; `history` is 0 then.
    """

    def __init__(self, translator: Translator, options: SearchOptions, history: int) -> None:
        self.history = history
        self._translator, self._options = translator, options
        self._turns = deque[str](maxlen=history)
        self._answered = 0

    @classmethod
    def load(cls, folder: Path, options: SearchOptions) -> "Conversation":
        """Talk to the model of a directory; raises UserError if it is none, is damaged or reads no text."""
        model = load_model(folder)
        return cls(Translator([model], [str(folder)]), options, model.history)

    def reset(self) -> None:
        """Forget what was said."""
        self._turns.clear()

    def answer(self, turn: str) -> Translation:
        """The reply to a turn; a blank one has a blank reply and is forgotten at once."""
        blank = not join_turns([turn])
        source = "" if blank else join_turns([*self._turns, turn][-max(1, self.history) :])
        # the number of the turn, lest a sample of the same words be the same reply every time
        (found,) = self._translator.translate([source], self._options, first_line=self._answered)
        self._answered += 1
        if not blank:
            self._turns += [turn, found.text]
        return found

    def answer_lines(self, pools: Iterable[list[bytes]], notes: Notes) -> Iterator[str]:
        """The replies to lines as they come, see `nmt.streaming.read_pools`; /reset forgets and has no reply."""
        for _, lines in decode_pools(pools, notes):
            for line in lines:
                if line.strip() == RESET:
                    self.reset()
                else:
                    yield self.answer(line).text

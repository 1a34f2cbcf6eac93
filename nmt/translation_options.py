"""How translations are searched for, and what the attention behind them is used for."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from data.errors import UserError
from nmt.search_options import SearchOptions


@dataclass(frozen=True)
class TranslationOptions(SearchOptions):
    """The options of search, and one that needs a text to have been attended to.

    Args:
        replace_unknown: Let the unknown token be written, and put in its place the word of the source, as typed, that
            was attended to most at that step (Luong et al. 2015, section 4.1; Jean et al. 2015, section 3.3). For
            vocabularies of words.
    """

    replace_unknown: bool = False

    def for_search(self) -> "TranslationOptions":
        """What search has to be asked for."""
        return replace(self, allow_unknown=self.allow_unknown or self.replace_unknown)

    def check(self, name: str, *, attention: bool, levels: Iterable[str]) -> None:
        """Raises UserError if `name`, a model with or without attention and vocabularies of these levels, cannot do
        what is asked for."""
        if self.replace_unknown and not attention:
            raise UserError(
                f"{name} has no attention, so nobody can tell what it read for a word: leave out replace_unknown "
                "(--replace-unknown), or train with model.attention general"
            )
        other = next((level for level in levels if level != "word"), None)
        if self.replace_unknown and other:
            raise UserError(
                f"{name} has a vocabulary of level {other}, not of words, and writes unknown words in parts: leave out "
                "replace_unknown (--replace-unknown)"
            )

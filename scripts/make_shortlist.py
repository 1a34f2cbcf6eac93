"""Learn from the training text which target words each source word may need, so that translating looks at few."""

from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from scripts.command import Help, Parser, run
from scripts.output import check_outputs

# what needs numpy is imported when it is used: --help and a wrong option answer at once

NAME = "make_shortlist.py"
_EXAMPLE = f"{NAME} --model RUN/model --data RUN/data --out FILE"
_DESCRIPTION = """
Writes a vocabulary shortlist for `translate --shortlist FILE`: for each source word the target words that it is most
probably translated by (IBM Model 1), and the most frequent ones. Translating is faster
so, the more the larger the vocabulary is.

It tells how many of the words of the validation text's translations are in the list of their sentence: if they are few,
raise --best or --frequent.
"""


def main() -> None:
    parser = Parser(NAME, _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = f"{_EXAMPLE} [options]", Help
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="model directory; of an ensemble any")
    add("--data", required=True, metavar="DIR", help="prepared directory that it was trained on")
    add("--out", required=True, metavar="FILE", help="where the shortlist goes")
    add("--best", type=PositiveInt, default=20, metavar="N", help="target words for each source word")
    add("--frequent", type=NonNegativeInt, default=100, metavar="N", help="most frequent target words, always allowed")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    make_shortlist(parser.read())


def make_shortlist(args: Any) -> None:
    check_outputs([args.out], [], args.overwrite)

    from nmt.shortlist_making import make_shortlist as make

    found = make(Path(args.model), Path(args.data), Path(args.out), best=args.best, frequent=args.frequent)
    print(f"{args.out}: {found.entries:,} target words in the lists of the source words")
    print(
        f"The validation text: {found.covered:.2%} of the known target words are in the list of their sentence, which "
        f"has {found.mean_words:,.0f} of {found.vocabulary:,} words on average"
    )


if __name__ == "__main__":
    run(NAME, main)

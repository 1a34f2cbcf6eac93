"""Draw what a model's encoder makes of sentences as a map, and tell which are nearest to each other."""

from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from scripts.command import Help, Parser, run
from scripts.output import check_outputs

NAME = "sentence_map.py"
_EXAMPLE = f"{NAME} --model RUN/model FILE --out map.png"
_DESCRIPTION = """
Reads one sentence a line from FILE; blank lines part sets of sentences, which get a colour each. Writes their encoder
states on two principal components as a picture, and prints the nearest others of each sentence. Sets that differ in
order and voice show what the vectors keep: docs/order_and_voice.de.txt.
"""


def main() -> None:
    parser = Parser(NAME, _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = f"{_EXAMPLE} [options]", Help
    add = parser.add_argument
    add("file", metavar="FILE", help="sentences of the model's source language")
    add("--model", required=True, metavar="DIR", help="model directory of a run")
    add("--out", required=True, metavar="PICTURE", help="where to draw the map: .png, .svg or .pdf")
    add("--neighbours", type=PositiveInt, default=2, metavar="N", help="nearest sentences told for each")
    add("--overwrite", action="store_true", help="replace the picture if it exists")
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    draw(parser.read())


def draw(args: Any) -> None:
    check_outputs([args.out], [args.file], args.overwrite)
    import torch
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nmt.sentence_vectors import draw_map, neighbours, project, read_sets, same_set_share
    from nmt.translator import Translator

    if args.threads:
        torch.set_num_threads(args.threads)
    given = read_sets(Path(args.file))
    vectors = Translator.load(args.model).sentence_vectors(given.sentences)
    found = neighbours(vectors, args.neighbours)
    draw_map(Path(args.out), given, project(vectors))
    table = Table("set", "sentence", "nearest (cosine)")
    for sentence, number, others in zip(given.sentences, given.sets, found, strict=True):
        nearest = "\n".join(f"{other.cosine:.2f} {given.sentences[other.row]}" for other in others)
        table.add_row(str(number + 1), Text(sentence), Text(nearest))
    console = Console()
    console.print(table)
    if len(set(given.sets)) > 1:
        share = same_set_share(found, given.sets)
        console.print(f"{share:.0%} of the sentences have their nearest other in their own set", highlight=False)
    console.print(f"written: {args.out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run(NAME, main)

"""Say in a sentence what is in images: caption --model RUN/model [PATHS...] (also: python -m scripts.caption)."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse.typing import PositiveInt

from data.errors import UserError
from scripts.command import Help, Parser, run
from scripts.output import check_outputs, open_output
from scripts.search_options import add_sampling, add_search, check_sampling, search_options

if TYPE_CHECKING:
    from captioning.captioner import Captioner, ImageCaption
    from captioning.gallery import Gallery
    from captioning.outputs import Captioned
    from nmt.explanation_page import ExplanationPage
    from nmt.search_options import SearchOptions

# what needs torch or the image library is imported when it is used: --help and a wrong option answer at once

_DESCRIPTION = """
Captions images: files, whole folders, quoted patterns such as 'photos/*.jpg', and - or no PATHS for a list on standard
input, one path a line. In folders, images are told by their suffix, and hidden files are left out. Writes the name of
each image, a tab and its caption, in the order given, a batch at a time.

An image that cannot be read is reported on standard error and has an empty caption; the rest go on, and the exit code
is 1 at the end. Several best (--n-best 2 and more) are lines of five columns with tabs between them:
name, rank (from 1), score, log-probability, caption.
"""
_EXAMPLE = "caption --model RUN/model [PATHS ...] [options]"


def main() -> NoReturn:
    run("caption", _caption)


def _parser() -> Parser:
    parser = Parser("caption", _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = _EXAMPLE, Help
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATHS", help="images, folders, patterns, or - for a list on standard input")
    add("--model", action="append", required=True, metavar="DIR",
        help="model directory of a run; give several for an ensemble (--model A --model B)")  # fmt: skip
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    add("--batch", type=PositiveInt, default=32, metavar="N", help="images at a time; more takes more memory")

    group = parser.add_argument_group("Output")
    add = group.add_argument
    formats = group.add_mutually_exclusive_group().add_argument
    formats("--json", action="store_true",
        help="write one array of {image, caption, captions: [{text, log_prob, score}], error}")  # fmt: skip
    formats("--jsonl", action="store_true", help="write these objects one a line")
    formats("--csv", action="store_true", help="write a table with a header and a row for each caption")
    formats("--txt", action="store_true", help="write a text file for each image, beside it, and nothing else")
    add("--txt-dir", metavar="DIR", help="put these text files here, in folders as the images are")
    add("--output", metavar="FILE", help="write here instead of to standard output")
    add("--gallery", metavar="FILE", help="also write one HTML page with thumbnails, that needs no other file")
    add("--explain", metavar="FILE",
        help="also write an HTML page of the first 100: what was seen for each word, the alternatives")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that are there already")

    add = add_search(parser, "caption", "image")
    add("--consensus", type=float, metavar="T", default=0.0,
        help="write the caption that agrees most with all that the beam found; T, such as 3, flattens their "
        "probabilities")  # fmt: skip
    add("--mirror", action="store_true",
        help="look at the mirror image of each image as well (twice the time); --explain does not")  # fmt: skip
    add_sampling(parser, "caption")
    return parser


def _caption() -> int:
    parser = _parser()
    args = parser.read()
    _check(parser, args)

    from captioning.gallery import Gallery
    from captioning.inputs import batches, pools
    from captioning.outputs import FORMATS, TextFiles, caption_batches, text_lines

    note = f"{', '.join(args.model)}, {'sampled' if args.sample else f'beam {args.beam}'}"
    gallery = Gallery(Path(args.gallery), note=note, overwrite=args.overwrite) if args.gallery else None
    files = TextFiles(Path(args.txt_dir) if args.txt_dir else None, overwrite=args.overwrite) if args.txt else None
    check_outputs([args.output], [], args.overwrite)
    page = _image_page(args, note) if args.explain else None

    import torch

    from captioning.captioner import Captioner
    from captioning.options import CaptionOptions
    from nmt.streaming import read_pools

    options = search_options(parser, args, CaptionOptions)
    if args.threads:
        torch.set_num_threads(args.threads)
    paths = args.paths or ["-"]
    descriptor = _standard_input() if "-" in paths else None
    lines = [] if descriptor is None else read_pools(descriptor, "standard input")
    captioner = Captioner.load(args.model, precision=args.precision)
    with contextlib.ExitStack() as stack:
        write = open_output(args.output, descriptor, stack)
        if gallery:
            stack.enter_context(gallery)
        images = batches(pools(paths, lines), args.batch)
        if files:
            images = (list(map(files.reserve, batch)) for batch in images)
        failed: list[str] = []
        caption = partial(_image_captions, captioner, options, stack.enter_context(page) if page else None)
        done = _reported(caption_batches(caption, images), failed, gallery)
        if files:
            for batch in done:
                files.write(batch)
        else:
            to_text = next((FORMATS[name] for name in FORMATS if args[name]), partial(text_lines, n_best=args.n_best))
            for text in to_text(done):
                write(text)
    if page and page.full:
        print(f"caption: {args.explain} holds {page.summary()}", file=sys.stderr)
    return 1 if failed else 0


def _check(parser: Parser, args: Any) -> None:
    """Refuse what would silently do nothing, and what is surely a slip."""
    from captioning.inputs import SUFFIXES

    if args.txt_dir and not args.txt:
        parser.error("--txt-dir needs --txt")
    if args.output and args.txt:
        parser.error("--output and --txt exclude each other: --txt-dir says where the text files go")
    for option in ("output", "gallery", "explain"):
        if args[option] and Path(args[option]).suffix.lower() in SUFFIXES:
            parser.error(f"--{option} {args[option]} has the name of an image, which would be written over")
    for one, other in (("output", "gallery"), ("output", "explain"), ("gallery", "explain")):
        if args[one] and args[other] and Path(args[one]) == Path(args[other]):
            parser.error(f"--{one} and --{other} name the same file")
    check_sampling(parser, args)


def _standard_input() -> int:
    if sys.stdin is None:
        raise UserError("standard input is closed: give PATHS")
    return sys.stdin.fileno()


def _image_page(args: Any, note: str) -> "ExplanationPage":
    from captioning.explanation_page import image_page

    return image_page(Path(args.explain), note=note, overwrite=args.overwrite)


def _image_captions(
    captioner: "Captioner", options: "SearchOptions", page: "ExplanationPage | None", paths: list[Path], first: int
) -> "list[ImageCaption]":
    """What `caption_batches` asks for, shown on the page too."""
    found = captioner.caption(paths, options, first_image=first)
    if page:
        from captioning.explanation_page import add_captions

        add_captions(page, captioner, paths, found)
    return found


def _reported(
    done: "Iterable[list[Captioned]]", failed: list[str], gallery: "Gallery | None"
) -> "Iterator[list[Captioned]]":
    """The same batches; adds their images to the gallery, and tells of those that failed, whose names are kept."""
    from captioning.gallery import GalleryEntry
    from nmt.page import printable

    for batch in done:
        for one in batch:
            name = one.image.name
            if one.error is not None:
                failed.append(name)
                print(f"caption: {printable(name)}: {printable(one.error)}", file=sys.stderr, flush=True)
            if gallery:
                entry = GalleryEntry(one.image.path, one.caption or "", one.hypotheses, error=one.error, name=name)
                gallery.add(entry)
        yield batch


if __name__ == "__main__":
    main()

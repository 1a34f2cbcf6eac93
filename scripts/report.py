"""A run as one HTML page that opens anywhere: report RUN (also: python -m scripts.report)."""

import sys
from pathlib import Path
from typing import NoReturn

from scripts.command import Help, Parser, run

_DESCRIPTION = """
Writes one page about a run of training: scores with their signatures, curves, outputs good and bad, what depends on
length and unknown words, the figures of the data, and the configuration. What a run lacks is said there.
"""
_EXAMPLE = "report RUN [--out FILE] [--overwrite]"


def main() -> NoReturn:
    run("report", _report)


def _report() -> None:
    parser = Parser("report", _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = _EXAMPLE, Help
    parser.add_argument("run", metavar="RUN", help="directory that a recipe or training wrote to")
    parser.add_argument("--out", metavar="FILE", help="where the page goes (default: RUN/report.html)")
    parser.add_argument("--overwrite", action="store_true", help="replace a page that is there already")
    args = parser.read()

    from nmt.report import frame_sections, read_settings, translation_sections, write_report

    folder = Path(args.run)
    out = Path(args.out) if args.out else folder / "report.html"
    settings = read_settings(folder)
    if "image" in settings:
        from captioning.gallery import STYLE
        from captioning.report import caption_sections

        missing = write_report(folder, out, caption_sections(folder), style=STYLE, overwrite=args.overwrite)
    else:
        sections = frame_sections if settings.keys() & {"gestures", "frames"} else translation_sections
        missing = write_report(folder, out, sections(folder), overwrite=args.overwrite)
    for line in missing:
        print(f"report: {line}", file=sys.stderr)
    print(out)


if __name__ == "__main__":
    main()

"""Prepare parallel text for training: tokenizers, ids, and a report of what was kept."""

from dataclasses import fields
from pathlib import Path

from scripts.command import Parser, run


def prepare() -> None:
    from rich.console import Console

    from data.config import PrepareConfig
    from data.prepare import prepare as prepare_directory
    from data.report import render

    parser = Parser(
        "prepare_translation.py",
        "Turn parallel text into tokenizers and memory-mapped ids, and report what was kept, dropped and why.",
        "prepare_translation.py --train.source FILE --train.target FILE --valid.source FILE --valid.target FILE "
        "--out DIR",
    )
    parser.add_argument("--out", type=Path, required=True, help="Directory to write.")
    parser.add_argument("--data", type=Path, default=None, help="Folder that relative file names are looked up in.")
    parser.add_argument("--overwrite", action="store_true", help="Replace --out if it exists.")
    parser.add_class_arguments(PrepareConfig)
    options = parser.read()
    config = PrepareConfig(**{field.name: options[field.name] for field in fields(PrepareConfig)})
    report = prepare_directory(config, options.out, base=options.data, overwrite=options.overwrite)
    console = Console()
    console.print(render(report))
    console.print(f"{report.pairs_per_second:,.0f} pairs/s; written to {options.out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run("prepare_translation.py", prepare)

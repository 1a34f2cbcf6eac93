"""Prepare captioned images for training: features of every image, a vocabulary, ids, and a report of what was kept."""

from dataclasses import fields
from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from scripts.command import Parser, run


def prepare() -> None:
    from captioning.config import CaptionPrepareConfig

    parser = Parser(
        "prepare_captioning.py",
        "Turn captioned images into CNN features, a tokenizer and memory-mapped ids, and report what was kept, left "
        "out and why. Extraction goes on where it was interrupted when the command is given again.",
        "prepare_captioning.py --train.captions FILE --train.list FILE --train.images DIR --valid.captions FILE "
        "--valid.list FILE --valid.images DIR --out DIR",
    )
    parser.add_argument("--out", type=Path, required=True, help="Directory to write.")
    parser.add_argument("--data", type=Path, default=None, help="Folder that relative file names are looked up in.")
    parser.add_argument("--overwrite", action="store_true", help="Replace the prepared captions in --out.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_class_arguments(CaptionPrepareConfig)
    options = parser.read()

    import torch
    from rich.console import Console

    from captioning.prepare import prepare_captioning, render

    if options.threads:
        torch.set_num_threads(options.threads)
    config = CaptionPrepareConfig(**{field.name: options[field.name] for field in fields(CaptionPrepareConfig)})
    console = Console()
    console.print(
        render(prepare_captioning(config, options.out, console, base=options.data, overwrite=options.overwrite))
    )
    console.print(f"written to {options.out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run("prepare_captioning.py", prepare)

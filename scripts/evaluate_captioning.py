"""Score a captioner on images with captions: coco-caption's metrics, beside baselines that tell what they mean."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt

from data.errors import UserError
from scripts.command import Parser, run
from scripts.output import check_outputs

NAME = "evaluate_captioning.py"


def evaluate() -> int:
    options = _read_options()
    check_outputs([options.json, options.output], [options.captions, options.list], options.overwrite)
    regular = options.json and (options.json.is_file() or not options.json.exists())  # /dev/null has no neighbours
    captioned = options.json.with_suffix(".captions.jsonl") if regular else None
    check_outputs([captioned], [options.captions, options.list], options.overwrite)

    import torch
    from rich.console import Console

    from captioning.captioned import write_captioned
    from captioning.captioner import Captioner
    from captioning.coco_metrics import compare
    from captioning.evaluation import decode_texts, evaluate_captions, render, render_comparison, result_json
    from data.captions import CaptionSplit, read_captioned_images
    from data.files import write_text
    from data.text_files import fingerprint
    from nmt.checkpoint import versions

    if options.threads:
        torch.set_num_threads(options.threads)
    files = {"images": options.images, "captions": options.captions, "list": options.list}
    split = CaptionSplit(**{name: str(path) for name, path in files.items() if path}, split=options.split)
    found = read_captioned_images(split)
    captioner = Captioner.load(options.model)
    other = Captioner.load([options.compare]) if options.compare else None
    _warn_of(found.missing)
    print(f"{NAME}: reading {len(found.images):,} images ...", file=sys.stderr)
    read = captioner.read([one.path for one in found.images], views=options.search.views)
    _warn_of({found.images[i].name: why for i, why in read.errors.items()})
    if not read.rows:
        raise UserError(f"{options.images}: no image could be read: check --images")
    images = [found.images[i] for i in read.rows]
    references = [one.captions for one in images]
    train = _training_images(options)
    if train and captioner.models[0].config["fine_tuned"]:
        why = "the model's CNN was fine-tuned, so its features are not those that the training images have in --data"
        without = "there is no nearest-image baseline, and no count of captions copied from them"
        print(f"{NAME}: {why}: {without}", file=sys.stderr)
        train = None
    result = evaluate_captions(captioner.models, read.features, references, options.search, train)
    console = Console()
    console.print(render(result))
    compared = None
    if other:
        its_read = other.read([one.path for one in images], views=options.search.views)
        its, _ = decode_texts(other.models, its_read.features, options.search)
        compared = compare(result.captions, its, references)
        console.print(render_comparison(compared, str(options.compare)))
    if options.output:
        write_text(options.output, "".join(f"{text}\n" for text in result.captions))
    if options.json:
        if captioned:
            write_captioned(captioned, images, result.captions)
        origin: dict[str, Any] = {
            "output": captioned.name if captioned else None,
            "left_out": found.missing | {found.images[i].name: why for i, why in read.errors.items()},
            "compare": asdict(compared) if compared else None,
            "search": asdict(options.search),
            "data": {name: {"path": str(path)} for name, path in files.items() if path},
            "models": [
                {"path": str(path), "manifest_sha256": fingerprint(Path(path) / "MANIFEST")} for path in options.model
            ],
            "versions": versions(),
        }
        for name in ("captions", "list"):
            if files[name]:
                origin["data"][name]["sha256"] = fingerprint(files[name])
        write_text(options.json, result_json(result, origin))
    return 0


def _read_options() -> Any:
    from captioning.options import CaptionOptions

    parser = Parser(
        NAME,
        "Caption images that people have captioned, and score the result with BLEU-1 to BLEU-4, ROUGE-L, CIDEr (which "
        "is CIDEr-D), and METEOR where Java and pycocoevalcap are found.",
        f"{NAME} --model RUN/model --images DIR --captions FILE --list FILE --json OUT",
    )
    parser.add_argument(
        "--model", action="append", type=str, required=True,
        help="Model directory; give it again to let several caption together.",
    )  # fmt: skip
    parser.add_argument("--images", type=Path, help="Folder with the images.")
    parser.add_argument(
        "--captions", type=Path, required=True, help="Their captions, in any layout that prepare reads."
    )
    parser.add_argument("--list", type=Path, help="File with the names of the images to score; by default all.")
    parser.add_argument("--split", type=str, default="", help="The split, where the captions file has several.")
    parser.add_argument(
        "--data", type=Path,
        help="Prepared directory that the model was trained on, for the nearest-image baseline (default: data beside "
        "the model directory, if it is there).",
    )  # fmt: skip
    parser.add_argument("--compare", type=Path, help="Another model directory, to test the difference in CIDEr from.")
    parser.add_argument("--json", type=Path, help="Where to write all figures; the captions go beside it.")
    parser.add_argument("--output", type=Path, help="Where to write the captions, one a line.")
    parser.add_argument("--overwrite", action="store_true", help="Replace output files that exist.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_class_arguments(CaptionOptions, "search")
    return parser.read()


def _training_images(options: Any) -> Any:
    """What the model was trained on, if it is to be found."""
    from captioning.evaluation import TrainingImages

    folder = options.data or Path(options.model[0]).resolve().parent / "data"
    if options.data or (folder / "text").is_dir():
        return TrainingImages.read(folder)
    print(f"{NAME}: {folder}: no prepared data, so there is no nearest-image baseline: give --data", file=sys.stderr)
    return None


def _warn_of(left_out: dict[str, str]) -> None:
    for name, why in left_out.items():
        print(f"{NAME}: {name}: {why}: left out", file=sys.stderr)


if __name__ == "__main__":
    run(NAME, evaluate)

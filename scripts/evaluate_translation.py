"""Score translations against references: BLEU, chrF, TER and ROUGE-L, and what explains them."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt

from scripts.command import Parser, run
from scripts.output import check_outputs

if TYPE_CHECKING:
    from nmt.evaluation import SystemOutput

NAME = "evaluate_translation.py"
_MANY_UNKNOWN = 0.05  # share of the source's tokens


def evaluate() -> None:
    options = read_options()
    output = output_path(options)
    inputs = input_files(options)
    check_outputs([options.json, output], inputs.values(), options.overwrite)

    import torch
    from rich.console import Console

    from data.files import write_text
    from data.text_files import read_lines
    from nmt import evaluation as scoring
    from nmt.metrics import bootstrap_seed, read_scored_text

    if options.threads:
        torch.set_num_threads(options.threads)
    seeds = {"search": options.search.seed, "bootstrap": bootstrap_seed()}
    texts = {name: list((read_lines if name == "source" else read_scored_text)(path)) for name, path in inputs.items()}
    scoring.check_line_counts({path: texts[name] for name, path in inputs.items()})
    references = [lines for name, lines in texts.items() if name.startswith("reference")]
    system, other = find_systems(options, texts, references)
    found = scoring.evaluate(system, texts["source"], references, other=other)
    if output:
        write_text(output, "".join(f"{line}\n" for line in system.lines))
    if options.json:
        folders = model_folders(options)
        files = inputs | ({"output": output} if output else {})
        models = {"models": folders.get("hypotheses", []), "compare_models": folders.get("compare", [])}
        search = asdict(options.search) if folders else None
        origin = {"search": search, "seeds": seeds, **scoring.describe(files, models)}
        write_text(options.json, scoring.format_json(found, origin))
    console = Console()
    console.print(scoring.render(found, str(options.compare)))
    for path in (output, options.json):
        if path:
            console.print(f"written: {path}", highlight=False, soft_wrap=True)


def read_options() -> Any:
    from nmt.translation_options import TranslationOptions

    parser = Parser(
        NAME,
        "Score a model, or translations that are there already, with BLEU, chrF, TER and ROUGE-L. The figures of the "
        "first three equal those of the sacrebleu command on the same files.",
        f"{NAME} --model RUN/model --source FILE --reference FILE --json OUT",
    )
    parser.add_argument(
        "--model", action="append", type=str, help="Model directory; give it again to let several translate together."
    )
    parser.add_argument("--hypotheses", type=Path, help="Score the translations in this file instead of a model's.")
    parser.add_argument("--source", type=Path, required=True, help="Raw text, one sentence a line.")
    parser.add_argument(
        "--reference", action="append", type=str, required=True,
        help="Its untouched translation, line for line; give it again for further translations.",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=Path, help="Model directory or file of translations to test the difference from."
    )
    parser.add_argument("--json", type=Path, help="Where to write all figures.")
    parser.add_argument(
        "--output", type=Path, help="Where to write the translations; by default beside --json, if that is given."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace output files that exist.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_class_arguments(TranslationOptions, "search")
    options = parser.read()
    if bool(options.model) == bool(options.hypotheses):
        parser.error("give either --model or --hypotheses")
    if options.hypotheses and options.output:
        parser.error("--output is for the translations of a --model; those of --hypotheses are in a file already")
    return options


def output_path(options: Any) -> Path | None:
    """Where translations are written, if anywhere."""
    special = options.json and options.json.exists() and not options.json.is_file()  # /dev/null has no neighbours
    if options.model and options.json and not options.output and not special:
        return Path(options.json).with_suffix(".translations.txt")
    return Path(options.output) if options.output else None


def input_files(options: Any) -> dict[str, Path]:
    """The text files to read, by what they are: source, reference1..., hypotheses, compare."""
    files = {"source": options.source}
    files |= {f"reference{i}": Path(name) for i, name in enumerate(options.reference, 1)}
    if options.hypotheses:
        files["hypotheses"] = options.hypotheses
    if options.compare and not options.compare.is_dir():
        files["compare"] = options.compare
    return files


def find_systems(
    options: Any, texts: dict[str, list[str]], references: list[list[str]]
) -> tuple["SystemOutput", "SystemOutput | None"]:
    """The system to score and the one to compare it with; both are loaded before either translates."""
    from nmt.evaluation import System, SystemOutput

    loaded = {}
    for name, folders in model_folders(options).items():
        loaded[name] = system = System.load(folders, texts["source"], options.source)
        if (rate := system.source_unknown_rate or 0.0) > _MANY_UNKNOWN:
            warn(f"warning: {options.source}: {folders[0]} does not know {rate:.1%} of the tokens")
    outputs: dict[str, SystemOutput] = {}
    outputs |= {name: SystemOutput(texts[name]) for name in ("hypotheses", "compare") if name in texts}
    for name, system in loaded.items():
        warn(f"translating {len(texts['source']):,} lines ...")
        outputs[name] = system.translate(texts["source"], options.search, references)
    return outputs["hypotheses"], outputs.get("compare")


def model_folders(options: Any) -> dict[str, list[Path]]:
    """The model directories whose translations take the place of a file's."""
    folders = {}
    if options.model:
        folders["hypotheses"] = [Path(name) for name in options.model]
    if options.compare and options.compare.is_dir():
        folders["compare"] = [options.compare]
    return folders


def warn(message: str) -> None:
    print(f"{NAME}: {message}", file=sys.stderr)


if __name__ == "__main__":
    run(NAME, evaluate)

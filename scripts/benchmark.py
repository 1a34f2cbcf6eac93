"""Measure how fast the stages are and what memory they take, on the machine at hand."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from scripts.command import Parser, run
from scripts.output import check_outputs

if TYPE_CHECKING:
    from rich.console import RenderableType

# what needs torch is imported when it is used: --help and a wrong option answer at once

NAME = "benchmark.py"
_COMMANDS = {
    "limits": "The machine's own rates for the operations that the models are made of.",
    "train": "Train a translator of 2x512 units on random words, beside the usual tutorial loop.",
    "decode": "Translate with a trained model, in batches and alone, beside the plain loop; start the command.",
    "peers": "Train and translate beside other programs: OpenNMT-py, JoeyNMT, Marian.",
    "prepare": "Prepare a corpus of repeated sentence pairs: pairs per second, peak memory of all processes.",
    "caption": "Caption images with a trained model: features, from files to text, one from a cold start.",
    "growth": "The cost of a target word as sentences, vocabulary, beam, batch, corpus and model grow.",
    "all": "All of these but peers, one after the other, that the options given here allow.",
}
_NEEDED = {"decode": ("model", "source"), "prepare": ("data",), "caption": ("captioner", "images")}  # by `all`


def main() -> int:
    example = f"{NAME} {'|'.join(_COMMANDS)}"
    parser = Parser(NAME, "Measure speed and memory; ways that are compared take turns.", example)
    commands = parser.add_subcommands(dest="what")
    parsers = {}
    for what, description in _COMMANDS.items():
        parsers[what] = one = Parser(f"{NAME} {what}", description, f"{NAME} {what}")
        one.add_argument("--threads", type=int, default=1, help="Threads that compute, or in prepare processes.")
        one.add_argument(
            "--rounds", type=int, default=2 if what == "peers" else 3, help="How often everything is measured."
        )
        one.add_argument("--json", type=Path | None, help="File to write the measurement to.")
        one.add_argument("--overwrite", action="store_true", help="Replace files that are there already.")
        _add_own(one, what)
        commands.add_subcommand(what, one)
        one.prog = f"{NAME} {what}"  # a subcommand gets the whole usage of its parent put before its name
    read = parser.read()
    options = read[read.what]
    for name in ("threads", "rounds", "count", "pairs"):
        if options.get(name, 1) < 1:
            parsers[read.what].error(f"--{name} {options[name]}: give 1 or more")
    if read.what == "peers":
        _check_peers(parsers["peers"], options)
    for name in ("json", "figure"):
        path = options.get(name)
        if path and not path.absolute().parent.is_dir():  # known before hours of measuring
            parsers[read.what].error(f"--{name} {path}: there is no such folder")
    check_outputs([options.json, options.get("figure")], [], options.overwrite)

    import torch
    from rich.console import Console

    from scripts.benchmarks.timing import hardware, write_json

    torch.set_num_threads(options.threads)
    console = Console()
    found: dict[str, Any] = {}
    failed = False
    for what, lacking in _chosen(read.what, options):
        try:
            if lacking:
                raise UserError(f"needs {lacking}")
            measured, shown = _measure(what, options)
        except UserError as error:
            if read.what != "all":
                raise
            failed = failed or not lacking
            found.setdefault("left_out", {})[what] = str(error)
            console.print(f"{what} is left out: {error}", highlight=False, markup=False, soft_wrap=True)
            continue
        found |= {what: measured} if read.what == "all" else measured
        console.print(shown)
    console.print(f"{options.threads} thread(s); {hardware()}", highlight=False)
    write_json(options.json, {"threads": options.threads, **found})
    return int(failed)


def _chosen(what: str, options: Any) -> Iterator[tuple[str, str]]:
    """What to measure, and the options that it lacks."""
    if what != "all":
        yield what, ""
        return
    for one in (name for name in _COMMANDS if name not in ("peers", "all")):
        lacking = [f"--{name}" for name in _NEEDED.get(one, ()) if not options[name]]
        yield one, " and ".join(lacking)


def _add_own(parser: Parser, what: str) -> None:
    """The options of one measurement."""
    add, every = parser.add_argument, what == "all"
    path: Any = Path | None if every else Path
    if what in ("decode", "all"):
        add("--model", type=path, required=not every, help="Model directory of a translator.")
        add("--source", type=path, required=not every, help="Text to translate.")
        add("--shortlist", type=Path | None, help="Vocabulary shortlist of the model, to translate with, too.")
    if what in ("caption", "all"):
        name = "--captioner" if every else "--model"
        add(name, type=path, required=not every, help="Model directory of a captioner.")
        add("--images", type=path, required=not every, help="Folder of images.")
    if what in ("decode", "caption", "all"):
        add("--count", type=int, default=1000 if what == "decode" else 200, help="Lines or images to use.")
    if what in ("prepare", "all"):
        add("--pairs", type=int, default=200_000, help="Sentence pairs to prepare.")
        add("--data", type=path, required=not every, help="Folder that holds fra.txt (TSV).")
    if what in ("growth", "all"):
        add("--figure", type=Path | None, help="PNG file to draw the growth of costs to.")
    if what == "peers":
        add("--data", type=Path, required=True, help="Tokenized text: train, val and test, each as .de and .en.")
        add("--environments", type=Path, required=True,
            help="Folder of the peers' virtual environments: v_onmt, v_joey, v_marian.")  # fmt: skip
        add("--peers", type=str, default="onmt,joey,marian", help="Peers to compare with.")
        add("--models", type=Path | None, help="Folder to keep the models in that translate, and to reuse them.")
        add("--updates", type=int, default=60, help="Updates timed in training, after 20 others; 0 to translate only.")
        add("--minutes", type=float, default=8.0, help="How long each model that translates learns.")


def _check_peers(parser: Parser, options: Any) -> None:
    """Refuse what cannot be measured; the names of the peers become a list."""
    from scripts.benchmarks.peer_programs import PEERS, REPORT_EVERY

    options.peers = options.peers.split(",")
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"--peers {unknown[0]}: choose from {','.join(PEERS)}")
    if options.updates < 0 or options.updates % REPORT_EVERY:
        parser.error(f"--updates {options.updates}: give a multiple of {REPORT_EVERY}, as speed is told so often")
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g}: give more than 0")


def _measure(what: str, options: Any) -> "tuple[dict[str, Any], RenderableType]":
    """What was found, for a file, and the same to be shown."""
    rounds, threads = options.rounds, options.threads
    match what:
        case "limits":
            from scripts.benchmarks import limits

            rates = limits.measure_limits(limits.Shape(), rounds)
            return {"limits": [asdict(one) for one in rates]}, limits.render(rates)
        case "train":
            from scripts.benchmarks import training

            trained = training.measure_training(rounds, threads)
            return asdict(trained), training.render(trained)
        case "decode":
            from scripts.benchmarks import decoding

            decoded = decoding.measure_decoding(
                options.model, options.source, options.count, rounds, threads, options.shortlist
            )
            return asdict(decoded), decoding.render(decoded)
        case "peers":
            from scripts.benchmarks import peer_rounds, peers

            compared = peers.measure_peers(
                peers.Options(**{field.name: options[field.name] for field in fields(peers.Options)})
            )
            return peer_rounds.record(compared), peer_rounds.render(compared)
        case "prepare":
            from scripts.benchmarks import preparing

            prepared = preparing.measure_prepare(options.pairs, options.data / "fra.txt", rounds, threads)
            return asdict(prepared), preparing.render(prepared)
        case "caption":
            from scripts.benchmarks import captioning

            model = options.get("captioner") or options.model
            captioned = captioning.measure_captioning(model, options.images, options.count, rounds, threads)
            return asdict(captioned), captioning.render(captioned)
        case _:
            from scripts.benchmarks import growth
            from scripts.benchmarks.growth_figure import draw_growth
            from scripts.benchmarks.timing import hardware

            costs = growth.measure_growth(growth.Axes(), rounds)
            if options.figure:
                draw_growth(options.figure, costs, f"{threads} thread(s); {hardware()}")
            return {"growth": [asdict(one) for one in costs]}, growth.render(costs)


if __name__ == "__main__":
    run(NAME, main)

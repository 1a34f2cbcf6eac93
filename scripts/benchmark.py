"""Measure how fast the stages are and what memory they take, on the machine at hand."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.command import Parser, run

if TYPE_CHECKING:
    from rich.console import RenderableType

# what needs torch is imported when it is used: --help and a wrong option answer at once

NAME = "benchmark.py"
_COMMANDS = {
    "limits": "The machine's own rates for the operations that the models are made of.",
    "train": "Train a translator of 2x512 units on random words, beside the usual tutorial loop.",
    "decode": "Translate with a trained model, in batches and one sentence alone, beside the plain loop.",
    "peers": "Train and translate beside other programs: OpenNMT-py, JoeyNMT, Marian.",
    "prepare": "Prepare a corpus of repeated sentence pairs: pairs per second, peak memory of all processes.",
    "features": "Extract image features, beside computing them one image at a time.",
    "cold": "Caption one image from a cold start, beside importing torch and nothing else.",
}


def main() -> None:
    example = f"{NAME} {'|'.join(_COMMANDS)}"
    parser = Parser(NAME, "Measure speed and memory; ways that are compared take turns.", example)
    commands = parser.add_subcommands(dest="what")
    parsers = {}
    for what, description in _COMMANDS.items():
        parsers[what] = one = Parser(f"{NAME} {what}", description, f"{NAME} {what}")
        one.add_argument("--threads", type=int, default=1, help="Threads that compute.")
        one.add_argument(
            "--rounds", type=int, default=2 if what == "peers" else 3, help="How often everything is measured."
        )
        one.add_argument("--json", type=Path | None, help="File to write the measurement to.")
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

    import torch
    from rich.console import Console

    from scripts.benchmarks.timing import hardware, write_json

    torch.set_num_threads(options.threads)
    found, table = _measure(read.what, options)
    console = Console()
    console.print(table)
    console.print(f"{options.threads} thread(s); {hardware()}", highlight=False)
    write_json(options.json, found)


def _add_own(parser: Parser, what: str) -> None:
    """The options of one measurement."""
    add = parser.add_argument
    match what:
        case "decode":
            add("--model", type=Path, required=True, help="Model directory of a translator.")
            add("--source", type=Path, required=True, help="Text to translate.")
            add("--count", type=int, default=1000, help="Lines of it to use.")
        case "peers":
            add("--data", type=Path, required=True, help="Tokenized text: train, val and test, each as .de and .en.")
            add("--environments", type=Path, required=True,
                help="Folder of the peers' virtual environments: v_onmt, v_joey, v_marian.")  # fmt: skip
            add("--peers", type=str, default="onmt,joey,marian", help="Peers to compare with.")
            add("--models", type=Path | None, help="Folder to keep the models in that translate, and to reuse them.")
            add("--updates", type=int, default=60, help="Updates timed in training, after 20 others.")
            add("--minutes", type=float, default=8.0, help="How long each model that translates learns.")
        case "prepare":
            add("--pairs", type=int, default=2_000_000, help="Sentence pairs to prepare.")
            add("--data", type=Path, required=True, help="Folder that holds fra.txt (TSV).")
        case "features":
            add("--images", type=Path, required=True, help="Folder of images.")
            add("--network", type=str, default="efficientnet_lite2", help="Image network.")
            add("--count", type=int, default=200, help="Images to use.")
        case "cold":
            add("--model", type=Path, required=True, help="Model directory of a captioner.")
            add("--image", type=Path, required=True, help="Image to caption.")


def _check_peers(parser: Parser, options: Any) -> None:
    """Refuse what cannot be measured; the names of the peers become a list."""
    from scripts.benchmarks.peer_programs import PEERS, REPORT_EVERY

    options.peers = options.peers.split(",")
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"--peers {unknown[0]}: choose from {','.join(PEERS)}")
    if options.updates < 1 or options.updates % REPORT_EVERY:
        parser.error(f"--updates {options.updates}: give a multiple of {REPORT_EVERY}, as speed is told so often")
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g}: give more than 0")


def _measure(what: str, options: Any) -> "tuple[dict[str, Any], RenderableType]":
    """What was found, for a file, and the same as a table."""
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

            decoded = decoding.measure_decoding(options.model, options.source, options.count, rounds, threads)
            return asdict(decoded), decoding.render(decoded)
        case "peers":
            from scripts.benchmarks import peer_rounds, peers

            compared = peers.measure_peers(
                peers.Options(**{field.name: options[field.name] for field in fields(peers.Options)})
            )
            return peer_rounds.record(compared), peer_rounds.render(compared)
        case "prepare":
            from scripts.benchmarks import preparing

            prepared = preparing.measure_prepare(options.pairs, options.data / "fra.txt")
            return asdict(prepared), preparing.render(prepared)
        case "features":
            from scripts.benchmarks import captioning

            extracted = captioning.measure_features(options.images, options.network, options.count, rounds, threads)
            return asdict(extracted), captioning.render_features(extracted)
        case _:
            from scripts.benchmarks import captioning

            started = captioning.measure_cold(options.model, options.image, rounds)
            return asdict(started), captioning.render_cold(started)


if __name__ == "__main__":
    run(NAME, main)

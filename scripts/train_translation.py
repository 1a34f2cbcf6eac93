"""Train a translation model on prepared data."""

from pathlib import Path

from scripts.command import Parser, run, say_trained


def train() -> int:
    import torch
    from jsonargparse.typing import NonNegativeInt
    from rich.console import Console

    from nmt.config import ModelConfig, TrainingConfig
    from nmt.processes import process_state
    from nmt.train_translation import train_translation

    parser = Parser(
        "train_translation.py",
        "Train an encoder-decoder on what prepare_translation.py wrote. The model ends up in RUN/model.",
        "train_translation.py --data DIR --out RUN",
    )
    parser.add_argument("--data", type=Path, required=True, help="Directory that prepare_translation.py wrote.")
    parser.add_argument("--out", type=Path, required=True, help="Run directory: checkpoints, logs, model.")
    parser.add_argument("--resume", action="store_true", help="Go on from the newest checkpoint in --out.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(TrainingConfig, "training")
    options = parser.read()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(quiet=not process_state().is_main_process)
    result = train_translation(
        options.data, options.out, options.model, options.training, resume=options.resume, console=console
    )
    return say_trained(result, console)


if __name__ == "__main__":
    run("train_translation.py", train)

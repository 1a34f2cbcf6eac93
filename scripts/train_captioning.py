"""Train a captioner on prepared images."""

from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from scripts.command import Parser, run, say_trained


def train() -> int:
    from captioning.config import CaptionTrainingConfig, ImageConfig, StageConfig
    from nmt.config import ModelConfig

    parser = Parser(
        "train_captioning.py",
        "Train a decoder on the features that prepare_captioning.py wrote. The model ends up in RUN/model.",
        "train_captioning.py --data DIR --out RUN",
    )
    parser.add_argument("--data", type=Path, required=True, help="Directory that prepare_captioning.py wrote.")
    parser.add_argument("--out", type=Path, required=True, help="Run directory: checkpoints, logs, model.")
    parser.add_argument("--resume", action="store_true", help="Go on from the newest checkpoint in --out.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_class_arguments(ImageConfig, "image")
    parser.add_class_arguments(StageConfig, "stage")
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(CaptionTrainingConfig, "training")
    options = parser.read()

    import torch
    from rich.console import Console

    from captioning.train import train_captioning
    from nmt.processes import process_state

    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(quiet=not process_state().is_main_process)
    result = train_captioning(
        options.data,
        options.out,
        options.image,
        options.model,
        options.training,
        options.stage,
        resume=options.resume,
        console=console,
    )
    return say_trained(result, console)


if __name__ == "__main__":
    run("train_captioning.py", train)

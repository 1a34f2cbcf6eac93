"""The smallest things that captioning works on."""

import io
from pathlib import Path

from rich.console import Console

from captioning.config import CaptionPrepareConfig, ImageConfig, StageConfig
from captioning.prepare import prepare_captioning
from captioning.train import train_captioning
from data.captions import CaptionSplit
from data.drawing import write_captioned_scenes
from data.tokenizer import TokenizerConfig
from nmt.config import ModelConfig, TrainingConfig
from nmt.trainer import TrainingResult

IMAGE = ImageConfig()
MODEL = ModelConfig(layers=1, hidden=16, embedding=16, dropout=0.2)
# 48 captions in a few batches
TRAINING = TrainingConfig(
    max_updates=6, batch_tokens=128, warmup_updates=0, schedule="constant", precision="float32", metric="cider",
    valid_sentences=4,
)  # fmt: skip


def silent() -> Console:
    return Console(file=io.StringIO())


def splits() -> dict[str, CaptionSplit]:
    return {
        name: CaptionSplit(captions="captions.txt", images="images", list=f"{name}.txt")
        for name in ("train", "valid", "test")
    }


def caption_config(**changes) -> CaptionPrepareConfig:
    return CaptionPrepareConfig(
        **{
            **splits(),
            "network": "efficientnet_lite0",
            "text": TokenizerConfig(lowercase=True, min_count=1),
            **changes,
        }
    )


def write_scenes(folder: Path, train: int = 24) -> Path:
    """Drawn scenes with two captions each: so many to learn from, six to validate on and six to test on."""
    write_captioned_scenes(folder, {"train": train, "valid": 6, "test": 6}, 1, 2, size=96)
    return folder


def write_prepared_captions(folder: Path, train: int = 24, **changes) -> Path:
    """A prepared directory of drawn scenes."""
    prepare_captioning(
        caption_config(**changes), folder / "data", silent(), base=write_scenes(folder / "corpus", train)
    )
    return folder / "data"


def train_captions(
    prepared: Path, run: Path, *, image: ImageConfig = IMAGE, model: ModelConfig = MODEL,
    stage: StageConfig | None = None, resume: bool = False, **changes,
) -> TrainingResult:  # fmt: skip
    from dataclasses import replace

    training = replace(TRAINING, **changes)
    return train_captioning(prepared, run, image, model, training, stage, resume=resume, console=silent())

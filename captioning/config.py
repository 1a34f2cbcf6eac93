"""What shapes a captioner beside the decoder. Every option has its default here and nowhere else."""

from dataclasses import dataclass, field
from typing import Literal

from data.captions import CaptionSplit
from data.errors import UserError
from data.tokenizer import TokenizerConfig
from nmt.config import TrainingConfig


@dataclass(frozen=True)
class ImageConfig:
    """How the decoder is told of the image (Vinyals et al. 2014, section 3.1). At least one of the three ways.

    Args:
        first_input: The image vector is the decoder's first input, one step before the start token; never fed again.
        initial_state: The decoder starts from a linear map of the feature instead of from zeros.
        every_step: The decoder reads the image vector beside each word.
        normalise: Bring the CNN's feature to unit root mean square first.
    """

    first_input: bool = True
    initial_state: bool = False
    every_step: bool = False
    normalise: bool = True

    def __post_init__(self) -> None:
        if not (self.first_input or self.initial_state or self.every_step):
            raise ValueError(
                "image.first_input, image.initial_state and image.every_step are all false: the decoder would never "
                "see the image; set one of them to true"
            )


@dataclass(frozen=True)
class StageConfig:
    """A second training, of a finished model.

    Args:
        start: Model directory whose weights training begins with; its settings of model and image are kept.
        self_critical: Instead of the likelihood of the captions, raise the CIDEr of the model's own samples over
            that of its greedy captions (Rennie et al. 2017).
    """

    start: str = ""
    self_critical: bool = False

    def __post_init__(self) -> None:
        if self.self_critical and not self.start:
            raise ValueError(
                "stage.self_critical needs a trained model to begin with: train one first, then give --stage.start "
                "RUN/model"
            )


@dataclass(frozen=True)
class CaptionTrainingConfig(TrainingConfig):
    """The optimisation of a captioner.

    Args:
        metric: What the best checkpoint and early stopping go by: perplexity, cider or bleu4 of decoded captions.
    """

    metric: Literal["perplexity", "bleu", "exact", "rouge_l", "cider", "bleu4"] = "cider"


@dataclass(frozen=True)
class CaptionPrepareConfig:
    """What the prepare stage of captioning does.

    Args:
        train: The captioned images to learn from.
        valid: Those that training is steered by.
        test: Those that the finished model is scored on; optional.
        text: How captions become ids.
        network: The CNN: efficientnet_lite0, 1, 2 (their weights install as packages), or a torchvision model.
        weights: A file with other weights for it; "" takes the published ones.
        resize: squash brings the whole image to a square, crop cuts the largest square out of its middle.
        kind: pooled is the CNN's one feature of the whole image; grid keeps its last feature map, to attend over
            (model.attention); regions keeps the means of 3 x 3 regions of that map, to attend over, or without
            attention to read one after the other.
        views: Feature vectors for each training image: 1 is the image itself, 2 adds its mirror image, more add crops.
        max_length: The most tokens of a caption.
        overlong: What happens to longer ones of train and valid: drop them (counted) or truncate them.
    """

    train: CaptionSplit = field(default_factory=CaptionSplit)
    valid: CaptionSplit = field(default_factory=CaptionSplit)
    test: CaptionSplit = field(default_factory=CaptionSplit)
    text: TokenizerConfig = field(default_factory=lambda: TokenizerConfig(lowercase=True, min_count=4))
    network: str = "efficientnet_lite2"
    weights: str = ""
    resize: Literal["squash", "crop"] = "squash"
    kind: Literal["pooled", "regions", "grid"] = "pooled"
    views: int = 1
    max_length: int = 50
    overlong: Literal["drop", "truncate"] = "drop"

    def __post_init__(self) -> None:
        for name in ("views", "max_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: give 1 or more")

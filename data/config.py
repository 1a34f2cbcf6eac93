"""What the prepare stage does to parallel text. Every option has its default here and nowhere else."""

from dataclasses import dataclass, field
from typing import Literal

from data.errors import UserError
from data.holdout import Holdout
from data.readers import ParallelText
from data.tokenizer import TokenizerConfig


@dataclass(frozen=True)
class PrepareConfig:
    """What the prepare stage does.

    Args:
        train: The sentence pairs to learn from.
        valid: The pairs that training is steered by; or held out of train with holdout.valid.
        test: The pairs that the finished model is scored on; optional, or held out with holdout.test.
        holdout: How many sentences of train to set aside where a corpus has no official split; of dialogues, how many
            whole ones, where all that open with the same turn count as one.
        source: How source text becomes ids.
        target: How target text becomes ids.
        shared_vocabulary: One vocabulary learnt from both sides; level, size, casing and whether text is tokenized
            already are those of `source`.
        max_length: The most tokens on either side of a training pair.
        overlong: What happens to longer pairs of train and valid: drop them (counted) or truncate them, the source of
            a dialogue at its beginning and all other text at its end. A model that learnt from truncated text will
            truncate what it is given in the same way.
        stream: Do not write the training ids but read the training files anew in every epoch (for files too
            large to prepare); the vocabulary is then learnt from the first `stream_sample` pairs.
        stream_sample: How many pairs the vocabulary of a streamed corpus is learnt from.
        shuffle_within: Train on the pairs in the order of their files, shuffled only among so many neighbours (a
            curriculum); 0 shuffles them all, or what a pool of a streamed corpus holds.
        workers: Processes that work side by side; 0 is one for each processor core.
    """

    train: ParallelText = field(default_factory=ParallelText)
    valid: ParallelText = field(default_factory=ParallelText)
    test: ParallelText = field(default_factory=ParallelText)
    holdout: Holdout = field(default_factory=Holdout)
    source: TokenizerConfig = field(default_factory=TokenizerConfig)
    target: TokenizerConfig = field(default_factory=TokenizerConfig)
    shared_vocabulary: bool = False
    max_length: int = 100
    overlong: Literal["drop", "truncate"] = "drop"
    stream: bool = False
    stream_sample: int = 1_000_000
    shuffle_within: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_length", 1), ("stream_sample", 1), ("shuffle_within", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} {getattr(self, name)}: give {least} or more")

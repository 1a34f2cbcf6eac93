"""What shapes a model and its training. Every option has its default here and nowhere else."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Cell = Literal["lstm", "gru", "rnn"]
Score = Literal["none", "dot", "general", "additive"]  # what attention compares positions by


@dataclass(frozen=True)
class ModelConfig:
    """The encoder-decoder. The defaults suit some ten thousand sentence pairs.

    Args:
        cell: lstm; gru (Cho et al. 2014); or rnn, plain tanh units.
        layers: Recurrent layers of the encoder and of the decoder each.
        hidden: Units of each layer.
        embedding: Size of the word vectors on both sides.
        dropout: Share of activations dropped on embeddings, between layers and before the output.
        variational_dropout: Drop the same activations at every step of a sequence (Gal and Ghahramani 2016).
        residual: Add the input of each layer but the first to its output.
        tied: Share weights: none, target (word vectors in and out of the decoder) or all (the source's too, for a
            shared vocabulary). Where hidden differs from embedding, a linear map without bias brings the output to
            the size of the word vectors first (Press and Wolf 2017, section 3, projection).
        reverse_source: Read the source backwards (Sutskever et al. 2014, section 3.3).
        bidirectional: The encoder reads both ways, with half of its units each (Bahdanau et al. 2014, section 3.2).
        attention: none; or what the decoder compares itself with each source position by: dot, general (Luong et al.
            2015, section 3.1) or additive (Bahdanau et al. 2014). It lies between recurrent layers and output.
        layers_above: Further recurrent layers of the decoder between attention and output. They read what attention
            made, and so know what was attended to before, as the upper layers in Wu et al. (2016), section 3.2; where
            the layers below ask with knowledge of it (input feeding, Luong et al. 2015, section 3.3), no step of a
            target could be computed before the one before it.
        source_every_step: The decoder reads what the encoder's last layer ended with beside each word (Cho et al. 2014,
            section 2.2).
        repeat_vector: The decoder reads that and nothing else, from a state of zeros (the RepeatVector of Keras's
            examples): no word knows the word before it.
        init: How weights start: default (uniform by fan-in, and forget gates open) or uniform.
        init_range: With init uniform, every weight starts between -init_range and +init_range; 0.08 in the 2014
            paper.
    """

    cell: Cell = "lstm"
    layers: int = 1
    hidden: int = 512
    embedding: int = 512
    dropout: float = 0.4
    variational_dropout: bool = False
    residual: bool = False
    tied: Literal["none", "target", "all"] = "none"
    reverse_source: bool = True
    bidirectional: bool = False
    attention: Score = "none"
    layers_above: int = 0
    source_every_step: bool = False
    repeat_vector: bool = False
    init: Literal["default", "uniform"] = "default"
    init_range: float = 0.08

    def __post_init__(self) -> None:
        _check(self, "model", ("layers", "hidden", "embedding"), lambda value: value >= 1, "1 or more")
        _check(self, "model", ("layers_above",), lambda value: value >= 0, "0 or more")
        _check(self, "model", ("dropout",), lambda value: 0 <= value < 1, "at least 0 and below 1")
        _check(self, "model", ("init_range",), lambda value: 0 < value < math.inf, "a number above 0")
        if self.repeat_vector and self.tied != "none":
            raise ValueError(
                f"model.tied {self.tied} shares the vectors of the words that the decoder reads, but with "
                "model.repeat_vector it reads none: leave model.tied at none"
            )
        if self.layers_above and self.attention == "none":
            raise ValueError(
                f"model.layers_above {self.layers_above} lie above attention, and model.attention is none: choose an "
                "attention, or more model.layers"
            )
        if self.bidirectional and self.hidden % 2:
            raise ValueError(
                f"model.bidirectional gives half of the units to each direction, but model.hidden is {self.hidden}: "
                "choose an even number"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation.

    Args:
        seed: Decides initial weights, dropout and the order of the data; 0 or more.
        max_epochs: The most passes over the training pairs.
        max_updates: The most optimizer steps; 0 is no limit.
        max_minutes: Stop at the first update after this much training time, that of resumed runs included; 0 is no
            limit. Two runs of one seed stop at different updates then.
        batch_tokens: The most cells of a batch: sentences times the longest length in it.
        accumulate: Batches whose gradients are added up for one update.
        optimizer: adam, adamw or sgd (without momentum, as in the 2014 paper).
        learning_rate: Its largest value.
        pretrained_learning_rate: The largest rate of pretrained weights (the CNN of a captioner); 0 keeps them frozen.
        weight_decay: L2 penalty (adam, sgd), or decoupled decay (adamw).
        schedule: constant; inverse_sqrt (after warm-up); cosine (to zero at the end of max_epochs or max_updates);
            plateau (halved at each validation without gain); halve (the 2014 paper: halved every half epoch after
            `halve_after` epochs).
        halve_after: Epochs at full rate with schedule halve.
        warmup_updates: Updates over which the rate grows from zero.
        clip_norm: Gradients with a larger norm are scaled down to it; 0 is never.
        label_smoothing: Share of the probability spread over all words in the loss.
        sampled_softmax: For large vocabularies: the words of a batch compete with so many others, drawn for each batch,
            instead of with all (Jean et al. 2015, section 3), so that the cost of the output does not grow with the
            vocabulary. Training's own loss and perplexity are then estimates; validation's are not. 0 is off.
        subword_sampling: Cut the words of the training text anew in every epoch: how often a byte-pair merge is left
            out (BPE-dropout, Provilkov et al. 2020), or the exponent of unigram sampling (Kudo 2018); 0 is never.
        precision: auto (bfloat16 where the processor computes in it, else float32), float32 or bfloat16.
        validate_every: Updates between validations; 0 is once an epoch.
        metric: What the best checkpoint and early stopping go by: perplexity, or a score of decoded validation text
            (bleu, exact or rouge_l of translations; cider or bleu4 of captions).
        valid_sentences: How many validation sentences (images) are decoded.
        valid_beam: The beam they are decoded with.
        patience: Stop after so many validations without a better one; 0 is never.
        keep_best: How many of the best checkpoints are kept.
        checkpoint_every: Updates between checkpoints for resuming; 0 is at validations only.
        deterministic: Ask torch for algorithms that give the same bits at every run (needed on GPUs only).
    """

    seed: int = 1
    max_epochs: int = 20
    max_updates: int = 0
    max_minutes: float = 0.0
    batch_tokens: int = 2048
    accumulate: int = 1
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    pretrained_learning_rate: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "inverse_sqrt", "cosine", "plateau", "halve"] = "cosine"
    halve_after: float = 5.0
    warmup_updates: int = 100
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    sampled_softmax: int = 0
    subword_sampling: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    validate_every: int = 0
    metric: Literal["perplexity", "bleu", "exact", "rouge_l", "cider", "bleu4"] = "bleu"
    valid_sentences: int = 1000
    valid_beam: int = 1
    patience: int = 10
    keep_best: int = 3
    checkpoint_every: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        counts = ("max_epochs", "batch_tokens", "accumulate", "valid_sentences", "valid_beam", "keep_best")
        _check(self, "training", counts, lambda value: value >= 1, "1 or more")
        zero_is_off = (
            "seed", "max_updates", "max_minutes", "pretrained_learning_rate", "weight_decay", "halve_after",
            "warmup_updates", "clip_norm", "sampled_softmax", "validate_every", "patience", "checkpoint_every",
        )  # fmt: skip
        _check(self, "training", zero_is_off, lambda value: 0 <= value < math.inf, "0 or more")
        _check(self, "training", ("learning_rate",), lambda value: 0 < value < math.inf, "a number above 0")
        shares = ("label_smoothing", "subword_sampling")
        _check(self, "training", shares, lambda value: 0 <= value < 1, "at least 0 and below 1")
        if self.sampled_softmax and self.label_smoothing:
            raise ValueError(
                f"training.sampled_softmax looks at a part of the vocabulary, and label smoothing at all of it: set "
                f"training.label_smoothing to 0 (it is {self.label_smoothing})"
            )


FREE_TO_CHANGE = {
    "max_epochs", "max_updates", "max_minutes", "patience", "keep_best", "checkpoint_every", "valid_beam",
    "valid_sentences",
}  # fmt: skip


# options that earlier versions had, and the value with which they did nothing
GONE = {"training.ema": 0.0}


def changed_settings(before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Settings (sections of options) that differ and that would make a resumed run another run.

    Args:
        defaults: What options had before there was a choice, in runs of earlier versions.
    """
    free = {f"training.{name}" for name in FREE_TO_CHANGE} | {"data.base", "data.workers", "stage.start"}
    old, new = flat(defaults) | _flat(before), _flat(now)
    gone = [
        f"{name} was {old[name]!r}, and is no option any more"
        for name, off in GONE.items()
        if old.get(name, off) != off
    ]
    return gone + [
        f"{name} was {old[name]!r} and is {value!r}"
        for name, value in new.items()
        if name not in free and name in old and old[name] != value
    ]


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """As `flat`, but the fingerprints of a split are one value: those of files that came or went would not be
    compared one by one."""
    rest = {section: values for section, values in settings.items() if section != "fingerprints"}
    return flat(rest) | {f"fingerprints.{split}": files for split, files in settings.get("fingerprints", {}).items()}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on a command line, such as model.hidden."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _check(config: object, section: str, names: Iterable[str], holds: Callable[[float], bool], rule: str) -> None:
    """Raises ValueError naming the first option that does not keep to `rule`, with its value."""
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise ValueError(f"{section}.{name} is {value}: it must be {rule}")

"""The train stage of captioning: a prepared directory to a run directory, by the translator's loop."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from captioning.cider import CiderD
from captioning.cnn import load_network
from captioning.columns import Features, Pixels
from captioning.config import ImageConfig, StageConfig
from captioning.corpus import SplitImage, read_split
from captioning.encoder import ImageEncoder, encoder_of, preprocessing_of
from captioning.features import FeatureStore
from captioning.self_critical import SelfCritical, reference
from captioning.validation import CaptionValidator
from data.corpus import PreparedCorpus, RowCorpus
from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import Tokenizer
from nmt.checkpoint import TrainedModel, load_model
from nmt.config import ModelConfig, TrainingConfig, changed_settings
from nmt.model import SequenceModel
from nmt.processes import make_accelerator
from nmt.run_directory import RunDirectory
from nmt.trainer import Trainer, TrainingData, TrainingResult


@dataclass(frozen=True)
class PreparedCaptions:
    """What the prepare stage left: settings, report, vocabulary and images."""

    path: Path
    settings: dict[str, Any]
    report: dict[str, Any]
    target: Tokenizer
    store: FeatureStore
    train: list[SplitImage]
    valid: list[SplitImage]

    @classmethod
    def read(cls, prepared: Path) -> "PreparedCaptions":
        """Raises UserError if nothing is prepared there, or its parts do not fit together."""
        text = prepared / "text"
        try:
            settings = yaml.safe_load((text / "config.yaml").read_text(encoding="utf-8"))
            report = json.loads((text / "report.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{prepared}: no prepared captions here ({error.strerror}): run scripts/prepare_captioning.py first"
            ) from error
        store = FeatureStore.open(prepared / "features")
        return cls(
            prepared,
            settings,
            report,
            Tokenizer.load(text / "target.model"),
            store,
            read_split(prepared, "train"),
            read_split(prepared, "valid"),
        )

    def corpus(self, split: str, columns: Features | Pixels) -> RowCorpus:
        return RowCorpus(PreparedCorpus(self.path / "text" / split), columns)


def train_captioning(
    prepared: Path,
    run: Path,
    image: ImageConfig,
    model: ModelConfig,
    training: TrainingConfig,
    stage: StageConfig | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a captioner on a prepared directory and leave it in `run`/model.

    The CNN is frozen, and features come from the cache, unless `training.pretrained_learning_rate` is above 0.

    Args:
        stage: A second training; `image` and `model` are then those of the model it starts from.
        resume: Go on from the newest checkpoint of `run`.

    Raises:
        UserError: nothing is prepared there, `run` is taken, settings contradict each other or the data, or
            training failed; see `Trainer.train`.
    """
    accelerator = make_accelerator(training)
    stage = stage or StageConfig()
    data = PreparedCaptions.read(prepared)
    torch.manual_seed(training.seed)
    network = _continue(Path(stage.start), data, image, model) if stage.start else _begin(image, model, data)
    encoder = network.encoder
    assert isinstance(encoder, ImageEncoder)
    fine_tuned = training.pretrained_learning_rate > 0
    encoder.pretrained.requires_grad_(False)
    if fine_tuned:
        encoder.pretrained.learn(encoder.kind)
    columns = _columns(data, encoder, fine_tuned)
    trained = TrainedModel(
        network,
        None,
        data.target,
        length_ratio=LengthRatio(**data.report["length_ratio"]),
        max_length=data.settings["max_length"],
        config={
            "image": asdict(encoder.image),
            "network": data.settings["network_used"],
            "fine_tuned": fine_tuned or encoder.fine_tuned,
            "training": asdict(training),
            "stage": asdict(stage),
            "data": data.settings,
            "fingerprints": {name: split["fingerprint"] for name, split in data.report["splits"].items()},
        },
    )
    chosen = data.valid[: training.valid_sentences]
    rows = np.array([one.row for one in chosen])
    validator = CaptionValidator(
        trained, data.corpus("valid", columns), chosen, columns(rows, None), training.valid_beam, training.batch_tokens
    )
    if stage.self_critical and training.sampled_softmax:
        raise UserError("stage.self_critical weighs every word by itself: set training.sampled_softmax to 0")
    rewrite = _self_critical(network, data) if stage.self_critical else None
    training_data = TrainingData(data.corpus("train", columns), validator, rewrite)
    trainer = Trainer(trained, training_data, training, RunDirectory(run), accelerator, console or Console())
    return trainer.train(resume=resume)


def _begin(image: ImageConfig, model: ModelConfig, data: PreparedCaptions) -> SequenceModel:
    """A new decoder after the CNN that made the features."""
    used = data.settings["network_used"]
    with torch.device("meta"):
        architecture = load_network(used["name"], pretrained=False)
    network = SequenceModel(model, ImageEncoder(image, model, architecture, used["kind"]), len(data.target))
    # only after the new weights are initialised, for these are not to be
    weights = data.settings["weights"]
    pretrained = load_network(used["name"], Path(weights) if weights else None)
    if pretrained.weights_sha256 != used["weights_sha256"]:
        raise UserError(
            f"{data.path}: its features were made with weights of SHA-256 {used['weights_sha256'][:12]}..., but "
            f"{used['name']} has {pretrained.weights_sha256[:12]}... now: prepare again"
        )
    pretrained.preprocessing = preprocessing_of(used)
    network.encoder.pretrained = pretrained
    return network


def _continue(start: Path, data: PreparedCaptions, image: ImageConfig, model: ModelConfig) -> SequenceModel:
    """A finished model to train on."""
    before = load_model(start, image_encoder=encoder_of)
    for name, wanted, default in (("image", image, ImageConfig()), ("model", model, ModelConfig())):
        # what equals the defaults need not have been asked for
        asked = {key: value for key, value in asdict(wanted).items() if value != asdict(default)[key]}
        if changed := changed_settings({name: before.config[name]}, {name: asked}, {name: asdict(default)}):
            raise UserError(
                f"{start}: {'; '.join(changed)}: a second stage keeps the settings of the model it starts from, so "
                "leave these out"
            )
    if before.target != data.target:
        raise UserError(
            f"{start}: its vocabulary is not that of {data.path}: start from a model that was trained on this data"
        )
    used = data.settings["network_used"]
    if before.config["network"] != used:
        raise UserError(
            f"{start}: reads features of {before.config['network']}, but {data.path} has those of {used}: start from a "
            "model that was trained on this data"
        )
    before.model.train()
    return before.model


def _columns(data: PreparedCaptions, encoder: ImageEncoder, fine_tuned: bool) -> Features | Pixels:
    if not fine_tuned and not encoder.fine_tuned:
        there, wanted = data.store.array.shape[2:], encoder.pretrained.shape(encoder.kind)
        if there != wanted:  # an earlier version may have made others
            raise UserError(
                f"{data.path}: features of shape {list(there)} an image, but those of kind {encoder.kind} are of "
                f"{list(wanted)}: prepare again"
            )
        return Features(data.store.array)
    paths = {one.row: one.path for one in [*data.train, *data.valid]}
    return Pixels([paths.get(row, Path()) for row in range(len(data.store))], encoder.pretrained.preprocessing)


def _self_critical(network: SequenceModel, data: PreparedCaptions) -> Callable[..., Any]:
    references = {one.row: [reference(data.target.encode(caption)) for caption in one.captions] for one in data.train}
    longest = data.settings["max_length"]
    return SelfCritical(network, CiderD(list(references.values())), references, longest)

"""A recipe whose source is images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from captioning.captioned import write_captioned
from captioning.captioner import Captioner
from captioning.cnn import load_network
from captioning.coco_metrics import cider_by_image
from captioning.columns import FeatureColumn
from captioning.config import CaptionPrepareConfig, CaptionTrainingConfig, ImageConfig, StageConfig
from captioning.corpus import SplitImage, read_split
from captioning.decoding import caption_features
from captioning.encoder import ImageEncoder
from captioning.evaluation import TrainingImages, evaluate_captions, result_json, split_features
from captioning.evaluation import render as render_evaluation
from captioning.features import FeatureStore
from captioning.gallery import Gallery, GalleryEntry
from captioning.options import CaptionOptions
from captioning.prepare import prepare_captioning
from captioning.prepare import render as render_report
from captioning.train import train_captioning
from data.batching import make_batch
from data.drawing import write_captioned_scenes
from data.errors import UserError
from data.files import atomic_directory, write_text
from data.sampling import check_levels
from data.source import Ragged, TensorSource
from data.text_files import fingerprint
from data.tokenizer import SPECIAL_IDS
from nmt.checkpoint import versions
from nmt.config import ModelConfig, TrainingConfig
from nmt.model import SequenceModel
from nmt.recipe import DryRun, Guide, Recipe, command, two_updates
from nmt.trainer import TrainingResult

_SHOWN = 24  # images in the gallery


@dataclass(frozen=True)
class DrawnScenesConfig:
    """Drawn scenes to generate instead of reading images; 0 pictures of train is none.

    Args:
        train: Pictures to learn from.
        valid: Pictures to steer training by.
        test: Pictures to score the finished model on; no scene is in two of the three.
        captions: Captions of each picture, 1 to 4.
        seed: Decides which scenes are drawn.
    """

    train: int = 0
    valid: int = 200
    test: int = 200
    captions: int = 4
    seed: int = 1


@dataclass(frozen=True)
class CaptionRecipe(Recipe):
    """The settings of every stage; a file in scripts/recipes/ has these sections."""

    scenes: DrawnScenesConfig = field(default_factory=DrawnScenesConfig)
    prepare: CaptionPrepareConfig = field(default_factory=CaptionPrepareConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=CaptionTrainingConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    search: CaptionOptions = field(default_factory=CaptionOptions)

    def __post_init__(self) -> None:
        """Refuse before all images are read what training could not do after it."""
        check_levels(self.training.subword_sampling, {"target": self.prepare.text.level})
        if self.search.mirror and self.prepare.views < self.search.views:
            raise UserError(f"search.mirror needs mirror images to be prepared: set prepare.views {self.search.views}")

    def prepare_data(self, out: Path, base: Path | None, console: Console) -> None:
        prepared = out / "data"
        if self.scenes.train:
            base = out / "corpus"
            if not base.exists():
                console.print(f"Drawing {self.scenes.train:,} scenes to learn from.")
                _draw_scenes(base, self.scenes)
        if (prepared / "text").exists():
            console.print(f"Prepared already: {prepared}", highlight=False)
            return
        console.rule("prepare")
        console.print(render_report(prepare_captioning(self.prepare, prepared, console, base=base)))

    def train(self, out: Path, resume: bool, console: Console) -> TrainingResult:
        return train_captioning(
            out / "data", out, self.image, self.model, self.training, self.stage, resume=resume, console=console
        )

    def scored_split(self, out: Path) -> str | None:
        return "test" if (out / "data" / "text" / "test.jsonl").exists() else "valid"

    def evaluate(self, out: Path, split: str, console: Console) -> None:
        captioner = Captioner.load(out / "model")
        images = read_split(out / "data", split)
        features = split_features(FeatureStore.open(out / "data" / "features"), images, self.search.views)
        published = features[:, 0]
        if captioner.models[0].config["fine_tuned"]:
            read = captioner.read([one.path for one in images], views=self.search.views)
            for i, why in read.errors.items():
                raise UserError(f"{images[i].path}: {why}: it could be read when the data was prepared; restore it")
            features = read.features
        references = [one.captions for one in images]
        training = TrainingImages.read(out / "data")
        found = evaluate_captions(captioner.models, features, references, self.search, training, published)
        captioned = out / f"{split}.captions.jsonl"
        write_captioned(captioned, images, found.captions)
        scores = cider_by_image(found.captions, references)
        write_gallery(out / "gallery.html", captioner, images, features, found.captions, scores, self.search)
        origin = {
            "split": split,
            "output": captioned.name,
            "search": asdict(self.search),
            "seeds": {"training": self.training.seed},
            "data": {"captions_sha256": fingerprint(out / "data" / "text" / f"{split}.jsonl")},
            "model": {"path": str(out / "model"), "manifest_sha256": fingerprint(out / "model" / "MANIFEST")},
            "versions": versions(),
        }
        write_text(out / "evaluation.json", result_json(found, origin))
        console.print(render_evaluation(found))

    def guide(self, out: Path) -> Guide:
        caption = f"{command('caption')} --model {out / 'model'}"
        looked = [f"{caption} PHOTO.jpg --explain seen.html        where it looked, word by word"]
        return Guide(
            scores=f"(gallery: {out / 'gallery.html'}, open it in a browser)",
            report=out / "data" / "text" / "report.json",
            following=[
                f"{caption} PHOTO.jpg FOLDER --gallery mine.html",
                *(looked if self.model.attention != "none" else []),
                f"{command('python')} scripts/prepare_captioning.py --help        prepare your own images",
            ],
        )

    def dry_run(self, device: torch.device) -> DryRun:
        with device:
            network = load_network(self.prepare.network, pretrained=False)
            encoder = ImageEncoder(self.image, self.model, network, self.prepare.kind)
            encoder.pretrained.requires_grad_(False)
            if self.training.pretrained_learning_rate:
                encoder.pretrained.learn(self.prepare.kind)
            model = SequenceModel(self.model, encoder, self.prepare.text.vocab_size)
        words = 2 if device.type == "meta" else 11  # as captions have; where nothing is computed steps are all alike
        rows = max(1, self.training.batch_tokens // (words + 1))
        batches = []
        for number in range(2):
            random = np.random.default_rng(number)
            captions = Ragged.of(random.integers(SPECIAL_IDS, self.prepare.text.vocab_size, (rows, words)).tolist())
            features = torch.from_numpy(
                random.standard_normal((rows, *network.shape(self.prepare.kind)), dtype=np.float32)
            )
            batches.append(make_batch(TensorSource.of(features), captions, np.arange(rows)))
        return two_updates(model, self.training, batches, device)


def _draw_scenes(folder: Path, scenes: DrawnScenesConfig) -> None:
    """Draw the corpus, whole or not at all."""
    sizes = {"train": scenes.train, "valid": scenes.valid, "test": scenes.test}
    try:
        with atomic_directory(folder) as temporary:
            write_captioned_scenes(temporary, sizes, scenes.seed, scenes.captions)
    except ValueError as error:
        raise UserError(
            f"scenes: {error}: change scenes.train, scenes.valid, scenes.test or scenes.captions"
        ) from error


def write_gallery(
    path: Path,
    captioner: Captioner,
    images: Sequence[SplitImage],
    features: npt.NDArray[np.floating],
    captions: Sequence[str],
    cider: npt.NDArray[np.floating],
    options: CaptionOptions,
) -> None:
    """A page of some of the images, spread over the whole set, with captions and their scores, references and more of
    what the model had in mind."""
    chosen = np.unique(np.linspace(0, len(images) - 1, _SHOWN).astype(int))
    several = replace(options, beam=max(3, options.beam), n_best=3)
    found = caption_features(captioner.models, FeatureColumn.by_view(features[chosen]), several)
    note = f"{len(chosen)} of {len(images)} images"
    with Gallery(path, title="Captions", note=note, overwrite=True) as gallery:
        for i, hypotheses in zip(chosen, found, strict=True):
            image = images[i]
            gallery.add(
                GalleryEntry(
                    image.path,
                    captions[i],
                    hypotheses,
                    image.captions,
                    {"CIDEr": float(cider[i])},
                    name=image.name,
                )
            )

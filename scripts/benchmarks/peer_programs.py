"""What the peers are told and what they say: configuration, vocabulary, commands and log of each, and of ours.

Peers are JoeyNMT (Kreutzer et al. 2019), OpenNMT-py (Klein et al. 2017) and Marian (Junczys-Dowmunt et al. 2018), each
in a virtual environment of its own, as their dependencies exclude each other.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from data.text_files import read_records
from nmt.shortlist_making import make_shortlist
from scripts.benchmarks.child import Command

REPORT_EVERY = 20  # updates; our train stage knows no other
PARTS, LANGUAGES = ("train", "val", "test"), ("de", "en")
_ROOT = Path(__file__).parents[2]
_SPECIAL = ("<unk>", "<pad>", "<s>", "</s>")


@dataclass(frozen=True)
class Texts:
    """Tokenized text: `folder` holds train, val and test, each as .de and .en.

    made: folder for what is made of it: `vocabularies`, a file per program and language; `prepared`, what our prepare
        stage made of it
    """

    folder: Path
    made: Path

    @property
    def vocabularies(self) -> Path:
        return self.made / "vocabularies"

    @property
    def prepared(self) -> Path:
        return self.made / "prepared"

    @property
    def shortlist(self) -> Path:
        return self.made / "shortlist"

    def file(self, part: str, language: str) -> str:
        return str(self.folder / f"{part}.{language}")


@dataclass(frozen=True)
class Lesson:
    """One training of 2x512 units for speed or, if small, of the attention model of 256 units that translates.

    rows: sentences of a batch
    decay: lower the learning rate towards the end
    """

    small: bool
    updates: int
    rows: int
    threads: int
    decay: bool = False

    @property
    def halvings(self) -> tuple[int, int]:
        """The update at which the learning rate is halved first, and after how many ones again."""
        if not self.decay:
            return 1_000_000, 1_000_000
        return int(0.66 * self.updates), max(1, int(0.115 * self.updates))


class Program(ABC):
    """A program that trains and translates.

    batches: sentences translated at a time with beam 1 and with beam 5, where it was fastest
    speed: what in its log tells target words a second, those of the last `REPORT_EVERY` updates
    """

    title: ClassVar[str]
    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    large_model: ClassVar[str]
    small_model: ClassVar[str]
    batches: ClassVar[dict[int, int]]
    speed: ClassVar[re.Pattern[str]]

    def __init__(self, python: Path) -> None:
        self.python = python

    def vocabulary(self, counted: Sequence[tuple[str, int]]) -> str:
        """Words and how often they stand in the training text, the commonest first, in the form of this program."""
        return "".join(f"{word}\n" for word in [*_SPECIAL, *(word for word, _ in counted)])

    def vocabulary_file(self, texts: Texts, language: str) -> str:
        return str(texts.vocabularies / f"{self.name}.{language}.vocab")

    @abstractmethod
    def train(self, texts: Texts, lesson: Lesson, out: Path) -> Command:
        """Write the configuration to `out`, an empty folder, and tell how to train a model there."""

    def prepare(self, texts: Texts, model: Path) -> None:  # noqa: B027 - most programs need nothing
        """What is to be done once before translating, and is not timed."""

    @abstractmethod
    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        """How to translate a file with the model in the folder `model`; settings go beside `output`."""

    def speeds(self, log: str, out: Path) -> list[float]:
        """Target words a second, the end token included, of every `REPORT_EVERY` updates."""
        return [float(found[1]) for found in self.speed.finditer(log)]

    def _run(self, module: str, *arguments: object) -> list[str]:
        return [str(self.python), "-m", *module.split(), *map(str, arguments)]


class OpenNMT(Program):
    title, name = "OpenNMT-py", "onmt"
    packages = ("OpenNMT-py==3.5.1", "torch==2.2.2", "numpy==1.26.4")
    large_model = "2x512, no attention"
    small_model = "2x128 both ways, 256, general attention, input feeding"
    batches: ClassVar = {1: 128, 5: 128}
    speed = re.compile(r"Step +\d+/ *\d+; .*; *\d+/ *(\d+) tok/s")

    def vocabulary(self, counted: Sequence[tuple[str, int]]) -> str:
        return "".join(f"{word}\t{count}\n" for word, count in counted)

    def config(self, texts: Texts, lesson: Lesson, out: Path) -> dict[str, Any]:
        hidden, layers = (256, 1) if lesson.small else (512, 2)
        start, step = lesson.halvings
        return {
            "data": {"text": {
                "path_src": texts.file("train", "de"), "path_tgt": texts.file("train", "en"), "transforms": [],
            }},
            "src_vocab": self.vocabulary_file(texts, "de"), "tgt_vocab": self.vocabulary_file(texts, "en"),
            "save_data": str(out), "save_model": str(out / "model"), "overwrite": True,
            "model_task": "seq2seq", "rnn_type": "LSTM", "decoder_type": "rnn",
            "encoder_type": "brnn" if lesson.small else "rnn",
            "enc_layers": layers, "dec_layers": layers, "word_vec_size": 256,
            "enc_hid_size": hidden, "dec_hid_size": hidden,  # of both directions together
            "global_attention": "general" if lesson.small else "none", "input_feed": int(lesson.small),
            "dropout": [0.3], "optim": "adam", "learning_rate": 0.001, "max_grad_norm": 5,
            "batch_type": "sents", "batch_size": lesson.rows, "bucket_size": 12_800, "normalization": "tokens",
            "num_workers": 0, "world_size": 1, "gpu_ranks": [],
            "train_steps": lesson.updates, "valid_steps": 1_000_000,
            "save_checkpoint_steps": lesson.updates, "keep_checkpoint": 1,
            "start_decay_steps": start, "decay_steps": step, "learning_rate_decay": 0.5,
            "report_every": REPORT_EVERY, "seed": 1,
        }  # fmt: skip

    def train(self, texts: Texts, lesson: Lesson, out: Path) -> Command:
        return Command(self._run("onmt.bin.train", "-config", _write(out, self.config(texts, lesson, out))))

    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        found = next(model.glob("model_step_*.pt"))
        options = ("-beam_size", beam, "-batch_size", self.batches[beam], "-max_length", 60, "-length_penalty", "avg")
        return Command(self._run("onmt.bin.translate", "-model", found, "-src", source, "-output", output, *options))


class Joey(Program):
    """Its recurrent decoder has attention always, and its encoder fails unless it reads both ways."""

    title, name = "JoeyNMT", "joey"
    packages = ("joeynmt==2.3.0", "torch==2.14.1", "numpy==2.4.6", "importlib_metadata==10.2.0", "packaging==26.3")
    large_model = "2 layers of 2x256 both ways, 2x512, Luong attention"
    small_model = "2x256 both ways, 256, Luong attention, input feeding"
    batches: ClassVar = {1: 64, 5: 128}
    speed = re.compile(r"Step: +\d+, .*Tokens per Sec: +(\d+)")

    def config(self, texts: Texts, lesson: Lesson, out: Path, beam: int = 1) -> dict[str, Any]:
        hidden, layers = (256, 1) if lesson.small else (512, 2)
        sides = {
            side: {
                "lang": language, "max_length": 60, "lowercase": False, "normalize": False, "level": "word",
                "voc_file": self.vocabulary_file(texts, language),
            }
            for side, language in zip(("src", "trg"), LANGUAGES, strict=True)
        }  # fmt: skip
        both = {
            "type": "recurrent", "rnn_type": "lstm", "embeddings": {"embedding_dim": 256, "scale": False},
            "dropout": 0.3, "num_layers": layers,
        }  # fmt: skip
        parts = {
            name: str(texts.folder / part) for name, part in (("train", "train"), ("dev", "val"), ("test", "test"))
        }
        return {
            "name": "peer", "joeynmt_version": "2.3.0", "model_dir": str(out / "model"), "use_cuda": False,
            "fp16": False, "random_seed": 1,
            "data": {"dataset_type": "plain", **sides, **parts},
            "testing": {
                "beam_size": beam, "beam_alpha": 1.0, "batch_size": self.batches[beam], "batch_type": "sentence",
                "max_output_length": 60, "eval_metrics": [],
            },
            "training": {
                "optimizer": "adam", "learning_rate_min": 0.00001, "clip_grad_norm": 5.0, "normalization": "tokens",
                # lowered at the beginning of every epoch, the first one too
                "scheduling": "exponential", "patience": 0,
                "learning_rate": 0.00143 if lesson.decay else 0.001, "decrease_factor": 0.7 if lesson.decay else 1.0,
                "loss": "crossentropy", "batch_size": lesson.rows, "batch_type": "sentence",
                "early_stopping_metric": "loss", "epochs": 1000, "updates": lesson.updates,
                # it saves where it validates
                "validation_freq": lesson.updates if lesson.decay else 1_000_000, "logging_freq": REPORT_EVERY,
                "shuffle": True, "overwrite": True, "print_valid_sents": [0], "keep_best_ckpts": 1,
            },
            "model": {
                "initializer": "xavier_uniform", "bias_initializer": "zeros",
                "embed_initializer": "normal", "embed_init_weight": 0.1,
                "encoder": {**both, "hidden_size": 256, "bidirectional": True},
                "decoder": {
                    **both, "hidden_size": hidden, "hidden_dropout": 0.3, "input_feeding": lesson.small,
                    "init_hidden": "bridge", "attention": "luong",
                },
            },
        }  # fmt: skip

    def train(self, texts: Texts, lesson: Lesson, out: Path) -> Command:
        return Command(self._run("joeynmt train", "-t", _write(out, self.config(texts, lesson, out))))

    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        lesson = Lesson(small=True, updates=1, rows=1, threads=threads)  # what it says of training is not read
        config = _write(output.parent, self.config(texts, lesson, model, beam))
        return Command(self._run("joeynmt translate", config), stdin=source, stdout=output)


class Marian(Program):
    """It has attention always, one encoder layer or a deeper decoder too, and no size of one direction."""

    title, name = "Marian", "marian"
    packages = ("pymarian==1.12.42", "PyYAML==6.0.3")
    large_model = "2x512 both ways, 2 cells of 512, attention"
    small_model = "2x256 both ways, 2 cells of 256, attention; weights packed to 8 bits"
    batches: ClassVar = {1: 64, 5: 16}
    speed = re.compile(r"Up\. [\d,]+ : .* : ([\d.]+) words/s")

    def vocabulary(self, counted: Sequence[tuple[str, int]]) -> str:
        return "".join(f"{word}\n" for word in ["</s>", "<unk>", *(word for word, _ in counted)])

    def config(self, texts: Texts, lesson: Lesson, out: Path) -> dict[str, Any]:
        start, step = lesson.halvings
        return {
            "type": "s2s", "train-sets": [texts.file("train", language) for language in LANGUAGES],
            "vocabs": [self.vocabulary_file(texts, language) for language in LANGUAGES],
            "model": str(out / "model.npz"), "tempdir": str(out), "overwrite": True,
            "dim-emb": 256, "dim-rnn": 256 if lesson.small else 512,
            "enc-type": "bidirectional", "enc-cell": "lstm", "enc-depth": 1,
            "dec-cell": "lstm", "dec-depth": 1, "dec-cell-base-depth": 2, "dropout-rnn": 0.3,
            "optimizer": "adam", "learn-rate": 0.001, "clip-norm": 5, "cost-type": "ce-mean-words",
            # without sync-sgd each thread would make updates of its own
            "mini-batch": lesson.rows, "maxi-batch": 100, "max-length": 60, "sync-sgd": lesson.threads > 1,
            "cpu-threads": lesson.threads, "data-threads": 1, "workspace": 3000, "shuffle-in-ram": True,
            "disp-freq": f"{REPORT_EVERY}u", "save-freq": "1000000u", "valid-freq": "1000000u",
            "after": f"{lesson.updates}u", "lr-decay": 0.5, "lr-decay-strategy": "batches",
            "lr-decay-start": [start], "lr-decay-freq": step, "seed": 1,
        }  # fmt: skip

    def train(self, texts: Texts, lesson: Lesson, out: Path) -> Command:
        arguments = self._run("pymarian train", "-c", _write(out, self.config(texts, lesson, out)))
        return Command(arguments, threads=1)  # beside its own threads, each would otherwise start more for its products

    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        words = [self.vocabulary_file(texts, language) for language in LANGUAGES]
        options: list[object] = ["-b", beam, "-n", 1, "--mini-batch", self.batches[beam], "--maxi-batch", 100]
        options += ["--maxi-batch-sort", "src", "--max-length-factor", 2, "-w", 1500, "--cpu-threads", threads]
        options += ["--optimize", "--gemm-type", "packed8", "--quiet-translation"]
        files = ("-m", model / "model.npz", "-v", *words, "-i", source, "-o", output)
        return Command(self._run("pymarian decode", *files, *options), threads=1)


class Ours(Program):
    """The train stage and the `translate` command."""

    title, name, packages = "Verso", "ours", ("torch",)
    large_model = "2x512, no attention"
    small_model = "2x128 both ways, 256, general attention"
    batches: ClassVar = {}  # a batch is a budget of tokens, the default of the command
    precision = "float32"  # of translating

    def options(self, lesson: Lesson) -> dict[str, Any]:
        hidden, layers = (256, 1) if lesson.small else (512, 2)
        attention = {"model.bidirectional": True, "model.attention": "general"} if lesson.small else {}
        learning = (
            {"learning_rate": 0.002}
            if lesson.decay
            else {"schedule": "constant", "warmup_updates": 0, "label_smoothing": 0.0}
        )
        return {
            "model.hidden": hidden, "model.layers": layers, "model.embedding": 256, "model.dropout": 0.3, **attention,
            # cells, padding included: on average so many sentences of Multi30k
            "training.batch_tokens": 14 * lesson.rows, "training.max_updates": lesson.updates,
            "training.max_epochs": 1000, "training.patience": 0, "training.clip_norm": 5.0,
            "training.valid_sentences": 1000 if lesson.decay else 1, "threads": lesson.threads,
            **{f"training.{name}": value for name, value in learning.items()},
        }  # fmt: skip

    def train(self, texts: Texts, lesson: Lesson, out: Path) -> Command:
        given = [f"--{name}={str(value).lower()}" for name, value in self.options(lesson).items()]
        places = ("--data", texts.prepared, "--out", out / "run")
        return Command(self._run("scripts.train_translation", *places, *given), place=_ROOT)

    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        # sentences of their own occupy several cores better than products that they share
        cores = ("--processes", threads, "--threads", 1)
        options = ("--beam", beam, *cores, "--precision", self.precision, "--output", output)
        arguments = self._run("scripts.translate", "--model", model / "run" / "model", *options, source)
        return Command(arguments, place=_ROOT)

    def speeds(self, log: str, out: Path) -> list[float]:
        name, records = (
            "target_tokens_per_second",
            (record for _, record in read_records(out / "run" / "metrics.jsonl")),
        )
        # the end of an epoch is reported too, and may be that of a few updates
        return [record[name] for record in records if name in record and record["update"] % REPORT_EVERY == 0]


class OursInt8(Ours):
    """The same model translating with weights of 8 bits."""

    title, precision = "Verso, int8", "int8"


class OursShortlist(OursInt8):
    """The same, choosing from the words only that the source's words may become."""

    title = "Verso, int8, shortlist"

    def prepare(self, texts: Texts, model: Path) -> None:
        make_shortlist(model / "run" / "model", texts.prepared, texts.shortlist, best=20, frequent=100)

    def translate(self, texts: Texts, model: Path, beam: int, threads: int, source: Path, output: Path) -> Command:
        command = super().translate(texts, model, beam, threads, source, output)
        return replace(command, arguments=[*command.arguments, "--shortlist", str(texts.shortlist)])


WAYS: tuple[type[Program], ...] = (OursInt8, OursShortlist)  # that our model translates beside float32
PEERS: dict[str, type[Program]] = {peer.name: peer for peer in (OpenNMT, Joey, Marian)}


def _write(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path

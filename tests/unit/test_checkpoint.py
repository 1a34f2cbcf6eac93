import errno
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from tiny import random_batch, seeded

from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel, load_checkpoint, load_model, save_model, save_state, write_manifest
from nmt.config import ModelConfig
from nmt.model import text_model
from nmt.run_directory import RunDirectory
from nmt.run_log import RunLog, duration, read_records

FILES = ["config.yaml", "model.safetensors", "source.model", "target.model", "metrics.json"]


def make_tokenizer(words: int) -> Tokenizer:
    return Tokenizer.train(Counter({f"word{i}": 9 for i in range(words)}), TokenizerConfig())


def make(source: int = 16, target: int = 16, **config) -> TrainedModel:
    tokenizers = make_tokenizer(source), make_tokenizer(target)
    config = ModelConfig(**{"hidden": 8, "embedding": 8, **config})
    model = seeded(lambda: text_model(config, *map(len, tokenizers)))
    return TrainedModel(model, *tokenizers, LengthRatio(0.5, 1.0, 2.0), 12, {"training": {"seed": 7}})


@pytest.fixture
def saved(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, make(target=17), {"update": 5})
    save_state(folder, {"position": {"update": 5}, "tensor": torch.ones(3)})
    return folder


@pytest.mark.parametrize("tied", ["none", "target", "all"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_saved_model_comes_back_whole(tmp_path, tied, layers):
    # those of one layer have other parts as well
    parts = {} if layers > 1 else {"cell": "gru", "bidirectional": True, "attention": "general"}
    before = make(tied=tied, layers=layers, residual=True, reverse_source=False, **parts)
    save_model(tmp_path, before, {"update": 5})
    after = load_model(tmp_path)
    assert after.model.config == before.model.config
    assert (after.length_ratio, after.max_length) == (before.length_ratio, before.max_length)
    assert after.source.encode("word1 word2") == before.source.encode("word1 word2")
    assert after.config["training"] == {"seed": 7}
    own, others = dict(before.model.named_parameters()), dict(after.model.named_parameters())
    assert own.keys() == others.keys()
    assert all(torch.equal(own[name], others[name]) for name in own)
    batch = random_batch(0, [(3, 5), (6, 2)])
    assert not after.model.training
    assert torch.equal(after.model(batch).nll, before.model.eval()(batch).nll)
    if tied != "none":
        assert after.model.decoder.output.weight is after.model.decoder.embedding.weight
    if tied == "all":
        assert after.model.encoder.embedding.weight is after.model.decoder.embedding.weight


def test_loading_draws_no_random_numbers(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: SHA-256 is \w+\.\.\., but MANIFEST says \w+\.\.\..* copy it again"):
        load_model(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_is_found_with_both_sizes(saved, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:-3])
    expected = rf"{name}: {len(content) - 3} bytes, but MANIFEST says {len(content)}: .* copy it again"
    with pytest.raises(UserError, match=expected):
        load_model(saved)


@pytest.mark.parametrize("name", [*FILES, "MANIFEST"])
def test_a_missing_file_is_found(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: .*copy the whole directory again"):
        load_model(saved)


@pytest.mark.parametrize("content", ["", "a line", "half a line\n", None])
def test_a_damaged_manifest_is_found(saved, content):
    manifest = saved / "MANIFEST"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]) if content is None else content)
    with pytest.raises(UserError, match=r"MANIFEST: .*cut off or changed; copy it again"):
        load_model(saved)


def test_swapped_tokenizers_are_found(saved):
    (saved / "source.model").rename(saved / "other")
    (saved / "target.model").rename(saved / "source.model")
    (saved / "other").rename(saved / "target.model")
    with pytest.raises(UserError, match=r"target\.model: \d+ bytes, but MANIFEST says"):
        load_model(saved)
    write_manifest(saved, tuple(FILES))  # and even by someone who makes the manifest fit
    with pytest.raises(UserError, match=r"source\.model: 21 entries, but the weights are for 20: .*another model"):
        load_model(saved)


def test_weights_of_another_model_are_found(saved):
    for change, expected in (
        ({"hidden": 9}, r"model\.safetensors: decoder\.output\.weight is \(21, 8\) here, but \(21, 9\)"),
        ({"layers": 2}, r"model\.safetensors: decoder\.stack\.layers\.1\.\S+ is missing here, but \(32,\)"),
    ):
        config = yaml.safe_load((saved / "config.yaml").read_text())
        config["model"] |= change
        other = saved.with_name("other")
        shutil.copytree(saved, other)
        (other / "config.yaml").write_text(yaml.safe_dump(config))
        write_manifest(other, tuple(FILES))
        with pytest.raises(UserError, match=expected):
            load_model(other)
        shutil.rmtree(other)


def test_another_format_is_named(saved):
    text = (saved / "config.yaml").read_text()
    (saved / "config.yaml").write_text(text.replace("format: 1", "format: 99"))
    write_manifest(saved, tuple(FILES))
    with pytest.raises(UserError, match=r"config\.yaml: format 99, but this version reads 1"):
        load_model(saved)


def test_what_is_no_model_directory_gets_a_hint(saved, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copytree(saved, run / "checkpoints" / "update-5")
    with pytest.raises(UserError, match=r"no model directory here: did you mean .*/run/checkpoints/update-5\?"):
        load_model(run)
    shutil.copytree(saved, run / "model")
    with pytest.raises(UserError, match=r"did you mean .*/run/model\?"):
        load_model(run)
    for path in (tmp_path / "nowhere", saved / "config.yaml", saved / "state"):
        with pytest.raises(UserError, match="no model directory here: give the model directory of a finished run"):
            load_model(path)


def test_a_checkpoint_comes_back(saved):
    config, metrics, state = load_checkpoint(saved)
    assert config["vocabulary"] == {"source": 20, "target": 21}
    assert metrics == {"update": 5}
    assert state["position"] == {"update": 5}
    assert torch.equal(state["tensor"], torch.ones(3))


class Trap:
    """An object that touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_state_that_holds_code_is_refused_unrun(saved, tmp_path):
    torch.save({"position": Trap(tmp_path / "ran")}, saved / "state" / "training.pt")
    write_manifest(saved / "state", ("training.pt",))
    with pytest.raises(UserError, match=r"training\.pt: holds something else than tensors and plain values"):
        load_checkpoint(saved)
    assert not (tmp_path / "ran").exists()
    torch.load(saved / "state" / "training.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works


def test_a_checkpoint_without_its_state_is_named(saved):
    shutil.rmtree(saved / "state")
    with pytest.raises(UserError, match=r"state/MANIFEST: cannot be read"):
        load_checkpoint(saved)


def save(run: RunDirectory, update: int, best: list[int]) -> None:
    run.save(update, make(), {"update": update}, {"position": update}, best)


def test_the_newest_and_the_best_are_kept_and_only_the_newest_can_be_resumed(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.begin()
    assert run.newest() is None
    for update, best, kept in (
        (2, [], [2]),
        (4, [4], [4]),
        (6, [4, 6], [4, 6]),
        (8, [4, 6], [4, 6, 8]),
        (9, [6], [6, 9]),
    ):
        save(run, update, best)
        assert run.updates() == kept
        assert [run.at(each).joinpath("state").exists() for each in kept] == [each == update for each in kept]
    run.finish(6)
    assert json.loads((run.model / "metrics.json").read_text()) == {"update": 6}
    assert sorted(path.name for path in run.model.iterdir()) == sorted([*FILES, "MANIFEST"])
    load_model(run.model)


def test_a_kill_between_the_renames_of_an_overwritten_checkpoint_loses_nothing(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    run.begin()
    save(run, 4, [])
    (run.checkpoints / ".unfinished-old-abc").mkdir()
    run.at(4).rename(run.checkpoints / ".unfinished-old-abc" / "update-4")
    (run.checkpoints / ".unfinished-update-4-xyz").mkdir()
    assert run.newest() is None
    run.recover()
    assert [path.name for path in run.checkpoints.iterdir()] == ["update-4"]
    load_checkpoint(run.newest())


def test_a_full_disk_leaves_the_last_checkpoint_and_no_leftovers(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    run.begin()
    save(run, 4, [])
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"update-6: the disk is full: free some space"):
        save(run, 6, [])
    assert [path.name for path in run.checkpoints.iterdir()] == ["update-4"]
    load_checkpoint(run.newest())


def test_a_run_directory_is_claimed_once(tmp_path):
    path = tmp_path / "run"
    run = RunDirectory(path)
    with pytest.raises(UserError, match="no run to resume here: check the path, or start without --resume"):
        run.begin(again=True)
    for earlier in ("recipe.yaml", "data", "corpus"):  # a recipe's own files may stand there
        (path / earlier).mkdir(parents=True)
    run.begin()
    with pytest.raises(UserError, match=r"is not empty, it holds checkpoints: choose another --out, or .* --resume"):
        run.begin()
    run.begin(again=True)  # died before its first checkpoint
    save(run, 1200, [])
    for again in (False, True):
        with pytest.raises(UserError, match=r"holds a run that has reached update 1,200: go on with it with --resume"):
            run.begin(again=again)


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_with_anything_else_in_it_is_refused(tmp_path, again):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"is not empty, it holds thesis\.tex"):
        RunDirectory(tmp_path).begin(again=again)


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_run_directory_that_cannot_be_made(tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{path}: cannot be written \(.*directory.*\): choose another --out"):
        RunDirectory(tmp_path / path).begin()


def test_strange_names_among_checkpoints_are_passed_over(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.begin()
    save(run, 4, [])
    (run.checkpoints / "update-4 (copy)").mkdir()
    assert run.updates() == [4]


def silent():
    import io

    from rich.console import Console

    return Console(file=io.StringIO())


def test_the_log_forgets_what_lies_beyond_the_checkpoint(tmp_path):
    with RunLog(tmp_path, update=0, console=silent()) as log:
        for update in (10, 20, 30):
            log.record("train", {"update": update, "loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "upd')  # killed while writing
    assert [record["update"] for record in read_records(tmp_path)] == [10, 20, 30]
    with RunLog(tmp_path, update=20, console=silent()) as log:
        log.record("valid", {"update": 25, "bleu": 2.0})
    assert [(record["kind"], record["update"]) for record in read_records(tmp_path)] == [
        ("train", 10), ("train", 20), ("valid", 25),
    ]  # fmt: skip


def test_tensorboard_reads_its_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, update=0, console=silent()) as log:
        for update in (10, 20, 30):
            log.record("train", {"update": update, "loss": update / 4, "perplexity": float("inf")})
    with RunLog(tmp_path, update=20, console=silent()) as log:
        log.record("train", {"update": 25, "loss": 9.0})
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(10, 2.5), (20, 5.0), (25, 9.0)]


@pytest.mark.parametrize("which", ["metrics", "tensorboard"])
def test_a_log_that_cannot_be_written_is_a_user_error(tmp_path, which):
    full = open("/dev/full", "w" if which == "metrics" else "wb")  # noqa: PTH123, SIM115
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):  # noqa: SIM117
        with RunLog(tmp_path, update=0, console=silent()) as log:
            if which == "metrics":
                log._file = full
            else:
                from tensorboard.summary.writer.record_writer import RecordWriter

                log._board._file, log._board._records = full, RecordWriter(full)
            log.record("train", {"update": 10, "loss": 1.0})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 min 0 s"), (59.6, "1 min 0 s"), (3599.0, "59 min 59 s"), (7325.0, "2 h 2 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
    assert duration(float("nan")) == "?"

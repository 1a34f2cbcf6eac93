import io
import json
import math
import os
import signal
from dataclasses import fields, replace

import pytest
import sacrebleu
import safetensors.torch
import torch
from tiny import MODEL, TRAINING, options, poison_gradients, random_batch, seeded, train, weights, write_prepared

import nmt.processes
import nmt.train_translation
import nmt.trainer
from data.batching import plan_batches
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.text_files import read_lines
from nmt.checkpoint import load_model
from nmt.config import ModelConfig, TrainingConfig
from nmt.loss import Loss, cross_entropy
from nmt.model import text_model
from nmt.processes import StopSignal, bfloat16_computes, make_accelerator
from nmt.run_directory import RunDirectory
from nmt.run_log import read_records
from nmt.search_options import SearchOptions
from nmt.translator import Translator
from nmt.validation import TranslationValidator, Validation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Without curves.png, which takes longer than the training."""
    if "tells" not in request.node.name:
        monkeypatch.setattr(nmt.trainer, "draw_curves", lambda folder: None)


def records(run, kind):
    return [record for record in read_records(run) if record["kind"] == kind]


def scripted(perplexity, bleu):
    return Validation(float(perplexity), {"bleu": float(bleu)})


def script_validations(monkeypatch, *scores):
    """Let the validations give these (perplexity, BLEU), the last of them again and again."""
    calls = []

    def validate(validator):
        calls.append(validator)
        return scripted(*scores[min(len(calls), len(scores)) - 1])

    monkeypatch.setattr(TranslationValidator, "__call__", validate)
    return calls


# one value other than that of MODEL and TRAINING for every option, and what else makes it matter
MODEL_CHANGES = {
    "layers": 2, "hidden": 12, "embedding": 12, "dropout": 0.5, "residual": True, "tied": "target",
    "reverse_source": False, "init": "uniform", "init_range": 0.3, "cell": "gru", "bidirectional": True,
    "attention": "additive", "source_every_step": True, "repeat_vector": True, "variational_dropout": True,
    "layers_above": 1,
}  # fmt: skip
TRAINING_CHANGES = {
    "seed": 2, "batch_tokens": 256, "accumulate": 2, "optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.5,
    "schedule": "inverse_sqrt", "halve_after": 0.0, "warmup_updates": 5, "clip_norm": 0.01, "label_smoothing": 0.5,
    "sampled_softmax": 3, "precision": "bfloat16",
}  # fmt: skip
# these have tests of their own
ELSEWHERE = {
    "max_epochs", "max_updates", "max_minutes", "validate_every", "metric", "valid_sentences", "valid_beam",
    "patience", "keep_best", "checkpoint_every", "deterministic", "pretrained_learning_rate", "subword_sampling",
}  # fmt: skip
NEEDED_MODEL = {"layers_above": {"attention": "general"}, "residual": {"layers": 2}, "init_range": {"init": "uniform"}}
NEEDED = {"halve_after": {"schedule": "halve"}, "sampled_softmax": {"label_smoothing": 0.0}}


def test_every_option_has_a_test():
    assert MODEL_CHANGES.keys() == {field.name for field in fields(ModelConfig)}
    assert TRAINING_CHANGES.keys() | ELSEWHERE == {field.name for field in fields(TrainingConfig)}


def final_weights(data, out, model=MODEL, **changes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(weights(train(data, out, model=model, **changes).model))


@pytest.mark.parametrize("name", MODEL_CHANGES)
def test_options_of_the_model_change_what_is_trained(data, tmp_path, name):
    before = replace(MODEL, **NEEDED_MODEL.get(name, {}))
    one = final_weights(data, tmp_path / "one", before)
    again = final_weights(data, tmp_path / "again", before)
    other = final_weights(data, tmp_path / "other", replace(before, **{name: MODEL_CHANGES[name]}))
    assert all(torch.equal(again[key], value) for key, value in one.items())
    shapes = [{key: value.shape for key, value in each.items()} for each in (one, other)]
    assert shapes[0] != shapes[1] or any(not torch.equal(other[key], value) for key, value in one.items())


@pytest.mark.parametrize("name", TRAINING_CHANGES)
def test_options_of_training_change_the_weights(data, tmp_path, name):
    if name == "precision" and not bfloat16_computes(torch.device("cpu")):
        pytest.skip("this processor does not compute in bfloat16")
    before = NEEDED.get(name, {})
    one = final_weights(data, tmp_path / "one", **before)
    other = final_weights(data, tmp_path / "other", **{**before, name: TRAINING_CHANGES[name]})
    # embeddings of words that were not seen stay as they are
    assert not torch.allclose(one["decoder.output.bias"], other["decoder.output.bias"], atol=1e-7, rtol=0)


def test_a_precision_that_the_processor_lacks_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(nmt.processes, "bfloat16_computes", lambda device: False)
    with pytest.raises(UserError, match="this processor does not compute in it"):
        train(data, tmp_path / "run", precision="bfloat16")


def test_a_rate_for_pretrained_weights_is_refused_where_there_are_none(data, tmp_path):
    with pytest.raises(UserError, match="this model has no pretrained weights"):
        train(data, tmp_path / "run", pretrained_learning_rate=0.1)


ALONE = "repeat_vector"  # does not go with tied vectors
TOGETHER = {name: value for name, value in MODEL_CHANGES.items() if name != ALONE}


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("model", TOGETHER),
        ("model", {ALONE: MODEL_CHANGES[ALONE]}),
        ("training", TRAINING_CHANGES | {"label_smoothing": 0.0}),
    ],
)
def test_every_option_can_be_given_to_the_command(monkeypatch, tmp_path, section, changes):
    from scripts.train_translation import train as command

    given = {}
    monkeypatch.setattr(
        nmt.train_translation, "train_translation", lambda data, out, model, training, **_: given.update(
            model=model, training=training
        ) or nmt.trainer.TrainingResult("", 0, 0.0, None, None)
    )  # fmt: skip
    own = {"model": ModelConfig, "training": TrainingConfig}[section]
    more = {} if section == "model" else {
        "max_epochs": 3, "max_updates": 7, "max_minutes": 1.5, "validate_every": 4, "metric": "perplexity",
        "valid_sentences": 9, "valid_beam": 2, "patience": 8, "keep_best": 2, "checkpoint_every": 6,
        "deterministic": True, "pretrained_learning_rate": 0.1, "subword_sampling": 0.2,
    }  # fmt: skip
    config = own(**changes | more)
    assert all(getattr(config, name) != getattr(own(), name) for name in changes | more)
    monkeypatch.setattr("sys.argv", ["x", "--data", str(tmp_path), "--out", str(tmp_path), *options(config)])
    command()
    assert given[section] == config


def test_the_loss_is_divided_by_the_true_number_of_target_tokens(data, tmp_path):
    """The first loss in the log is that of the first batches under the initial weights."""
    model = replace(MODEL, dropout=0.0)
    train(data, tmp_path / "run", model=model, max_updates=1, accumulate=3)
    corpus = PreparedCorpus(data / "train")
    plans = list(plan_batches(corpus, batch_tokens=128, seed=1, epoch=0))[:3]
    settings = load_model(tmp_path / "run" / "model")
    network = seeded(lambda: text_model(model, len(settings.source), len(settings.target)), 1)
    smoothed = nll = tokens = 0.0
    for plan in plans:
        batch = plan.collate(reverse_source=True)
        loss = network(batch, 0.1)
        smoothed, nll, tokens = smoothed + loss.smoothed.item(), nll + loss.nll.item(), tokens + len(batch.labels)
    (record,) = records(tmp_path / "run", "train")
    assert record["loss"] == pytest.approx(smoothed / tokens, rel=1e-5)
    assert record["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert tokens == sum(plan.target_tokens for plan in plans) < sum(plan.cells for plan in plans)


def test_accumulated_batches_are_one_large_batch(data, tmp_path):
    model = replace(MODEL, dropout=0.0)
    large = final_weights(data, tmp_path / "large", model, batch_tokens=100_000, max_updates=2, optimizer="sgd")
    small = final_weights(data, tmp_path / "small", model, accumulate=100, max_updates=2, optimizer="sgd")
    for name, expected in large.items():
        torch.testing.assert_close(small[name], expected, atol=1e-6, rtol=1e-4)
    losses = [[r["loss"] for r in records(tmp_path / run, "train")] for run in ("large", "small")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_max_updates_and_max_epochs_end_training(data, tmp_path):
    batches = len(list(plan_batches(PreparedCorpus(data / "train"), batch_tokens=128, seed=1, epoch=0)))
    result = train(data, tmp_path / "a", max_updates=5)
    assert (result.updates, result.reason) == (5, "reached update 5, and training.max_updates is 5")
    result = train(data, tmp_path / "b", max_updates=0, max_epochs=2)
    assert result.reason == "went 2 times over the data, and training.max_epochs is 2"
    assert 2 * batches - 2 <= result.updates <= 2 * batches + 2


def test_max_minutes_ends_training_at_the_next_update(data, tmp_path):
    result = train(data, tmp_path / "run", max_minutes=1e-9)
    assert result.updates == 1
    assert result.reason.endswith("training.max_minutes is 1e-09")
    assert result.seconds > 0


def test_max_minutes_counts_the_time_before_resuming(data, tmp_path):
    first = train(data, tmp_path / "run", max_updates=4)
    result = train(data, tmp_path / "run", max_updates=0, resume=True, max_minutes=first.seconds / 60 + 1e-9)
    assert result.updates == 5


def test_patience_counts_validations_without_gain(data, tmp_path, monkeypatch):
    script_validations(monkeypatch, (9, 1), (9, 3), (9, 3), (9, 2), (9, 4), (9, 4), (9, 4))
    result = train(data, tmp_path / "run", validate_every=1, patience=3, max_updates=20)
    assert result.updates == 8
    assert result.reason == "had 3 validations without gain, and training.patience is 3"
    assert result.best == scripted(9, 4)
    assert train(data, tmp_path / "off", validate_every=1, patience=0, max_updates=20).updates == 20


@pytest.mark.parametrize(("metric", "best"), [("bleu", 2), ("perplexity", 3)])
def test_metric_decides_what_is_best(data, tmp_path, monkeypatch, metric, best):
    script_validations(monkeypatch, (9, 1), (8, 3), (7, 2))
    said = io.StringIO()
    result = train(data, tmp_path / "run", metric=metric, validate_every=1, max_updates=3, keep_best=1, said=said)
    assert json.loads((result.model / "metrics.json").read_text())["update"] == best
    assert result.best == {2: scripted(8, 3), 3: scripted(7, 2)}[best]
    assert RunDirectory(tmp_path / "run").updates() == sorted({best, 3})
    stars = [line.endswith(" *") for line in said.getvalue().splitlines() if "validation perplexity" in line]
    assert stars == [True, True, metric == "perplexity"]


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_best_checkpoints_are_kept(data, tmp_path, monkeypatch, keep):
    scores = (5, 9, 7, 8, 1, 2)
    script_validations(monkeypatch, *((9, score) for score in scores))
    result = train(data, tmp_path / "run", validate_every=1, keep_best=keep)
    ranked = sorted(range(1, 7), key=lambda update: -scores[update - 1])
    run = RunDirectory(tmp_path / "run")
    assert run.updates() == sorted({*ranked[:keep], 6})
    assert weights(result.model) == weights(run.at(2))
    for update in run.updates():
        kept = json.loads((run.at(update) / "metrics.json").read_text())
        assert kept["validation"] == {"perplexity": 9.0, "bleu": scores[update - 1]}


def test_a_plateau_halves_the_rate(data, tmp_path, monkeypatch):
    script_validations(monkeypatch, (9, 3), (9, 2), (9, 4), (9, 4))
    train(data, tmp_path / "run", schedule="plateau", validate_every=1, learning_rate=0.8)
    rates = [record["learning_rate"] for record in records(tmp_path / "run", "train")]
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1]


def test_validation_happens_every_so_many_updates_or_once_an_epoch(data, tmp_path):
    train(data, tmp_path / "run", validate_every=2, max_updates=5)
    assert [record["update"] for record in records(tmp_path / "run", "valid")] == [2, 4, 5]
    result = train(data, tmp_path / "epochs", max_updates=0, max_epochs=2)
    updates = [record["update"] for record in records(tmp_path / "epochs", "valid")]
    assert len(updates) == 2
    assert updates[1] == result.updates


def test_checkpoints_are_written_every_so_many_updates(data, tmp_path, monkeypatch):
    saved = []
    save = RunDirectory.save

    def spy(self, update, *rest):
        saved.append(update)
        save(self, update, *rest)

    monkeypatch.setattr(RunDirectory, "save", spy)
    train(data, tmp_path / "run", checkpoint_every=2, max_updates=5)
    assert saved == [2, 4, 5]


def test_valid_sentences_and_valid_beam_reach_the_validation(data, tmp_path, monkeypatch):
    decoded = []
    translate = Translator.translate

    def spy(self, lines, options):
        lines = list(lines)
        decoded.append((len(lines), options.beam))
        return translate(self, lines, options)

    monkeypatch.setattr(Translator, "translate", spy)
    train(data, tmp_path / "run", max_updates=1, valid_sentences=3, valid_beam=2)
    assert decoded == [(3, 2)]


def test_deterministic_asks_torch(data, tmp_path):
    train(data, tmp_path / "run", max_updates=1, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    train(data, tmp_path / "off", max_updates=1)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("able", [False, True])
def test_precision_auto_asks_the_processor(monkeypatch, able):
    monkeypatch.setattr(nmt.processes, "bfloat16_computes", lambda device: able)
    assert make_accelerator(replace(TRAINING, precision="auto")).mixed_precision == ("bf16" if able else "no")
    assert make_accelerator(replace(TRAINING, precision="float32")).mixed_precision == "no"
    if able:
        assert make_accelerator(replace(TRAINING, precision="bfloat16")).mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("capabilities", "able"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_bfloat16_is_for_processors_that_compute_in_it(monkeypatch, capabilities, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bfloat16_computes(torch.device("cpu")) is able


def test_bleu_is_that_of_really_decoded_text(data, tmp_path):
    """The figure in the log is what sacrebleu gives for the translations of the finished model."""
    model = replace(MODEL, hidden=32, embedding=32, dropout=0.0)
    result = train(
        data, tmp_path / "run", model=model, max_updates=150, learning_rate=0.02, valid_sentences=8, valid_beam=2
    )
    lines = list(read_lines(data / "valid.source"))
    found = [one.text for one in Translator([load_model(result.model)]).translate(lines, SearchOptions(beam=2))]
    expected = sacrebleu.corpus_bleu(found, [list(read_lines(data / "valid.reference"))]).score
    assert result.best.scores["bleu"] == pytest.approx(expected, abs=1e-9)
    assert expected > 5


def test_perplexity_is_that_of_all_validation_tokens(data, tmp_path):
    result = train(data, tmp_path / "run", batch_tokens=64)
    network, corpus = load_model(result.model).model, PreparedCorpus(data / "valid")
    (pool,) = corpus.in_order()
    nll = tokens = 0
    for row in range(len(corpus)):
        batch = nmt.trainer.Plan(pool, pool.rows[[row]]).collate(reverse_source=True)
        nll, tokens = nll + network(batch).nll.item(), tokens + len(batch.labels)
    assert result.best.perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-5)


def test_a_run_tells_what_it_does(data, tmp_path):
    said = io.StringIO()
    train(data, tmp_path / "run[1]", said=said, max_updates=25, validate_every=100)
    text = said.getvalue()
    assert "M parameters" in text
    assert "1 process(es) on cpu" in text
    for word in ("loss ", "perplexity ", "tokens/s", "padding ", "left"):
        assert word in text
    assert (tmp_path / "run[1]" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [record["update"] for record in records(tmp_path / "run[1]", "train")] == [20, 25]
    for record in records(tmp_path / "run[1]", "train"):
        assert 0 <= record["padding"] < 1
        assert record["target_tokens_per_second"] > 0


def poison_losses(monkeypatch, at: int):
    """Make the loss of the batch with this number, counted from 0, not a number."""
    calls = []

    def poisoned(outputs, layer, labels, smoothing, weights):
        calls.append(labels)
        loss = cross_entropy(outputs, layer, labels, smoothing)
        return Loss(loss.smoothed * math.nan, loss.nll) if len(calls) == at + 1 else loss

    monkeypatch.setattr("nmt.model.cross_entropy", poisoned)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(data, tmp_path, monkeypatch):
    plans = list(plan_batches(PreparedCorpus(data / "train"), batch_tokens=128, seed=1, epoch=0))
    rows = plans[3].pool.rows[plans[3].rows[:3]].tolist()
    poison_losses(monkeypatch, at=3)
    with pytest.raises(UserError) as caught:
        train(data, tmp_path / "run", checkpoint_every=2)
    run = RunDirectory(tmp_path / "run")
    expected = (
        f"the loss of update 3 is nan (epoch 0, batch 3, training pairs {rows}...): "
        f"the last good checkpoint is {run.at(2)}"
    )
    assert str(caught.value).startswith(expected)
    assert run.updates() == [2]
    model = load_model(run.at(2)).model
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    monkeypatch.undo()
    assert train(data, tmp_path / "run", checkpoint_every=2, resume=True).updates == 6


def test_a_batch_of_an_epoch_that_has_ended_is_named_by_its_own_epoch(data, tmp_path, monkeypatch):
    batches = len(list(plan_batches(PreparedCorpus(data / "train"), batch_tokens=128, seed=1, epoch=0)))
    poison_losses(monkeypatch, at=batches - 1)
    with pytest.raises(UserError, match=rf"epoch 0, batch {batches - 1}, .*there is no checkpoint yet"):
        train(data, tmp_path / "run", max_updates=0)


def test_broken_weights_are_never_saved(data, tmp_path, monkeypatch):
    """The last loss before them was a number."""
    poison_gradients(monkeypatch, at=4)
    with pytest.raises(UserError, match=r"weights are no longer finite after update 3 .*checkpoint is .*update-2"):
        train(data, tmp_path / "run", checkpoint_every=2)
    assert RunDirectory(tmp_path / "run").updates() == [2]
    load_model(RunDirectory(tmp_path / "run").at(2))


def test_a_rate_out_of_all_proportion_is_a_user_error(data, tmp_path):
    with pytest.raises(UserError, match=r"Lower training\.learning_rate"):
        train(data, tmp_path / "run", learning_rate=3e38, validate_every=1)


def test_a_streamed_text_tells_what_it_leaves_out_in_each_epoch(tmp_path):
    data = write_prepared(tmp_path, stream=True, max_length=12)
    said = io.StringIO()
    train(data, tmp_path / "run", max_updates=0, max_epochs=2, said=said)
    told = [line for line in said.getvalue().splitlines() if "pairs streamed" in line]
    assert len(told) == 2
    assert told[0] == told[1]
    assert told[0].startswith("64 pairs streamed; dropped: ")
    assert "overlong" in told[0]


@pytest.mark.parametrize(
    ("schedule", "message"), [("cosine", "set --training.max_updates"), ("halve", "half an epoch")]
)
def test_schedules_that_need_a_length_refuse_a_streamed_text(tmp_path, schedule, message):
    data = write_prepared(tmp_path, stream=True)
    with pytest.raises(UserError, match=message):
        train(data, tmp_path / "run", max_updates=0, schedule=schedule)
    if schedule == "cosine":
        assert train(data, tmp_path / "run", schedule=schedule).updates == 6


def test_what_is_not_prepared_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no prepared data here \(config\.yaml: No such file or directory\)"):
        train(tmp_path, tmp_path / "run")


def test_tying_everything_needs_a_shared_vocabulary(data, tmp_path):
    with pytest.raises(UserError, match="tied all needs one shared vocabulary"):
        train(data, tmp_path / "run", model=replace(MODEL, tied="all"))
    shared = write_prepared(tmp_path / "shared", shared_vocabulary=True)
    result = train(shared, tmp_path / "run", model=replace(MODEL, tied="all"))
    model = load_model(result.model).model
    assert model.encoder.embedding.weight is model.decoder.output.weight


def test_the_first_signal_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    stop = StopSignal()
    with pytest.raises(KeyboardInterrupt), stop.caught():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.came
        os.kill(os.getpid(), signal.SIGINT)
    with stop.caught():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_dropout_and_order_depend_on_nothing_but_seed_and_update(data, tmp_path):
    """Random numbers that others draw in between leave the weights as they are."""
    one = train(data, tmp_path / "one")
    torch.manual_seed(12345)
    random_batch(0, [(1, 1)])
    assert weights(train(data, tmp_path / "two").model) == weights(one.model)

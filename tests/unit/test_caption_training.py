import base64
import io
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageOps
from tiny import weights
from tiny_captions import IMAGE, MODEL, train_captions, write_prepared_captions

import nmt.trainer
from captioning.captioner import Captioner, ImageCaption
from captioning.cider import CiderD
from captioning.cnn import ImageNetwork, load_network
from captioning.columns import FeatureColumn, Features
from captioning.config import CaptionPrepareConfig, ImageConfig, StageConfig
from captioning.corpus import read_split
from captioning.encoder import ImageEncoder, encoder_of
from captioning.evaluation import TrainingImages, decode_texts, evaluate_captions, split_features
from captioning.explanation_page import _shade, add_captions, image_page
from captioning.features import FeatureStore
from captioning.images import open_image
from captioning.meteor import MeteorError
from captioning.options import CaptionOptions
from captioning.recipe import CaptionRecipe
from captioning.self_critical import SelfCritical, reference
from data.batching import Plan, plan_batches
from data.corpus import PreparedCorpus, RowCorpus
from data.errors import UserError
from data.source import TensorSource
from data.tokenizer import BOS_ID, EOS_ID, UNK_ID
from nmt import stepper
from nmt.checkpoint import load_model
from nmt.search_options import SearchOptions
from nmt.translator import Translator


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared_captions(tmp_path_factory.mktemp("captions"), views=2)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nmt.trainer, "draw_curves", lambda folder: None)
        return train_captions(data, tmp_path_factory.mktemp("runs") / "run", max_updates=40, learning_rate=0.02).model


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(nmt.trainer, "draw_curves", lambda folder: None)
    monkeypatch.setattr("captioning.coco_metrics.meteor_score", no_meteor)  # Java takes ten seconds to start, each time


def no_meteor(corpora):
    raise MeteorError("not here")


def own(folder) -> dict[str, torch.Tensor]:
    """What was learnt, without the CNN."""
    found = safetensors.torch.load(weights(folder))
    return {name: value for name, value in found.items() if not name.startswith("encoder.pretrained.")}


def cnn(folder) -> dict[str, torch.Tensor]:
    found = safetensors.torch.load(weights(folder))
    return {name: value for name, value in found.items() if name.startswith("encoder.pretrained.")}


IMAGE_CHANGES = {"first_input": False, "initial_state": True, "every_step": True, "normalise": False}


def test_every_option_of_the_image_changes_what_is_trained(data, tmp_path):
    assert IMAGE_CHANGES.keys() == {field.name for field in fields(ImageConfig)}
    one = own(train_captions(data, tmp_path / "one", max_updates=2).model)
    for name, value in IMAGE_CHANGES.items():
        changed = replace(IMAGE, **{name: value}, **({"every_step": True} if name == "first_input" else {}))
        other = own(train_captions(data, tmp_path / name, image=changed, max_updates=2).model)
        assert one.keys() != other.keys() or any(not torch.equal(one[key], other[key]) for key in one), name


def test_attention_over_the_grid(tmp_path):
    """Xu et al. (2015): the same attention as over words, and what is where can be told."""
    data = write_prepared_captions(tmp_path, train=12, kind="grid")
    model = replace(MODEL, attention="general")
    image = replace(IMAGE, initial_state=True)
    result = train_captions(data, tmp_path / "run", image=image, model=model, max_updates=4)
    images = read_split(data, "test")
    captioner = Captioner.load(result.model)
    found = captioner.caption([one.path for one in images[:2]], SearchOptions(beam=3))
    assert all(one.text for one in found)
    read = captioner.read([one.path for one in images])
    assert read.features.shape == (6, 1, 49, 1280)
    decoder, encoder = captioner.models[0].model.decoder, captioner.models[0].model.encoder
    context = encoder(TensorSource.of(torch.from_numpy(read.features[:, 0])))
    before = decoder.start(context, 6)
    tokens = torch.full((6,), BOS_ID)
    blank = replace(before, memory=replace(before.memory, values=torch.zeros_like(before.memory.values)))
    assert not torch.allclose(decoder.step(tokens, before)[0], decoder.step(tokens, blank)[0])
    evaluated = evaluate_captions(
        captioner.models, read.features, [one.captions for one in images], SearchOptions(), TrainingImages.read(data)
    )
    assert evaluated.nearest_image is not None

    paths = [one.path for one in images[:2]]
    explained = [captioner.explain(path, one) for path, one in zip(paths, found, strict=True)]
    for one, explanation in zip(found, explained, strict=True):
        best = one.hypotheses[0]
        assert explanation.weights.shape == (len(best.tokens) + best.parts[0].finished, 49)
        np.testing.assert_allclose(explanation.weights.sum(1), 1, atol=1e-5)
        total = sum(np.log(step.written.probability) for step in explanation.steps)
        assert total == pytest.approx(best.log_prob, abs=1e-3)
    page = tmp_path / "page.html"
    with image_page(page, note="", overwrite=False) as writer:
        add_captions(writer, captioner, [*paths, tmp_path], [*found, ImageCaption([], "is a folder")])
    text = page.read_text()
    assert text.count("<section>") == text.count("--image:url(data:image/jpeg") == 2 and "2 images" in text
    assert text.count('<img class="seen"') == sum(len(one.steps) for one in explained)


def test_regions_are_attended_over_or_read_in_their_order():
    network = load_network("efficientnet_lite0", pretrained=False)
    values = torch.randn(2, *network.shape("regions"))
    turned = values.flip(1)  # the same regions in other places
    context = {}
    for attention in ("none", "general"):
        encoder = ImageEncoder(replace(IMAGE, every_step=True), replace(MODEL, attention=attention), network, "regions")
        assert encoder.memory == (0 if attention == "none" else 1280)
        context[attention] = [encoder(TensorSource.of(given)) for given in (values, turned)]
    one, other = context["none"]
    assert one.memory is None and not torch.allclose(one.vector, other.vector)
    one, other = context["general"]
    assert one.memory.shape == (2, 9, 1280) and one.memory_mask.all()
    torch.testing.assert_close(one.vector, other.vector)  # of the mean, and the places are told by what is attended to
    torch.testing.assert_close(one.memory, other.memory.flip(1))


def test_a_region_is_bright_where_it_was_read():
    read = np.zeros(9)
    read[5] = 1  # the right of the middle row
    data = base64.b64decode(_shade(read).split(",")[1])
    alpha = np.asarray(Image.open(io.BytesIO(data)).getchannel("A"))
    cell = len(alpha) // 3
    clear = alpha[cell : 2 * cell, 2 * cell :]
    assert not clear.any() and (alpha > 0).sum() == 8 * cell * cell


def test_attention_wants_positions(data, tmp_path):
    with pytest.raises(UserError, match=r"model\.attention general: this source is one vector"):
        train_captions(data, tmp_path / "run", model=replace(MODEL, attention="general"))


@torch.no_grad()
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05), ("int8", 0.05)])
def test_search_steps_as_the_decoder_does_after_an_image(trained, precision, tolerance, monkeypatch):
    monkeypatch.setattr(stepper, "bfloat16_computes", lambda device: True)
    model = load_model(trained, image_encoder=encoder_of).model.eval()
    assert model.encoder.first_input is not None
    searched = stepper.Stepper(model, precision)
    source, words = TensorSource.of(torch.rand(2, 1280)), torch.tensor([4, 5])
    begun = model.decoder.start(model.encode(source), 2)
    scores, _ = model.decoder.step(words, begun)
    found, _ = searched.step(words, searched.start(source))
    torch.testing.assert_close(found[:, : scores.shape[1]], scores.log_softmax(-1), rtol=0, atol=tolerance)


def test_features_of_another_shape_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageNetwork, "shape", lambda network, kind: (320,))
    with pytest.raises(UserError, match=r"features of shape \[1280\] an image, but .* pooled are of \[320\]: prepare"):
        train_captions(data, tmp_path / "run")


def test_an_image_can_be_repeated_but_not_come_first(data, tmp_path):
    model = replace(MODEL, repeat_vector=True)
    with pytest.raises(UserError, match=r"set image\.every_step true, image\.first_input false"):
        train_captions(data, tmp_path / "run", model=model)
    image = replace(IMAGE, first_input=False, every_step=True)
    assert train_captions(data, tmp_path / "run", image=image, model=model, max_updates=2).model


@pytest.mark.parametrize("name", ["source_every_step", "bidirectional"])
def test_options_of_text_encoders_are_refused(data, tmp_path, name):
    with pytest.raises(UserError, match="are for sources that are text"):
        train_captions(data, tmp_path / "run", model=replace(MODEL, **{name: True}))


def test_a_gru_has_no_cell_to_start_from_the_image(data, tmp_path):
    image = replace(IMAGE, initial_state=True)
    result = train_captions(data, tmp_path / "run", image=image, model=replace(MODEL, cell="gru"), max_updates=2)
    assert own(result.model)["encoder.initial_state.weight"].shape == (16, 1280)


def test_an_image_must_be_seen_somehow():
    with pytest.raises(ValueError, match="the decoder would never see the image"):
        ImageConfig(first_input=False)


def test_the_image_is_the_first_input_and_nothing_else():
    """Vinyals et al. (2014), section 3.1: a linear map without bias, from a zero state, once."""
    network = load_network("efficientnet_lite0", pretrained=False)
    encoder = ImageEncoder(ImageConfig(normalise=False), MODEL, network)
    features = torch.randn(3, network.features)
    context = encoder(TensorSource.of(features))
    assert (context.state, context.vector, context.memory) == (None, None, None)
    torch.testing.assert_close(context.first_input, features @ encoder.first_input.weight.T)


def test_normalised_features_have_no_length_of_their_own():
    network = load_network("efficientnet_lite0", pretrained=False)
    encoder = ImageEncoder(ImageConfig(), MODEL, network)
    features = torch.randn(3, network.features)
    one, other = (encoder(TensorSource.of(each)).first_input for each in (features, 7 * features))
    torch.testing.assert_close(one, other)
    assert torch.isfinite(encoder(TensorSource.of(torch.zeros(1, network.features))).first_input).all()


def test_training_is_resumed_to_the_same_bits(data, tmp_path):
    train_captions(data, tmp_path / "whole", max_updates=6, checkpoint_every=1)
    train_captions(data, tmp_path / "parts", max_updates=3, checkpoint_every=1)
    train_captions(data, tmp_path / "parts", max_updates=6, checkpoint_every=1, resume=True)
    whole, parts = (weights(tmp_path / name / "checkpoints" / "update-6") for name in ("whole", "parts"))
    assert whole == parts


def test_the_frozen_cnn_stays_as_it_was_published(trained):
    published = load_network("efficientnet_lite0").state_dict()
    kept = cnn(trained)
    assert kept.keys() == {f"encoder.pretrained.{name}" for name in published}
    assert all(torch.equal(value, kept[f"encoder.pretrained.{name}"]) for name, value in published.items())


def test_a_finished_captioner_gives_from_pixels_what_it_gives_from_the_cache(data, trained):
    images, store = read_split(data, "test"), FeatureStore.open(data / "features")
    captioner = Captioner.load(trained)
    read = captioner.read([one.path for one in images])
    cached = store.array[[one.row for one in images], 0].astype(np.float32)
    np.testing.assert_allclose(read.features[:, 0], cached, atol=0.02, rtol=0.01)
    found = captioner.caption([one.path for one in images])
    assert all(one.text and one.error is None for one in found)
    alone = [captioner.caption([one.path])[0] for one in images]
    assert [one.text for one in alone] == [one.text for one in found]
    for one, other in zip(alone, found, strict=True):
        assert one.hypotheses[0].log_prob == pytest.approx(other.hypotheses[0].log_prob, abs=1e-3)


def test_an_image_and_its_mirror_image_are_captioned_together(data, trained, tmp_path):
    images = [open_image(one.path) for one in read_split(data, "test")]
    turned = [ImageOps.mirror(image) for image in images]
    captioner = Captioner.load(trained)
    both = captioner.read(images, views=2).features
    np.testing.assert_allclose(both[:, 1], captioner.read(turned).features[:, 0], atol=0.02, rtol=0.01)
    together = CaptionOptions(mirror=True)
    found, others, plain = (
        captioner.caption(images, together), captioner.caption(turned, together), captioner.caption(images)
    )  # fmt: skip
    log_probs = [[one.hypotheses[0].log_prob for one in each] for each in (found, others, plain)]
    np.testing.assert_allclose(log_probs[0], log_probs[1], atol=1e-3)
    assert not np.allclose(log_probs[0], log_probs[2], atol=1e-3)
    texts, _ = decode_texts(captioner.models, both, SearchOptions())
    assert texts == [one.text for one in found]
    with pytest.raises(UserError, match=r"no mirror images: prepare with views 9"):
        split_features(FeatureStore.open(data / "features"), read_split(data, "test"), 9)
    CaptionRecipe(prepare=CaptionPrepareConfig(views=2), search=together)
    with pytest.raises(UserError, match=r"set prepare\.views 2"):
        CaptionRecipe(search=together)


def test_an_unreadable_image_does_not_stop_the_others(data, trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    good = read_split(data, "test")[0].path
    one, broken, again = Captioner.load(trained).caption([good, tmp_path / "broken.jpg", str(good)])
    assert one == again and one.text
    assert broken.error and not broken.hypotheses and broken.text == ""


def test_pil_images_and_tensors_are_captioned_like_files(data, trained):
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    path = read_split(data, "test")[0].path
    image = Image.open(path).convert("RGB")
    captioner = Captioner.load([trained, trained])
    found = captioner.caption([path, image, pil_to_tensor(image), pil_to_tensor(image).float() / 255])
    assert len({one.text for one in found}) == 1


def test_translate_and_caption_refuse_each_others_models(trained):
    with pytest.raises(UserError, match="this model reads images: use it with the caption command"):
        Translator.load(trained)
    assert load_model(trained, image_encoder=encoder_of).source is None


def test_a_random_view_is_drawn_by_seed_and_epoch(data):
    store = FeatureStore.open(data / "features")
    corpus = RowCorpus(PreparedCorpus(data / "text" / "train"), Features(store.array))

    def views(seed, epoch):
        (pool,) = corpus.pools(seed, epoch)
        return dict(zip(pool.rows.tolist(), pool.source.views.tolist(), strict=True))

    assert views(1, 0) == views(1, 0) != views(1, 1)
    assert set(views(1, 0).values()) == {0, 1}
    (pool,) = corpus.in_order()
    assert not pool.source.views.any()


def test_fine_tuning_changes_the_cnn_at_its_own_rate(data, trained, tmp_path):
    stage = StageConfig(start=str(trained))
    result = train_captions(data, tmp_path / "run", stage=stage, max_updates=1, pretrained_learning_rate=1e-4)
    before, after = cnn(trained), cnn(result.model)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any(name.endswith("weight") for name in changed)
    assert not any("running" in name for name in changed)  # batch norm keeps the statistics it was published with
    largest = max((after[name] - before[name]).abs().max() for name in changed)
    assert largest == pytest.approx(1e-4, rel=0.01)  # one step of Adam
    images = read_split(data, "test")
    assert Captioner.load(result.model).caption([images[0].path])[0].text
    config = json.loads((result.model / "metrics.json").read_text())
    assert config["update"] == 1
    with pytest.raises(UserError, match="the CNN of one was fine-tuned"):
        Captioner.load([trained, result.model])


def self_critical(data, model, longest: int = 20) -> tuple[SelfCritical, Plan]:
    loaded = load_model(model, image_encoder=encoder_of)
    store = FeatureStore.open(data / "features")
    corpus = RowCorpus(PreparedCorpus(data / "text" / "train"), Features(store.array))
    references = {
        one.row: [reference(loaded.target.encode(caption)) for caption in one.captions]
        for one in read_split(data, "train")
    }
    plan = next(iter(plan_batches(corpus, batch_tokens=256, seed=1, epoch=0)))
    return SelfCritical(loaded.model, CiderD(list(references.values())), references, longest), plan


@pytest.mark.parametrize("longest", [2, 20])
def test_samples_are_weighted_by_how_much_they_beat_the_greedy_caption(data, trained, longest):
    rewrite, plan = self_critical(data, trained, longest)
    batch = plan.collate(reverse_source=True)
    made = rewrite(batch, plan, 5)
    assert len(made.labels) == len(made.weights)
    assert torch.equal(made.labels, rewrite(batch, plan, 5).labels)
    assert not torch.equal(made.target, rewrite(batch, plan, 6).target)
    samples, greedy = rewrite._decode(batch, 5)
    references = [rewrite.references[row] for row in plan.pool.source.images[plan.rows].tolist()]
    rewards = [rewrite.reward.scores([one.tokens + [EOS_ID] * (not one.cut_off) for one in each], references)
               for each in (samples, greedy)]  # fmt: skip
    start = 0
    for i, one in enumerate(samples):
        length = len(one.tokens) + 1
        own_labels, own_weights = made.labels[start : start + length], made.weights[start : start + length]
        assert own_labels.tolist() == [*one.tokens, EOS_ID]
        expected = [rewards[0][i] - rewards[1][i]] * length
        if one.cut_off:
            expected[-1] = 0.0
        np.testing.assert_allclose(own_weights.numpy(), expected, rtol=1e-5, atol=1e-6)
        start += length
    assert any(one.cut_off for one in samples) == (longest == 2)
    assert made.weights.abs().max() > 0 or longest == 2  # nothing in two words is worth a reward


def test_what_is_learnt_from_a_sample_is_what_it_was_drawn_from(data, trained):
    """Or else negative rewards, which most samples get, would drive the two apart without end."""
    rewrite, plan = self_critical(data, trained)
    batch = plan.collate(reverse_source=True)
    made = rewrite(batch, plan, 5)
    assert rewrite.model.training and rewrite.model.config.dropout
    samples, _ = rewrite._decode(batch, 5)
    assert not any(one.cut_off for one in samples)
    rewrite.model.train()
    learnt = rewrite.model(replace(made, weights=torch.ones_like(made.weights)))
    drawn = sum(one.log_prob for one in samples)
    # a little more likely: search draws from these log-probabilities without those of padding and start
    assert drawn < -learnt.nll.item() == pytest.approx(drawn, rel=0.05)


def test_no_unknown_word_is_rewarded():
    metric = CiderD([[reference([UNK_ID, 7, 8])], [reference([9])]])
    right, unknown = metric.scores([[6, 7, 8, EOS_ID], [UNK_ID, 7, 8, EOS_ID]], [[reference([UNK_ID, 7, 8])]] * 2)
    assert right == unknown > 0


def test_self_critical_training_starts_from_a_model(data, trained, tmp_path):
    with pytest.raises(ValueError, match=r"stage\.self_critical needs a trained model"):
        StageConfig(self_critical=True)
    stage = StageConfig(start=str(trained), self_critical=True)
    with pytest.raises(UserError, match=r"set training\.sampled_softmax to 0"):
        train_captions(data, tmp_path / "sampled", stage=stage, sampled_softmax=3, label_smoothing=0.0)
    result = train_captions(data, tmp_path / "run", stage=stage, max_updates=2, label_smoothing=0.0)
    before, after = own(trained), own(result.model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    perplexities = [record["perplexity"] for record in records if record["kind"] == "train"]
    assert all(1 < one < len(load_model(trained, image_encoder=encoder_of).target) for one in perplexities)
    plain = train_captions(data, tmp_path / "plain", stage=StageConfig(start=str(trained)), max_updates=2)
    assert any(not torch.equal(after[name], value) for name, value in own(plain.model).items())


def test_a_second_training_wants_the_data_of_the_first(trained, tmp_path):
    other = write_prepared_captions(tmp_path, train=12)
    with pytest.raises(UserError, match="its vocabulary is not that of"):
        train_captions(other, tmp_path / "run", stage=StageConfig(start=str(trained)))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model": replace(MODEL, dropout=0.5)}, r"model\.dropout was 0\.2 and is 0\.5"),
        ({"image": replace(IMAGE, every_step=True)}, r"image\.every_step was False and is True"),
    ],
)
def test_a_second_training_refuses_another_model(data, trained, tmp_path, changed, named):
    with pytest.raises(UserError, match=f"{named}: a second stage keeps the settings"):
        train_captions(data, tmp_path / "run", stage=StageConfig(start=str(trained)), **changed)


def test_a_metric_of_another_task_is_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"training\.metric is bleu, but this task has only perplexity, cider, bleu4"):
        train_captions(data, tmp_path / "run", metric="bleu", max_updates=1)


def test_feature_columns_read_the_view_that_is_asked_for():
    array = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    column = FeatureColumn(array, np.array([1, 0]), np.array([2, 1]))
    batch = column.collate(np.array([1, 0]), reverse=True)
    assert batch.values.tolist() == [array[0, 1].tolist(), array[1, 2].tolist()]
    assert batch.values.dtype == torch.float32 and batch.lengths.tolist() == [1, 1]

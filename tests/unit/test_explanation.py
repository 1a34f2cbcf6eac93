"""What a model attended to and could have written: against search, and where it is known what must be read."""

import math
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gallery import Page as Html
from tiny import seeded

from data.batching import make_batch
from data.length_ratio import LengthRatio
from data.source import Ragged
from data.tokenizer import Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel
from nmt.config import ModelConfig
from nmt.explanation import ALTERNATIVES, Candidate, Explanation, Step, explain
from nmt.explanation_page import MOST, ExplanationPage, add_translations, steps_table
from nmt.model import text_model
from nmt.search import Hypothesis
from nmt.search_options import SearchOptions
from nmt.translator import Translator

TEXT = "the cats sleep . the dog sleeps ! a house and a dog sees cats"
LEVELS = ["word", "char", "bpe", "unigram"]


def tokenizer(level="word") -> Tokenizer:
    counts = Counter(dict.fromkeys(TEXT.split(), 9))
    return Tokenizer.train(counts, TokenizerConfig(level=level, vocab_size=40, min_count=1))


def translator(*attentions, level="word", longest=12, **config) -> Translator:
    """An ensemble of untrained models with distributions that have clear winners."""
    words, models = tokenizer(level), []
    for seed, attention in enumerate(attentions):
        settings = ModelConfig(hidden=8, embedding=8, attention=attention, **config)
        model = seeded(lambda settings=settings: text_model(settings, len(words), len(words)), seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4)
        models.append(TrainedModel(model, words, words, LengthRatio(0.5, 1.0, 1.5), longest, {}))
    return Translator(models)


TOKENIZERS = {level: tokenizer(level) for level in LEVELS}


@pytest.mark.parametrize("level", LEVELS)
@given(text=st.one_of(st.text(), st.text("abcdehst .é日", max_size=30)))
@settings(max_examples=25)
def test_every_token_has_what_stands_for_it_in_the_text(level, text):
    words = TOKENIZERS[level]
    segmented = words.segment(text)
    surface, ids = words.surface(segmented), words.encode_segmented([segmented])[0]
    assert len(surface) == len(ids)
    joined = " ".join(surface) if level == "word" else "".join(surface).replace("␣", " ").strip()
    assert joined.split() == segmented.replace("␣", " ").split()


@pytest.mark.parametrize("attentions", [("none",), ("general",), ("dot", "additive"), ("none", "general")])
@pytest.mark.parametrize("options", [SearchOptions(beam=3, n_best=2), SearchOptions(sample=True, n_best=2)])
def test_the_probabilities_are_those_of_search(attentions, options):
    made = translator(*attentions)
    for prefix in ("", "a house"):
        texts = ["the dog sleeps .", "a zebra sees cats", "the"]
        for one in made.translate(texts, options, prefixes=[prefix] * 3):
            [found] = made.explain(one)
            best = one.hypotheses[0]
            assert [step.written.token for step in found.steps] == [
                token.removeprefix("▁") for token in [*best.tokens, *["</s>"] * best.parts[0].finished]
            ]
            total = sum(math.log(step.written.probability) for step in found.steps)
            assert total == pytest.approx(best.log_prob, abs=1e-3)
            assert found.source == one.source.split()
            for step in found.steps:
                probabilities = [each.probability for each in step.likeliest]
                assert len(probabilities) == ALTERNATIVES and probabilities == sorted(probabilities, reverse=True)
                assert step.written in step.likeliest or step.written.probability <= probabilities[-1]
            assert (found.weights is None) is (set(attentions) == {"none"})
            if found.weights is not None:
                assert found.weights.shape == (len(found.steps), len(found.source))
                np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)


def test_an_ensemble_reads_as_its_models_do_on_average():
    texts = ["the dog sleeps .", "a house"]
    alone, both = translator("dot"), translator("dot", "general")
    for one in alone.translate(texts):
        weights = [
            explain([model], Ragged.of([tokenizer().encode(one.source)]), one.hypotheses[0].parts, tokenizer())[
                0
            ].weights
            for model in both._models
        ]
        np.testing.assert_allclose(both.explain(one)[0].weights, np.mean(weights, 0), atol=1e-6)
        assert not np.allclose(*weights)


def test_what_ends_at_the_length_limit_has_no_end_and_nothing_is_a_step_of_its_own():
    made = translator("dot")
    words = tokenizer()
    hypotheses = [Hypothesis(words.encode("a dog"), -1.0, -1.0, False), Hypothesis([], -1.0, -1.0, True)]
    cut, empty = explain(made._models, Ragged.of([[5, 6], [5]]), hypotheses, words)
    assert [step.written.token for step in cut.steps] == ["a", "dog"] and cut.weights.shape == (2, 2)
    assert [step.written.token for step in empty.steps] == ["</s>"]


def test_a_long_text_is_explained_piece_by_piece():
    made = translator("dot", longest=4)
    [one, blank] = made.translate(["the dog sleeps . a house and a dog !", " "])
    found = made.explain(one)
    assert one.pieces == len(found) == 3
    assert [each.source for each in found][:2] == [["the", "dog", "sleeps", "."], ["a", "house", "and", "a"]]
    total = sum(math.log(step.written.probability) for each in found for step in each.steps)
    assert total == pytest.approx(one.hypotheses[0].log_prob, abs=1e-3)
    assert made.explain(blank) == []


@pytest.mark.parametrize("reverse_source", [True, False])
def test_the_map_shows_what_was_copied_where_it_was_typed(reverse_source):
    """Trained to write the source backwards, a model must look at the last word first, whatever way it reads."""
    names = [f"w{i}" for i in range(16)]
    words = Tokenizer.train(Counter(dict.fromkeys(names, 9)), TokenizerConfig())
    ids = [words.encode(name)[0] for name in names]
    draw = random.Random(1)
    config = ModelConfig(
        hidden=48, embedding=32, dropout=0.0, attention="general", bidirectional=True, reverse_source=reverse_source
    )
    model = seeded(lambda: text_model(config, len(words), len(words)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        rows = [draw.sample(ids, draw.randint(3, 7)) for _ in range(32)]
        turned = Ragged.of([row[::-1] for row in rows])
        every = np.arange(len(rows))
        batch = make_batch(Ragged.of(rows).collate(every, reverse=reverse_source), turned, every)
        loss = model(batch).smoothed / len(batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = Translator([TrainedModel(model, words, words, LengthRatio(1.0, 1.0, 1.0), 7, {})])
    texts = [" ".join(draw.sample(names, draw.randint(3, 7))) for _ in range(50)]
    right, steps, where = 0, 0, set()
    for one in made.translate(texts, SearchOptions(beam=1)):
        [found] = made.explain(one)
        np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
        for row, step in islice(zip(found.weights, found.steps, strict=True), len(found.source)):
            steps += 1
            where.add(int(row.argmax()))
            right += found.source[row.argmax()] == step.written.token
    assert len(where) == 7  # the maps vary
    assert right > 0.9 * steps


# The page


def page(path, *texts, attention="general", **options) -> Html:
    made = translator(attention)
    with ExplanationPage(path, note="RUN/model, beam 5") as page:
        add_translations(page, made, 1, made.translate(texts, SearchOptions(**options)))
    return Html(path.read_text(encoding="utf-8"))


def test_a_page_shows_source_steps_map_and_alternatives(tmp_path):
    found = page(tmp_path / "out.html", "the dog sleeps .", "", n_best=2)
    [one] = translator("general").translate(["the dog sleeps ."], SearchOptions(n_best=2))
    [explained] = translator("general").explain(one)
    assert found.open == [] and not found.all("script") and not found.all("link")
    assert found.texts("h2") == ["line 1", "line 2"] and "(nothing)" in found.texts("p")
    assert [word for word in found.texts("span") if word in explained.source] == explained.source
    cells = [attributes for attributes in found.all("td") if attributes.get("class") == "at"]
    assert len(cells) == explained.weights.size
    shades = [attributes.get("style") for attributes in cells]
    assert shades == [f"--w:{w:.0%}" if w >= 0.005 else None for w in explained.weights.flat]
    for step in explained.steps:
        assert {step.written.token, *(each.token for each in step.likeliest)} <= set(found.texts("bdi"))
    assert one.hypotheses[0].text in found.texts("p") and one.hypotheses[1].text in found.texts("td")
    assert "2 lines" in found.texts("p") and any("RUN/model, beam 5" in text for text in found.texts("p"))


def test_a_model_without_attention_says_so(tmp_path):
    found = page(tmp_path / "out.html", "the dog", attention="none")
    assert any("a model without attention" in text for text in found.texts("p"))
    assert len(found.all("table")) == 1 and not [one for one in found.all("td") if one.get("class") == "at"]


def test_a_page_has_room_for_so_many(tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.explanation_page.MOST", 2)
    found = page(tmp_path / "out.html", "a", "dog", "cats")
    assert found.texts("h2") == ["line 1", "line 2"]
    assert "the first 2 of 3 lines" in found.texts("p")
    assert MOST == 100


ODD = st.one_of(st.text(min_size=1), st.sampled_from(["<script>", '"><b>', "&lt;", "</td>", "a\nb\x00"]))


@given(ODD, ODD, ODD)
@settings(max_examples=30)
def test_any_token_is_text(source, written, other):
    step = Step(Candidate(written, 0.001), [Candidate(other, 0.5), Candidate(written, 0.001)])
    for weights in (None, np.array([[0.25, 0.75]])):
        html = steps_table(Explanation([source, "b"], [step], weights))
        found = Html(html)
        assert found.open == []
        assert {tag for tag, _ in found.tags} <= {
            "div",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "span",
            "bdi",
            "b",
        }
        assert ("p bad" in html) is (written != other)

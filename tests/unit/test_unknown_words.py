"""Unknown words written as what was read for them, and hypotheses put in order by what they left unread."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import seeded

from data.batching import make_batch
from data.config import PrepareConfig
from data.errors import UserError
from data.length_ratio import LengthRatio
from data.source import Ragged
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel
from nmt.config import ModelConfig
from nmt.evaluation import System, evaluate, format_json, render
from nmt.explanation import attention_weights
from nmt.formats import Job, translate_plain
from nmt.model import text_model
from nmt.search_options import SearchOptions
from nmt.streaming import Notes
from nmt.translation_options import TranslationOptions
from nmt.translation_recipe import TranslationRecipe
from nmt.translator import Translator

torch.set_num_threads(1)

NAMES = [f"w{i}" for i in range(8)]
GREEDY = TranslationOptions(beam=1, replace_unknown=True)


def tokenizer(**config) -> Tokenizer:
    counts = Counter(dict.fromkeys([*NAMES, "!"], 9))
    return Tokenizer.train(counts, TokenizerConfig(**{"lowercase": True, "vocab_size": 40, **config}))


def untrained(*attentions: str, words: Tokenizer | None = None, longest: int = 12, **config) -> Translator:
    """An ensemble of models with distributions that have clear winners, which like to write unknown words."""
    words, models = words or tokenizer(), []
    for seed, attention in enumerate(attentions):
        settings = ModelConfig(hidden=8, embedding=8, attention=attention, **config)
        model = seeded(lambda settings=settings: text_model(settings, len(words), len(words)), seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4)
            model.decoder.output.bias[UNK_ID] += 3
        models.append(TrainedModel(model, words, words, LengthRatio(0.5, 1.0, 1.5), longest, {}))
    return Translator(models)


@pytest.fixture(scope="module", params=[True, False], ids=["reversed", "straight"])
def backwards(request) -> TrainedModel:
    """Has learnt to write the source backwards, unknown words as unknown ones."""
    words = tokenizer()
    ids = [UNK_ID, UNK_ID, *(words.encode(name)[0] for name in NAMES)]
    draw = random.Random(1)
    config = ModelConfig(
        hidden=48, embedding=32, dropout=0.0, attention="general", bidirectional=True, reverse_source=request.param
    )
    model = seeded(lambda: text_model(config, len(words), len(words)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(110):
        rows = [draw.choices(ids, k=draw.randint(3, 5)) for _ in range(32)]
        every = np.arange(len(rows))
        source = Ragged.of(rows).collate(every, reverse=request.param)
        batch = make_batch(source, Ragged.of([row[::-1] for row in rows]), every)
        loss = model(batch).smoothed / len(batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return TrainedModel(model, words, words, LengthRatio(1.0, 1.0, 1.0), 5, {})


def strangers(count: int) -> list[str]:
    """Sentences in which about every third word is an unknown one, each another."""
    draw = random.Random(7)
    rows = [draw.choices([*NAMES, "Zebra", "Yak", "Xerus", "Ibis"], k=draw.randint(3, 5)) for _ in range(count)]
    return [" ".join(f"{word}{i}" if word not in NAMES else word for i, word in enumerate(row)) for row in rows]


# The words


def test_the_word_that_is_copied_is_the_one_that_was_read(backwards):
    texts = strangers(60)
    found = Translator([backwards]).translate(texts, GREEDY)
    right = [one.text.split() == text.split()[::-1] for one, text in zip(found, texts, strict=True)]
    assert sum(right) > 0.9 * len(texts)
    assert sum(one.unknown > 1 for one in found) > 10
    assert sum(one.hypotheses[0].replaced for one in found) > 0.9 * sum(one.unknown for one in found)


def test_without_the_option_nothing_is_replaced(backwards):
    texts = strangers(5)
    [barred, allowed] = (
        Translator([backwards]).translate(texts, SearchOptions(beam=1, allow_unknown=allow)) for allow in (False, True)
    )
    assert any("<unk>" in one.text for one in allowed) and not any("<unk>" in one.text for one in barred)
    assert {one.hypotheses[0].replaced for one in [*barred, *allowed]} == {0}


def test_alone_or_in_company_or_in_pieces_it_is_the_same_word(backwards):
    made, texts = Translator([backwards]), strangers(12)
    together = made.translate(texts, GREEDY)
    assert [made.translate([text], GREEDY)[0].text for text in texts] == [one.text for one in together]
    assert [one.text for one in made.translate(texts, GREEDY, batch_tokens=1)] == [one.text for one in together]
    halves = ["w1 Yak w3 Ibis w2", "w4 w5 Xerus"]
    [long] = made.translate([" ".join(halves)], GREEDY)
    parts = made.translate(halves, GREEDY)
    assert long.pieces == 2 and long.text == " ".join(one.text for one in parts)
    assert long.hypotheses[0].replaced == sum(one.hypotheses[0].replaced for one in parts)


def test_of_a_dialogue_the_words_of_its_end_are_copied(backwards):
    made, text = Translator([replace(backwards, config={"data": {"train": {"history": 2}}})]), "w1 Yak Emu w3 Gnu"
    [alone, after] = made.translate([text, f"w5 w5 Owl w5 {text}"], GREEDY)
    assert after.text == alone.text and set(alone.text.split()) - set(NAMES) <= {"Yak", "Emu", "Gnu"}
    assert made._history == 2 and alone.hypotheses[0].replaced


def test_every_hypothesis_has_its_words_and_the_tokens_stay():
    made = untrained("general")
    options = TranslationOptions(beam=4, n_best=4, replace_unknown=True)
    [one, blank] = made.translate(["Xerus w1 Yak w2 !", " "], options)
    assert len(one.hypotheses) == 4 and sum(each.replaced for each in one.hypotheses)
    for each in one.hypotheses:
        assert each.replaced == each.tokens.count("<unk>") == each.parts[0].tokens.count(UNK_ID)
        assert "<unk>" not in each.text
    assert blank.text == "" and blank.hypotheses[0].replaced == 0


def test_copied_words_are_joined_as_others_are():
    words = tokenizer()
    ids = [words.encode("w1")[0], UNK_ID, UNK_ID, words.encode("!")[0]]
    assert words.decode(ids, ["Don", "'t"]) == "w1 Don't!" and words.decode(ids, ["Yak"]) == "w1 Yak <unk>!"
    assert words.decode(ids) == "w1 <unk> <unk>!"


# The weights


@pytest.mark.parametrize("reverse_source", [True, False])
@pytest.mark.parametrize("attentions", [("general",), ("none", "dot", "additive")])
def test_weights_in_batches_are_those_of_the_explanation(attentions, reverse_source):
    made = untrained(*attentions, reverse_source=reverse_source)
    texts = ["w1 w2 Yak w4 w5", "w3", "w6 w7 !", "w1 w1 Xerus w2 w2 w3 w4"]
    found = made.translate(texts, TranslationOptions(beam=3, n_best=2, allow_unknown=True))
    ids = [made._encode([text])[0] for text in texts]
    hypotheses = [[each.parts[0] for each in one.hypotheses] for one in found]
    weights = attention_weights(made._models, ids, hypotheses, batch_tokens=40)
    for one, (best, _) in zip(found, weights, strict=True):
        np.testing.assert_allclose(best, made.explain(one)[0].weights, atol=1e-5)
    assert attention_weights(made._models, ids, [[]] * 4) == [[]] * 4


# What is refused


def test_without_attention_it_is_refused():
    with pytest.raises(UserError, match=r"model 1 has no attention.*replace_unknown.*model.attention general"):
        untrained("none").translate(["w1"], TranslationOptions(replace_unknown=True))
    untrained("none", "dot").translate(["w1"], TranslationOptions(replace_unknown=True))


@pytest.mark.parametrize("level", ["char", "bpe", "unigram"])
def test_without_words_there_are_no_unknown_words_to_replace(level):
    made = untrained("general", words=tokenizer(level=level))
    with pytest.raises(UserError, match=f"vocabulary of level {level}, not of words"):
        made.translate(["w1"], TranslationOptions(replace_unknown=True))


def test_a_recipe_is_refused_before_its_training():
    search, attention = TranslationOptions(replace_unknown=True), ModelConfig(attention="dot")
    with pytest.raises(UserError, match="the recipe's model has no attention"):
        TranslationRecipe(search=search)
    subwords = PrepareConfig(target=TokenizerConfig(level="bpe"))
    with pytest.raises(UserError, match="vocabulary of level bpe"):
        TranslationRecipe(search=search, model=attention, prepare=subwords)
    TranslationRecipe(search=search, model=attention)


# What is told


def test_replacements_are_counted_for_translate(backwards):
    texts, told = strangers(30), []
    for options in (GREEDY, SearchOptions(beam=1)):
        notes = Notes(told.append, replaces=options is GREEDY)
        job = Job(Translator([backwards]), options)
        "".join(translate_plain(job, [[text.encode() for text in texts]], notes))
        notes.finish()
    [line] = [line for line in told if "replaced" in line]
    found = Translator([backwards]).translate(texts, GREEDY)
    counts = [one.hypotheses[0].replaced for one in found]
    assert f"source: {sum(counts)}, in the translations of {sum(map(bool, counts))} lines" in line


def test_replacements_are_counted_for_evaluations(backwards, capsys):
    from rich.console import Console

    texts = strangers(30)
    system = System(Translator([backwards]), True, 0.3, None)
    references = [" ".join(text.split()[::-1]) for text in texts]
    output = system.translate(texts, GREEDY)
    found = evaluate(output, texts, [references])
    assert found.exact > 90 and found.scores["bleu"].score > 90
    count = output.decoding.replaced_unknown
    assert count > 20 and f'"replaced_unknown": {count}' in format_json(found, {})
    Console(width=200).print(render(found))
    assert f"({count} of them replaced by words of the source)" in capsys.readouterr().out
    plain = system.translate(texts, SearchOptions(beam=1))
    assert plain.decoding.replaced_unknown is None
    assert evaluate(plain, texts, [references]).scores["bleu"].score < found.scores["bleu"].score - 20

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_translator import GREEDY, LONGEST, WORDS, make_model, make_tokenizer, random_sentences

from data.errors import UserError
from data.tokenizer import UNK_ID
from nmt.checkpoint import save_model
from nmt.search_options import SearchOptions
from nmt.streaming import Notes
from nmt.translator import Translator, cut

torch.set_num_threads(1)

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator([make_model()])


# What the Python interface returns


def test_loads_from_a_directory_and_translates(tmp_path, translator):
    save_model(tmp_path, make_model(), {})
    sentences = random_sentences(10)
    for path in (tmp_path, str(tmp_path), [tmp_path]):
        assert Translator.load(path).translate(sentences) == translator.translate(sentences)


def test_results_are_in_order_and_do_not_depend_on_their_company(translator):
    sentences = random_sentences(40)
    together = translator.translate(sentences)
    for sentence, result in zip(sentences, together, strict=True):
        (alone,) = translator.translate([sentence])
        assert result.source == sentence
        assert result.text == result.hypotheses[0].text == alone.text
        assert result.hypotheses[0].score == pytest.approx(alone.hypotheses[0].score, abs=1e-4)


def test_a_hypothesis_tells_its_tokens_and_scores(translator):
    (result,) = translator.translate(["a dog sleeps ."], SearchOptions(beam=4, n_best=3, length_penalty=0.5))
    assert (result.tokens, result.unknown, result.pieces) == (4, 0, 1)
    assert len(result.hypotheses) == 3
    assert result.hypotheses == sorted(result.hypotheses, key=lambda one: -one.score)
    assert len({tuple(one.tokens) for one in result.hypotheses}) == 3
    for one in result.hypotheses:
        assert all(token.startswith("\u2581") for token in one.tokens)
        length = len(one.tokens) + all(part.finished for part in one.parts)
        assert one.score == pytest.approx(one.log_prob / length**0.5, abs=1e-4)


@pytest.mark.parametrize("blank", ["", " ", "\t\v\f", "\x00\x1b", "\u2028\u3000\xa0", "\r"])
def test_blank_text_is_not_given_to_the_model(translator, blank, monkeypatch):
    monkeypatch.setattr(translator._steppers[0], "start", None)
    (result,) = translator.translate([blank], SearchOptions(beam=3, n_best=3), prefixes=["the"])
    assert (result.source, result.text, result.tokens, result.pieces) == (blank, "", 0, 0)
    (only,) = result.hypotheses
    assert (only.text, only.tokens, only.log_prob, only.score, only.finished) == ("", [], 0.0, 0.0, True)


def test_nothing_to_translate(translator):
    assert translator.translate([]) == []


def test_one_string_for_a_list_is_refused(translator):
    with pytest.raises(TypeError, match="list of strings"):
        translator.translate("a dog")


def test_unknown_tokens_are_counted(translator):
    (result,) = translator.translate(["a zebra sees xylophones"])
    assert (result.tokens, result.unknown) == (4, 2)


@FEW
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60), max_size=8))
def test_any_text_gives_one_line(translator, texts):
    results = translator.translate(texts, SearchOptions(beam=2, n_best=2))
    assert [one.source for one in results] == texts
    for one in results:
        assert all(hypothesis.text == " ".join(hypothesis.text.split()) for hypothesis in one.hypotheses)


def test_halves_of_surrogate_pairs_are_replaced(translator):
    halves, replaced, whole = translator.translate(["a \ud800 dog", "a \ufffd dog", "a \ud83d\ude00 dog"])
    assert halves.text == replaced.text
    assert whole.unknown == 1


# Long texts


@pytest.mark.parametrize("level", ["word", "char", "bpe", "unigram"])
def test_pieces_join_to_the_whole_and_are_short_enough(level):
    tokenizer = make_tokenizer(level=level, vocab_size=40)
    for sentence in random_sentences(20, 60):
        ids = tokenizer.encode(sentence)
        for most in (1, 3, 10, 1000):
            pieces = cut(ids, tokenizer, most)
            assert list(itertools.chain(*pieces)) == ids
            assert all(0 < len(piece) <= most for piece in pieces)
    assert cut([], tokenizer, 3) == []


@pytest.mark.parametrize(
    "text, most, expected",
    [
        ("a dog runs . the cat sleeps in the house", 6, ["a dog runs .", "the cat sleeps in the house"]),
        ("a dog . a cat ! the house and a", 7, ["a dog . a cat !", "the house and a"]),
        ("a dog runs in the house", 4, ["a dog runs in", "the house"]),
        ("a , dog , runs", 3, ["a , dog", ", runs"]),
    ],
)
def test_cuts_after_a_sentence_where_there_is_one(text, most, expected):
    tokenizer = make_tokenizer()
    pieces = cut(tokenizer.encode(text), tokenizer, most)
    assert [" ".join(token.lstrip("\u2581") for token in tokenizer.tokens(piece)) for piece in pieces] == expected


def test_cuts_between_words_and_at_full_width_stops():
    tokenizer = make_tokenizer(["日本", "語。", "犬。", "ab", "ba", "3.5", "1.2"], level="char", min_count=1)
    as_text = lambda text, most: [tokenizer.decode(piece) for piece in cut(tokenizer.encode(text), tokenizer, most)]  # noqa: E731
    assert as_text("日本語。犬日本日本", 6) == ["日本語。", "犬日本日本"]
    assert as_text("ab ab ab", 5) == ["ab", "ab", "ab"]
    assert as_text("ab ab 3.5", 9) == ["ab ab", "3.5"], "a point inside a number ends no sentence"


def test_a_long_text_is_translated_in_pieces(translator):
    parts = [" ".join(["dog"] * 9 + ["."]), " ".join(["cat"] * 10 + ["!"]), "the house"]
    options = SearchOptions(beam=4, n_best=3)
    (whole,) = translator.translate([" ".join(parts)], options)
    apart = translator.translate(parts, options)
    assert (whole.pieces, whole.tokens) == (3, 23)
    assert len(whole.hypotheses) == 3
    for i, one in enumerate(whole.hypotheses):
        same = [part.hypotheses[i] for part in apart]
        assert one.text == " ".join(part.text for part in same)
        assert one.tokens == [token for part in same for token in part.tokens]
        assert one.score == pytest.approx(sum(part.score for part in same), abs=1e-3)
        assert one.log_prob == pytest.approx(sum(part.log_prob for part in same), abs=1e-3)
        assert one.finished == all(part.finished for part in same)


def test_a_long_text_begins_with_its_prefix_once(translator):
    (result,) = translator.translate(["dog " * 30], prefixes=["cat and cat"])
    assert result.pieces == 3
    assert result.text.startswith("cat and cat")
    assert result.hypotheses[0].tokens[:3] == ["\u2581cat", "\u2581and", "\u2581cat"]


# Options of the Python interface


def test_prefixes_are_obeyed_line_by_line(translator):
    sentences = random_sentences(4)
    results = translator.translate(sentences, prefixes=["the house", "", "dog", ""])
    free = translator.translate(sentences)
    assert results[0].text.startswith("the house")
    assert results[2].text.startswith("dog")
    assert [results[1].text, results[3].text] == [free[1].text, free[3].text]


def test_a_prefix_that_cannot_be_written_is_refused(translator):
    with pytest.raises(UserError, match="'zebra' is not in the model's target vocabulary"):
        translator.translate(["a dog"], prefixes=["the zebra"])
    with pytest.raises(ValueError, match="1 prefixes for 2 texts"):
        translator.translate(["a", "dog"], prefixes=["the"])


def test_samples_depend_on_seed_and_line_only(translator):
    sentences = random_sentences(12)
    options = SearchOptions(sample=True, seed=7)
    texts = [one.text for one in translator.translate(sentences, options)]
    assert texts == [one.text for one in translator.translate(sentences, options, batch_tokens=1)]
    later = translator.translate(sentences[5:], options, first_line=5)
    assert texts[5:] == [one.text for one in later]
    assert texts != [one.text for one in translator.translate(sentences, replace(options, seed=8))]


def test_pieces_and_repeated_lines_are_sampled_apart(translator):
    options = SearchOptions(sample=True, temperature=3.0)
    one, two = translator.translate([" ".join(["dog"] * 24)] * 2, options)
    assert one.text != two.text
    assert one.pieces == 2
    (first, second) = translator.translate([" ".join(["dog"] * 12)] * 2, options)
    assert one.text.startswith(first.text)
    assert one.text != f"{first.text} {first.text}" != f"{first.text} {second.text}"


# Ensembles


def test_an_ensemble_of_equals_is_as_one(translator):
    sentences = random_sentences(10)
    both = Translator([make_model(), make_model()]).translate(sentences)
    assert [one.text for one in both] == [one.text for one in translator.translate(sentences)]


def test_an_ensemble_listens_to_all_its_models(translator):
    sentences = random_sentences(10)
    texts = [[one.text for one in t.translate(sentences)] for t in (translator, Translator([make_model(2)]))]
    both = [one.text for one in Translator([make_model(), make_model(2)]).translate(sentences)]
    assert both not in texts
    assert both == [one.text for one in Translator([make_model(2), make_model()]).translate(sentences)]


@pytest.mark.parametrize(
    "other, what",
    [
        ({"tokenizer": make_tokenizer([*WORDS[1:], "zebra"])}, "source vocabularies differ"),
        ({"reverse_source": False}, "backwards"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(tmp_path, other, what):
    for name, model in (("one", make_model()), ("two", make_model(**other))):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model, {})
    with pytest.raises(UserError, match=f"one and .*two cannot be used together: .*{what}"):
        Translator.load([tmp_path / "one", tmp_path / "two"])


def test_differing_target_vocabularies_are_refused():
    other = replace(make_model(), target=make_tokenizer([*WORDS[1:], "zebra"]))
    with pytest.raises(UserError, match=r"model 1 and model 2 .*target vocabularies differ"):
        Translator([make_model(), other])


def test_unknown_is_written_only_where_allowed():
    model = make_model()
    with torch.no_grad():
        model.model.decoder.output.bias[UNK_ID] += 30
    allowed = Translator([model]).translate(["a dog"], SearchOptions(beam=1, allow_unknown=True))
    assert "<unk>" in allowed[0].text
    assert "<unk>" not in Translator([model]).translate(["a dog"], GREEDY)[0].text


@pytest.mark.parametrize("history", [0, 2])
def test_what_learnt_from_truncated_text_truncates_what_it_is_given(history: int) -> None:
    """A text loses its end, a dialogue its beginning; nothing is translated in pieces."""
    model = make_model()
    long = " ".join(WORDS[i % 10] for i in range(3 * LONGEST + 5))
    kept = " ".join(long.split()[-LONGEST:] if history else long.split()[:LONGEST])
    settings = {"data": {"overlong": "truncate", "train": {"history": history}}}
    expected, cut_up = (one.text for one in Translator([model]).translate([kept, long]))
    (found, blank) = Translator([replace(model, config=settings)]).translate([long, " "])
    assert (found.text, found.pieces, found.tokens) == (expected, 1, 3 * LONGEST + 5)
    assert cut_up != found.text
    assert (blank.text, blank.pieces) == ("", 0)
    told: list[str] = []
    Notes(told.append).count(1, [found], LONGEST)
    assert told == ["line 1: 41 tokens, longer than any sentence in training (12): truncated as in training"]

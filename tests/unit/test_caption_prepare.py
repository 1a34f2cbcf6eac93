import json
import shutil

import pytest
from tiny_captions import caption_config, silent, write_prepared_captions, write_scenes

from captioning.corpus import read_split
from captioning.features import FeatureStore
from captioning.prepare import prepare_captioning, render
from data.captions import CaptionSplit
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_prepared_captions(tmp_path_factory.mktemp("captions"))


def test_every_caption_stands_beside_the_row_of_its_image(prepared):
    store, images = FeatureStore.open(prepared / "features"), read_split(prepared, "train")
    assert len(images) == 24
    assert [store.names[one.row] for one in images] == [one.name for one in images]
    tokenizer, (pool,) = (
        Tokenizer.load(prepared / "text" / "target.model"),
        PreparedCorpus(prepared / "text" / "train").in_order(),
    )
    rows = pool.source.values.tolist()
    assert rows == [one.row for one in images for _ in one.captions]
    written = [tokenizer.decode(ids.tolist()) for ids in (pool.target.values[a : a + n] for a, n in zip(
        pool.target.offsets, pool.target.lengths, strict=True))]  # fmt: skip
    assert written == [caption.lower() for one in images for caption in one.captions]


def test_the_report_counts_what_was_kept(prepared):
    report = json.loads((prepared / "text" / "report.json").read_text())
    assert [(name, one["images"], one["captions"]) for name, one in report["splits"].items()] == [
        ("train", 24, 48), ("valid", 6, 12), ("test", 6, 12),
    ]  # fmt: skip
    assert report["splits"]["train"]["text"]["unknown"] == 0
    assert report["length_ratio"]["low"] > 4


def test_broken_missing_and_repeated_images_are_left_out_by_name(tmp_path):
    corpus = write_scenes(tmp_path / "corpus")
    train = (corpus / "train.txt").read_text().split()
    valid = (corpus / "valid.txt").read_text().split()
    (corpus / "images" / train[0]).write_bytes(b"no image")
    (corpus / "images" / train[1]).unlink()
    shutil.copy(corpus / "images" / valid[0], corpus / "images" / train[2])
    shutil.copy(corpus / "images" / train[4], corpus / "images" / train[3])
    report = prepare_captioning(caption_config(), tmp_path / "data", silent(), base=corpus)
    found = report.splits["train"]
    assert found.left_out.keys() == set(train[:3])
    assert found.left_out[train[2]] == f"the same image stands in valid as {valid[0]}"
    assert (found.images, found.captions, found.repeated) == (21, 42, 1)
    console = silent()
    console.print(render(report))
    assert all(name in console.file.getvalue() for name in train[:3])
    assert {one.name for one in read_split(tmp_path / "data", "train")} == set(train[3:])


def test_overlong_captions_are_dropped_or_truncated_as_asked(tmp_path):
    corpus = write_scenes(tmp_path / "corpus")
    dropped = prepare_captioning(caption_config(max_length=9), tmp_path / "one", silent(), base=corpus).splits["train"]
    cut = prepare_captioning(
        caption_config(max_length=9, overlong="truncate"), tmp_path / "two", silent(), base=corpus
    ).splits["train"]
    assert dropped.dropped["overlong"] == cut.truncated > 0
    assert dropped.captions == 48 - cut.truncated
    assert cut.captions == 48


def test_features_are_kept_when_the_text_is_prepared_again(tmp_path):
    corpus = write_scenes(tmp_path / "corpus")
    prepare_captioning(caption_config(), tmp_path / "data", silent(), base=corpus)
    before = (tmp_path / "data" / "features" / "features.npy").stat()
    with pytest.raises(UserError, match="is prepared already"):
        prepare_captioning(caption_config(), tmp_path / "data", silent(), base=corpus)
    prepare_captioning(caption_config(max_length=9), tmp_path / "data", silent(), base=corpus, overwrite=True)
    after = (tmp_path / "data" / "features" / "features.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_split_that_is_needed_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"no images for valid: give --valid\.captions"):
        prepare_captioning(
            caption_config(valid=CaptionSplit()), tmp_path / "data", silent(), base=write_scenes(tmp_path / "corpus")
        )

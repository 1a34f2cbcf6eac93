"""Readers of captioned images: the layouts, what is missing, and errors that name file, line and fix."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.caption_files import CaptionFields, read_entries
from data.captions import CaptionedImages, CaptionSplit, read_captioned_images
from data.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
# the same five images in every layout: a space in a name, commas, quotes, tabs and odd line ends in captions
CAPTIONS = {
    "dog 1.jpg": ["a dog , running", "ein Hund läuft"],
    "b.jpg": ['"quoted", she said', "a\u2028b\u0085c"],
    "c.jpg": ["tab\there"],
    "sub/d.png": ["a", "b", "c"],
    "a#b.jpg": ["sharp"],
}
NAME = st.text(st.characters(exclude_characters="\n\r\t", exclude_categories=["Cs"])).filter(str.strip)
CAPTION = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))


def write(path: Path, content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path.name


def touch(base: Path, *names: str) -> None:
    for name in names:
        (base / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "images" / name).write_bytes(b"never opened")


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


def read(base: Path, content: object, name: str = "captions", **options: str) -> CaptionedImages:
    (base / "images").mkdir(exist_ok=True)
    split = CaptionSplit(images="images", captions=write(base / name, content), **options)
    return read_captioned_images(split, base)


def failure(base: Path, content: object, **options: str) -> str:
    with pytest.raises(UserError) as caught:
        read(base, content, **options)
    return str(caught.value)


def pairs(found: CaptionedImages) -> dict[str, list[str]]:
    return {image.name: list(image.captions) for image in found.images}


def token_file(captions: dict[str, list[str]], newline: str = "\n") -> str:
    return "".join(f"{name}#{n}\t{text}{newline}" for name, texts in captions.items() for n, text in enumerate(texts))


def table(captions: dict[str, list[str]], header: str = "image,caption", delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerows([name, text] for name, texts in captions.items() for text in texts)
    return f"{header}\n{buffer.getvalue()}"


def coco(captions: dict[str, list[str]]) -> dict[str, Any]:
    images = [{"id": n, "file_name": name} for n, name in enumerate(captions)]
    notes = [{"image_id": n, "caption": text} for n, texts in enumerate(captions.values()) for text in texts]
    return {"info": {}, "images": images, "annotations": notes}


def karpathy(captions: dict[str, list[str]], splits: str = "train") -> dict[str, Any]:
    names = zip(captions, splits.split() * len(captions), strict=False)
    images = [
        {"filename": name, "split": split, "sentences": [{"tokens": [], "raw": text} for text in captions[name]]}
        for name, split in names
    ]
    return {"dataset": "flickr8k", "images": images}


def records(captions: dict[str, list[str]]) -> list[dict[str, object]]:
    return [{"image": name, "captions": texts} for name, texts in captions.items()]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


LAYOUTS: dict[str, object] = {
    "token": token_file(CAPTIONS),
    "token, CR LF, BOM, blank lines": "\ufeff" + token_file(CAPTIONS, "\r\n") + "\r\n\n",
    "table": table(CAPTIONS),
    "table, quoted header": table(CAPTIONS, '"Image","Caption"'),
    "table, pipes": table(CAPTIONS, "image_name| comment", "|"),
    "table, tabs": table(CAPTIONS, "file_name\ttext", "\t"),
    "table, CR LF": table(CAPTIONS).replace("\n", "\r\n"),
    "karpathy": karpathy(CAPTIONS),
    "coco": coco(CAPTIONS),
    "coco, indented": json.dumps(coco(CAPTIONS), indent=2),
    "jsonl": lines(records(CAPTIONS)),
    "jsonl, caption": lines([{"image": n, "caption": text} for n, texts in CAPTIONS.items() for text in texts]),
    "json array": records(CAPTIONS),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("file", ["captions.txt", "x.json.gz"])
def test_every_layout_is_told_from_its_content(tmp_path: Path, layout: str, file: str) -> None:
    touch(tmp_path, *CAPTIONS)
    found = read(tmp_path, LAYOUTS[layout], file)
    assert pairs(found) == CAPTIONS
    assert [image.path for image in found.images] == [tmp_path / "images" / name for name in CAPTIONS]
    assert (found.missing, found.blank) == ({}, 0)


@settings(max_examples=50)
@given(captions=st.dictionaries(NAME, st.lists(CAPTION, min_size=1, max_size=3), max_size=4))
def test_any_names_and_captions_come_back(
    tmp_path_factory: pytest.TempPathFactory, captions: dict[str, list[str]]
) -> None:
    captions = {"there.jpg": ["first"]} | captions
    path = tmp_path_factory.mktemp("captions") / "captions"
    for content in (token_file(captions), table(captions), coco(captions), karpathy(captions), records(captions)):
        write(path, content)
        found: dict[str, list[str]] = {}
        for entry in read_entries(path, CaptionFields()):
            found.setdefault(entry.name, []).extend(entry.captions)
        assert found == captions


def test_list_chooses_orders_and_names_what_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, *CAPTIONS)
    (tmp_path / "images" / "c.jpg").unlink()
    names = write(tmp_path / "list.txt", "sub/d.png\r\nc.jpg\nno such.jpg\n\ndog 1.jpg \nsub/d.png\n")
    found = read(tmp_path, token_file(CAPTIONS), list=names)
    assert list(pairs(found)) == ["sub/d.png", "dog 1.jpg"]
    assert found.missing.keys() == {"c.jpg", "no such.jpg"}
    assert str(tmp_path / "images" / "c.jpg") in found.missing["c.jpg"]
    assert found.missing["no such.jpg"] == f"no caption in {tmp_path / 'captions'}"


def test_list_of_other_images(tmp_path: Path) -> None:
    touch(tmp_path, *CAPTIONS)
    message = failure(tmp_path, token_file(CAPTIONS), list=write(tmp_path / "list.txt", "dog 1\nb\n"))
    assert "list.txt: not one of its 2 names has a caption: 'dog 1', 'b'" in message
    assert "named like 'dog 1.jpg'" in message


def test_missing_files_are_reported(tmp_path: Path) -> None:
    names = ["here.jpg", "x" * 5000, "folder", "../gone.jpg", "here.jpg/in a file"]
    touch(tmp_path, "here.jpg", "folder/a.jpg")
    found = read(tmp_path, table({name: ["text"] for name in names}))
    assert list(pairs(found)) == ["here.jpg"]
    assert list(found.missing) == names[1:]
    assert "not a file" in found.missing["folder"]


def test_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    message = failure(tmp_path, token_file(CAPTIONS))
    assert "not one of 5 images has a caption and a file. 'dog 1.jpg': " in message
    assert f"{tmp_path / 'images' / 'dog 1.jpg'}: No such file" in message


def test_missing_folder_of_images(tmp_path: Path) -> None:
    touch(tmp_path, *CAPTIONS)
    name = write(tmp_path / "captions", token_file(CAPTIONS))
    for folder, words in (("imags", "nearest to it there is 'images'"), ("captions", "not a folder")):
        with pytest.raises(UserError, match=words):
            read_captioned_images(CaptionSplit(images=folder, captions=name), tmp_path)


def test_images_are_looked_up_beside_the_captions_by_default(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    absolute = tmp_path / "elsewhere.jpg"
    absolute.write_bytes(b"")
    content = lines([{"file_name": "a.jpg", "text": "here"}, {"file_name": str(absolute), "text": "there"}])
    write(tmp_path / "images" / "metadata.jsonl", content)
    found = read_captioned_images(CaptionSplit(captions="images/metadata.jsonl"), tmp_path)
    assert [image.path for image in found.images] == [tmp_path / "images" / "a.jpg", absolute]


def test_blank_captions_are_counted_and_a_caption_is_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    found = read(tmp_path, records({"a.jpg": [" two \r\n lines\n", " ", "x"], "b.jpg": ["", "\n"]}))
    assert pairs(found) == {"a.jpg": ["two lines", "x"]}
    assert found.blank == 3
    assert found.missing == {"b.jpg": f"only blank captions in {tmp_path / 'captions'}"}


def test_table_captions_with_line_ends_and_with_unquoted_commas(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    found = read(tmp_path, 'image,caption\na.jpg,"one\r\n\ntwo"\nb.jpg,red , green,blue\n\nb.jpg,lone\rCR\n')
    assert pairs(found) == {"a.jpg": ["one two"], "b.jpg": ["red , green,blue", "lone CR"]}


def test_fields_by_name_and_by_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    content = "n,photo,caption_0,caption_1,caption\n1,a.jpg,x,y,z\n"
    assert pairs(read(tmp_path, content, image_field="photo", caption_field="caption_*")) == {"a.jpg": ["x", "y"]}
    record = {"photo": "a.jpg", "caption": "x", "german": ["y"]}
    assert pairs(read(tmp_path, record, image_field="photo", caption_field="german")) == {"a.jpg": ["y"]}
    # a field that was asked for is never replaced by another
    message = failure(tmp_path, record, image_field="photo", caption_field="germn")
    assert (
        "line 1: no field 'germn'. Did you mean 'german'? There are: photo, caption, german. Set caption_f" in message
    )


def test_karpathy_splits_and_folders(tmp_path: Path) -> None:
    captions = {f"{n}.jpg": [f"text {n}"] for n in range(6)}
    touch(tmp_path, *captions)
    content = karpathy(captions, "train val restval")
    assert list(pairs(read(tmp_path, content, split="train"))) == ["0.jpg", "3.jpg"]
    assert list(pairs(read(tmp_path, content, split="train+restval"))) == ["0.jpg", "2.jpg", "3.jpg", "5.jpg"]
    assert list(pairs(read(tmp_path, content))) == list(captions)
    assert "no split 'vall'. Did you mean 'val'? There are: train, val, restval." in failure(
        tmp_path, content, split="vall"
    )
    for image in content["images"]:
        image["filepath"] = "val2014"
    touch(tmp_path, "val2014/0.jpg")
    found = {image.name: image.path for image in read(tmp_path, content).images}
    assert found["val2014/0.jpg"] == tmp_path / "images" / "val2014" / "0.jpg"
    assert found["val2014/1.jpg"] == tmp_path / "images" / "1.jpg"  # all in one folder


def test_split_column_of_a_table_and_of_jsonl(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    rows = [{"image": "a.jpg", "split": "train", "caption": "x"}, {"image": "b.jpg", "split": "test", "caption": "y"}]
    assert pairs(read(tmp_path, lines(rows), split="test")) == {"b.jpg": ["y"]}
    assert pairs(read(tmp_path, "image,split,caption\na.jpg,train,x\nb.jpg,test,y\n", split="train")) == {
        "a.jpg": ["x"]
    }
    message = failure(tmp_path, token_file(CAPTIONS), split="train")
    assert "captions, line 1: does not say which split" in message


def test_coco_image_without_a_caption(tmp_path: Path) -> None:
    touch(tmp_path, *CAPTIONS)
    found = read(tmp_path, coco(CAPTIONS | {"bare.jpg": []}))
    assert found.missing == {"bare.jpg": f"no caption in {tmp_path / 'captions'}"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["captions: the file is empty"]),
        ("\n\n", ["captions, line 1: cannot tell"]),
        ("\nsome words\nmore", ["captions, line 2: cannot tell", "'some words'", "image,caption"]),
        ("a.jpg,a dog\n", ["line 1: cannot tell", "add a first line"]),
        ("a.jpg#0\tx\n\na.jpg#1 y\n", ["captions, line 3", "'a.jpg#1 y'", "broken in two"]),
        ("a.jpg#0\tx\n#1\ty\n", ["line 2"]),
        ("image,caption\na.jpg,x\na.jpg\n", ["line 3: 1 column(s)", "names 2"]),
        ("caption,image\nx,a.jpg\nx,y,a.jpg\n", ["line 3: 3 column(s)", "quotes"]),
        ('image,caption\na.jpg,x\nb.jpg,"open\na.jpg,x\n', ["line 3: not valid CSV", "quote"]),
        ('image,caption\nb.jpg,"open\na.jpg,"x"\n', ["line 2: not valid CSV"]),
        ('image,caption\nb.jpg,"' + "long\n" * 40_000, ["line 2: not valid CSV"]),
        ("image,caption\n,x\n", ["line 2: the image is ''"]),
        ('{"images": [\n{"id": 1,\n', ["line 2: not valid JSON", "ends too early"]),
        ("[" * 100_000, ["line 1: not valid JSON"]),
        ('{"image": "a.jpg", "captions": ["x"]}\n{"image": \n', ["line 2: not valid JSON"]),
        ('{"image": "a.jpg", "captions": ["x"]}\n\n["a"]\n', ["line 3: not a JSON object"]),
        ('{"image": "a.jpg", "captions": ["x"]}\n{"image": "b.jpg"}', ["line 2: no field 'captions'", "image"]),
        ('{"image": "a.jpg", "captions": ["x", 3]}', ["line 1, field 'captions': a caption is 3"]),
        (r'{"image": "a.jpg", "captions": ["\ud800"]}', ["line 1", "surrogates"]),
        (r'{"image": "\ud800", "captions": ["x"]}', ["line 1", "surrogates"]),
        ('{"image": 7, "captions": ["x"]}', ["line 1: the image is 7"]),
        ('["a", "b"]', ["record 1: not a JSON object"]),
        ({"images": [{"id": 1, "file_name": "a"}]}, ["cannot tell", "annotations"]),
        ({"images": [{"id": 1}], "annotations": []}, ["images[0]: 'file_name' is None, not a str"]),
        ({"images": [7], "annotations": []}, ["images[0]: not a JSON object"]),
        ({"images": [], "annotations": [{"image_id": 5, "caption": "x"}]}, ["annotations[0]: no image has the id 5"]),
        (
            {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": []}]},
            ["annotations[0]: no caption", "captions_*.json"],
        ),
        (
            {"images": [{"filename": "a", "sentences": []}, {"filename": "b"}]},
            ["images[1]: 'sentences' is None, not a list"],
        ),
        ({"images": [{"sentences": []}]}, ["images[0]: 'filename' is None"]),
    ],
)
def test_errors_name_file_place_and_fix(tmp_path: Path, content: object, words: list[str]) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    message = failure(tmp_path, content)
    assert all(word in message for word in ["captions", *words]), message
    assert len(message) < 700


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "captions").write_bytes("a.jpg#0\tx\na.jpg#1\tschön\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"captions, line 2: not valid UTF-8.*iconv"):
        read_captioned_images(CaptionSplit(images="images", captions="captions"), tmp_path)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (CaptionSplit(), "captions='', dataset=''"),
        (CaptionSplit(captions="a", dataset="b"), "captions='a', dataset='b'"),
        (CaptionSplit(dataset="b", list="c"), "list='c' does not go with dataset='b'"),
        (CaptionSplit(captions="none.txt"), "none.txt: no such file"),
        (CaptionSplit(dataset="none/here"), "cannot read it"),
    ],
)
def test_split_that_gives_no_one_place(tmp_path: Path, split: CaptionSplit, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_captioned_images(split, tmp_path)


def test_image_folder_through_datasets(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "train"
    folder.mkdir(parents=True)
    for n in range(3):
        (folder / f"im {n}.png").write_bytes(png(n))
    write(
        folder / "metadata.jsonl", lines([{"file_name": f"im {n}.png", "captions": [f"x{n}", "y"]} for n in range(4)])
    )
    found = read_captioned_images(CaptionSplit(dataset="photos"), tmp_path)
    assert pairs(found) == {f"train/im {n}.png": [f"x{n}", "y"] for n in range(3)}
    assert [image.path for image in found.images] == [folder / f"im {n}.png" for n in range(3)]
    assert list(found.missing) == ["train/im 3.png"]
    with pytest.raises(UserError, match="Check the name"):
        read_captioned_images(CaptionSplit(dataset="photos", split="test"), tmp_path)


@pytest.mark.parametrize("kind", ["file", "folder", "raw", "saved"])
def test_images_inside_a_dataset_are_written_once(tmp_path: Path, kind: str) -> None:
    images: list[Any] = [png(0), b"junk", png(0), png(1)]
    if kind != "raw":
        images = [{"bytes": data, "path": path} for data, path in zip(images, ["a b.png", None] * 2, strict=True)]
    captions = [["x"], ["y", "z"], ["w"], ["v"]]
    (tmp_path / "set").mkdir()
    if kind == "saved":
        schema = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
        datasets.Dataset.from_dict({"image": images, "captions": captions}, schema).save_to_disk(str(tmp_path / "set"))
    else:
        pq.write_table(pa.table({"image": images, "captions": captions}), tmp_path / "set" / "train.parquet")
    split = CaptionSplit(dataset="set/train.parquet" if kind == "file" else "set")
    with pytest.raises(UserError, match="which folder they may be written to"):
        read_captioned_images(split, tmp_path)
    found = read_captioned_images(split, tmp_path, tmp_path / "out")
    # rows of the same image are one image
    assert [image.captions for image in found.images] == [("x", "w"), ("y", "z"), ("v",)]
    assert [image.path.read_bytes() for image in found.images] == [png(0), b"junk", png(1)]
    assert [image.path.name for image in found.images] == [image.name for image in found.images]
    assert found.images[0].name.startswith("" if kind == "raw" else "a b-")
    assert found.images[0].name.endswith(".png")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(before) == 3
    assert read_captioned_images(split, tmp_path, tmp_path / "out") == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_rows_without_an_image_and_captions_in_several_fields(tmp_path: Path) -> None:
    images = [{"bytes": png(), "path": "a.png"}, None]
    columns = {"image": images, "caption_0": ["x", "p"], "caption_1": ["y", "q"], "costly": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    split = CaptionSplit(dataset="a.parquet", caption_field="caption_*")
    found = read_captioned_images(split, tmp_path, tmp_path / "out")
    assert [image.captions for image in found.images] == [("x", "y")]
    assert found.missing == {"dataset 'a.parquet', split 'train', row 2": "no image in the data"}
    for options, words in (
        ({"caption_field": "text"}, "no field 'text'.* Set caption_field"),
        ({"image_field": "costly", "caption_field": "caption_0"}, "row 1: the image is 1"),
    ):
        with pytest.raises(UserError, match=words):
            read_captioned_images(CaptionSplit(dataset="a.parquet", **options), tmp_path, tmp_path / "out")


def test_dataset_that_names_files_and_several_splits(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "set").mkdir()
    for split, name in (("train", "a.jpg"), ("test", "b.jpg")):
        table = pa.table({"image": [name], "sentences": [[{"raw": f"of {name}"}]]})
        pq.write_table(table, tmp_path / "set" / f"{split}.parquet")
    found = read_captioned_images(CaptionSplit(images="images", dataset="set", split="train+test"), tmp_path)
    assert pairs(found) == {"a.jpg": ["of a.jpg"], "b.jpg": ["of b.jpg"]}
    assert found.images[0].path == tmp_path / "images" / "a.jpg"


def test_images_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with zipfile.ZipFile(tmp_path / "set" / "train.zip", "w") as archive:
        archive.writestr("a b.png", png(3))
        archive.writestr("metadata.csv", 'file_name,text\na b.png,"x, y"\n')
    found = read_captioned_images(CaptionSplit(dataset="set"), tmp_path, tmp_path / "out")
    assert [image.captions for image in found.images] == [("x, y",)]
    assert found.images[0].path.read_bytes() == png(3)


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png()], "caption": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(UserError, match="cannot be written"):
        read_captioned_images(CaptionSplit(dataset="a.parquet"), tmp_path, tmp_path / "out")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not beside the repository")
@pytest.mark.parametrize(
    ("captions", "names", "images", "missing"),
    [
        ("flickr8k/captions.txt", "flickr8k/Flickr_8k.devImages.txt", 1000, 0),
        ("flickr8k/captions.de.txt", "flickr8k/Flickr_8k.devImages.txt", 934, 66),
        ("ucm_captions/captions.txt", "ucm_captions/valImages.txt", 210, 0),
    ],
)
def test_real_data(captions: str, names: str, images: int, missing: int) -> None:
    folder = f"{captions.partition('/')[0]}/images"
    found = read_captioned_images(CaptionSplit(images=folder, captions=captions, list=names), SHARED)
    assert (len(found.images), len(found.missing)) == (images, missing)
    assert {len(image.captions) for image in found.images} == {5}

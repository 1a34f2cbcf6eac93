import io
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from rich.console import Console

from captioning import features
from captioning.cnn import load_network
from captioning.encoder import preprocessing_of
from captioning.features import MOST_VIEWS, FeatureStore, extract, view
from captioning.images import open_image
from data.errors import UserError
from nmt import device

IMAGES = 10


@pytest.fixture(scope="module", autouse=True)
def in_float32():
    """What is the same in float32 differs in bfloat16, which tests/unit/test_cnn.py has a test of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "bfloat16_computes", lambda where: False)
        yield


@pytest.fixture(scope="module")
def network():
    made = load_network("efficientnet_lite0")
    made.preprocessing = replace(made.preprocessing, size=64)  # quick
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(IMAGES)]
    for path in paths:
        small = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        small.resize((80, 48), Image.Resampling.BICUBIC).save(path)
    return [(path.name, path) for path in paths]


@pytest.fixture(scope="module")
def whole(images, network, tmp_path_factory) -> FeatureStore:
    return extract(images, network, tmp_path_factory.mktemp("features") / "whole", batch=2)


def failure(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        extract(*arguments, **options)
    return str(caught.value)


def telling() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_features_are_those_of_one_image_at_a_time(images, network, whole):
    assert (len(whole), whole.names, whole.failed) == (IMAGES, [name for name, _ in images], {})
    assert (whole.array.shape, whole.array.dtype) == ((IMAGES, 1, 1280), np.float16)
    assert isinstance(whole.array, np.memmap)
    with torch.no_grad():
        single = np.stack([network(network.preprocessing(open_image(path))[None])[0].numpy() for _, path in images])
    assert np.abs(whole.array[:, 0] - single).max() < 1e-2
    assert np.abs(single[0] - single[1]).max() > 0.1  # and images differ by more


def test_what_the_features_came_from_is_recorded(network, whole):
    assert whole.settings["network"] == "efficientnet_lite0"
    assert whole.settings["weights_sha256"] == network.weights_sha256
    assert preprocessing_of(whole.settings) == network.preprocessing
    assert (whole.settings["kind"], whole.settings["views"]) == ("pooled", 1)


def test_grid(images, network, tmp_path):
    store = extract(images[:3], network, tmp_path, kind="grid", views=2, batch=2)
    assert store.array.shape == (3, 2, 4, 1280)
    with torch.no_grad():
        single = network.grid(network.preprocessing(open_image(images[2][1]))[None])[0]
    assert np.abs(store.array[2, 0] - single.numpy()).max() < 2e-2


def test_views(images, network, whole, tmp_path):
    store = extract(images[:2], network, tmp_path / "a", views=4, batch=2)
    assert store.array.shape == (2, 4, 1280)
    assert np.abs(store.array[:, 0] - whole.array[:2, 0]).max() < 1e-2
    mirrored = ImageOps.mirror(open_image(images[0][1]))
    with torch.no_grad():
        single = network(network.preprocessing(mirrored)[None])[0].numpy()
    assert np.abs(store.array[0, 1] - single).max() < 1e-2
    assert np.array_equal(extract(images[:2], network, tmp_path / "b", views=4, batch=2).array, store.array)
    image = open_image(images[0][1])
    all_views = [np.asarray(view(image, number).resize((64, 64))).tobytes() for number in range(MOST_VIEWS)]
    assert len(set(all_views)) == MOST_VIEWS
    assert view(Image.new("RGB", (1, 1)), 2).size == (1, 1)
    assert "views=0: give 1 to 12" in failure(images, network, tmp_path, views=0)


def test_broken_images_are_rows_of_zeros_with_a_reason(images, network, whole, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    mixed = [("broken", broken), *images[:3], ("missing", tmp_path / "missing.jpg")]
    console = telling()
    store = extract(mixed, network, tmp_path / "features", batch=2, console=console)
    assert store.failed == {"broken": "not an image of a known format", "missing": "no such file"}
    assert not store.array[[0, 4]].any()
    assert np.abs(store.array[1:4] - whole.array[:3]).max() < 1e-2
    assert "2 images could not be read" in console.file.getvalue()
    assert extract([("broken", broken)], network, tmp_path / "none").failed.keys() == {"broken"}


def test_the_size_is_told_before_it_is_written(images, network, tmp_path, monkeypatch):
    console = telling()
    monkeypatch.setattr(features, "_write", lambda *_: pytest.fail(f"told: {console.file.getvalue()}"))
    with pytest.raises(pytest.fail.Exception, match=r"told: features: 10 x 2 x 1,280 .* 0\.1 MB"):
        extract(images, network, tmp_path, views=2, console=console)


def killed(images: list[tuple[str, Path]], network: torch.nn.Module, out: Path, writes: int) -> None:
    """Extract in a process that is killed right after some rows were written, and not yet recorded."""

    def child() -> None:
        write, left = features._write, [writes]

        def last(*arguments) -> None:
            write(*arguments)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        features._write, features._SAVE_SECONDS = last, -1.0
        extract(images, network, out, batch=2)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("writes", [1, 4])
def test_a_killed_extraction_goes_on(images, network, whole, tmp_path, monkeypatch, writes):
    killed(images, network, tmp_path, writes)
    with pytest.raises(UserError, match="stopped before its end"):
        FeatureStore.open(tmp_path)
    opened, console = [], telling()
    monkeypatch.setattr(features, "open_image", lambda path: opened.append(path) or open_image(path))
    store = extract(images, network, tmp_path, batch=2, console=console)
    done = 2 * (writes - 1)
    assert sorted(opened) == sorted(path for _, path in images[done:])
    assert f"going on after {done} of {IMAGES}" in console.file.getvalue()
    assert np.array_equal(store.array, whole.array)
    assert (tmp_path / "features.npy").read_bytes() == (Path(whole.array.filename)).read_bytes()
    assert not (tmp_path / "unfinished.json").exists()


def test_finished_features_are_only_opened(images, network, whole, monkeypatch):
    folder = Path(whole.array.filename).parent
    monkeypatch.setattr(features, "open_image", lambda path: pytest.fail("opened again"))
    (folder / "unfinished.json").write_text("killed between writing one file and deleting the other")
    assert len(FeatureStore.open(folder)) == IMAGES
    assert np.array_equal(extract(images, network, folder).array, whole.array)
    assert not (folder / "unfinished.json").exists()


def test_other_settings_or_images_are_refused(images, network, whole):
    folder = Path(whole.array.filename).parent
    assert "views is 1 there and 2 now" in failure(images, network, folder, views=2)
    assert "kind is pooled there and grid now" in failure(images, network, folder, kind="grid")
    assert "10 there and 9 now" in failure(images[:9], network, folder)
    other = [*images[:4], ("other.png", images[4][1]), *images[5:]]
    assert "the first that differs is '4.png' there and 'other.png' now" in failure(other, network, folder)
    cropped = load_network("efficientnet_lite0", pretrained=False)
    told = failure(images, cropped, folder)
    assert f"weights_sha256 is {network.weights_sha256} there and  now" in told
    assert "'size': 64" in told
    assert "'size': 224" in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_stopped_extraction_refuses_other_settings(images, network, tmp_path):
    killed(images, network, tmp_path, 2)
    assert "views is 1 there and 3 now" in failure(images, network, tmp_path, views=3)
    (tmp_path / "features.npy").write_bytes(b"")
    assert "features.npy is missing or damaged" in failure(images, network, tmp_path)
    (tmp_path / "unfinished.json").write_text("{}")
    assert "no description of features" in failure(images, network, tmp_path)


def test_decoding_overlaps_computing(images, network, tmp_path, monkeypatch):
    opened, ahead = [], []
    compute = features.compute_features
    monkeypatch.setattr(features, "open_image", lambda path: opened.append(path) or open_image(path))

    def watched(*arguments):
        waited = time.monotonic() + 60
        while len(opened) < min(IMAGES, 2 * len(ahead) + 4) and time.monotonic() < waited:
            time.sleep(0.001)
        ahead.append(len(opened))
        return compute(*arguments)

    monkeypatch.setattr(features, "compute_features", watched)
    extract(images, network, tmp_path, batch=2, workers=2)
    # the batch being computed and, opened meanwhile, the next one; never the whole folder
    assert ahead == [4, 6, 8, 10, 10]


def test_disks_that_are_full_or_too_small(images, network, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert "0 MB are free there" in failure(images, network, tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    monkeypatch.undo()

    if Path("/dev/full").exists():
        with monkeypatch.context() as patched:
            patched.setattr(features, "_open_rows", lambda *_: io.FileIO("/dev/full", "r+"))
            assert "No space left on device" in failure(images[:2], network, tmp_path / "c")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failure(images, network, tmp_path / "file" / "features")
    assert "no images" in failure([], network, tmp_path)


def test_damaged_stores(images, network, tmp_path):
    with pytest.raises(UserError, match=r"features\.json: missing or damaged"):
        FeatureStore.open(tmp_path)
    store = extract(images[:2], network, tmp_path)
    data = Path(store.array.filename).read_bytes()
    for wrong in (b"", data[:100], data[:-10]):
        (tmp_path / "features.npy").write_bytes(wrong)
        with pytest.raises(UserError, match=r"features\.npy: missing or damaged"):
            FeatureStore.open(tmp_path)
    np.save(tmp_path / "features.npy", np.zeros((2, 1, 7), dtype=np.float16))
    with pytest.raises(UserError, match=r"of shape \[2, 1, 7\].* says float16 of \[2, 1, 1280\]"):
        FeatureStore.open(tmp_path)

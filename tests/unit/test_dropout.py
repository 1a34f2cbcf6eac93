"""Which activations are dropped together."""

import pytest
import torch

from nmt.config import ModelConfig
from nmt.dropout import Dropout


def dropped(variational: bool, *shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return Dropout(ModelConfig(dropout=0.25, variational_dropout=variational))(torch.ones(shape))


def test_variational_dropout_drops_the_same_at_every_step():
    values = dropped(True, 40, 6, 50)
    assert torch.equal(values, values[:, :1].expand_as(values))
    assert not torch.equal(values[0], values[1])
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (values == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_plain_dropout_drops_anew():
    values = dropped(False, 40, 6, 50)
    assert not torch.equal(values[:, 0], values[:, 1])


def test_one_step_and_a_model_in_use():
    assert (dropped(True, 40, 50) == 0).any()
    torch.manual_seed(1)
    values = torch.randn(3, 4, 5)
    assert torch.equal(Dropout(ModelConfig(variational_dropout=True)).eval()(values), values)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999999])
def test_each_quarter_of_what_is_drawn_at_once_drops_the_same_share(share: float):
    torch.manual_seed(1)
    kept = Dropout(ModelConfig(dropout=share))(torch.ones(1, 40_001)) > 0
    for first in range(4):
        assert kept[0, first::4].float().mean().item() == pytest.approx(1 - share, abs=0.02)

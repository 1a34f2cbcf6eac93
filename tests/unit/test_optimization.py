from dataclasses import replace

import pytest
import torch
from tiny import MODEL, WORDS, random_plan, seeded

from nmt.config import TrainingConfig
from nmt.model import text_model
from nmt.optimization import learning_rate, make_optimizer

ONE = TrainingConfig(learning_rate=0.8, warmup_updates=0, halve_after=5.0)


def rate(config: TrainingConfig, update=0, epochs=0.0, share=0.0, halvings=0) -> float:
    return learning_rate(config, update, epochs, share, halvings)


@pytest.mark.parametrize(
    ("schedule", "warmup", "where", "expected"),
    [
        ("constant", 0, {}, 0.8),
        ("constant", 0, {"update": 10**6, "epochs": 99.0, "share": 1.0, "halvings": 3}, 0.8),
        # warm-up is linear and reaches the full rate at its last update, whatever the schedule
        ("constant", 4, {"update": 0}, 0.2),
        ("constant", 4, {"update": 2}, 0.6),
        ("constant", 4, {"update": 3}, 0.8),
        ("constant", 4, {"update": 4}, 0.8),
        ("inverse_sqrt", 4, {"update": 0}, 0.2),
        ("inverse_sqrt", 4, {"update": 3}, 0.8),
        ("inverse_sqrt", 4, {"update": 15}, 0.4),
        ("inverse_sqrt", 4, {"update": 399}, 0.08),
        ("inverse_sqrt", 0, {"update": 0}, 0.8),
        ("inverse_sqrt", 0, {"update": 3}, 0.4),
        ("cosine", 0, {"share": 0.0}, 0.8),
        ("cosine", 0, {"share": 1 / 3}, 0.6),
        ("cosine", 0, {"share": 0.5}, 0.4),
        ("cosine", 0, {"share": 1.0}, 0.0),
        ("cosine", 0, {"share": 1.5}, 0.0),
        ("cosine", 4, {"update": 1, "share": 0.5}, 0.2),
        ("plateau", 0, {"halvings": 0}, 0.8),
        ("plateau", 0, {"halvings": 3}, 0.1),
        # 2014 paper, section 3.4: "After 5 epochs, we begun halving the learning rate every half epoch"
        ("halve", 0, {"epochs": 0.0}, 0.8),
        ("halve", 0, {"epochs": 4.99}, 0.8),
        ("halve", 0, {"epochs": 5.0}, 0.4),
        ("halve", 0, {"epochs": 5.49}, 0.4),
        ("halve", 0, {"epochs": 5.5}, 0.2),
        ("halve", 0, {"epochs": 6.0}, 0.1),
        ("halve", 0, {"epochs": 7.49}, 0.025),
    ],
)
def test_learning_rate(schedule, warmup, where, expected):
    config = replace(ONE, schedule=schedule, warmup_updates=warmup)
    assert rate(config, **where) == pytest.approx(expected, abs=1e-12)


def test_learning_rate_and_halving_follow_their_options():
    assert rate(replace(ONE, schedule="constant", learning_rate=0.3)) == 0.3
    assert rate(replace(ONE, schedule="halve", halve_after=1.0), epochs=1.6) == pytest.approx(0.2)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimizers_are_torchs_unfused_ones(kind, decay):
    """Two steps on weights 1 with gradients 0.5 and then -0.25."""
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    ours, theirs = torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(3, 1, bias=False)
    for layer in (ours, theirs):
        torch.nn.init.ones_(layer.weight)
    config = TrainingConfig(optimizer=kind, learning_rate=0.1, weight_decay=decay)
    pairs = (
        (ours, make_optimizer(ours, config)),
        (theirs, classes[kind](theirs.parameters(), 0.1, weight_decay=decay, fused=False)),
    )
    for gradient in (0.5, -0.25):
        for layer, optimizer in pairs:
            layer.weight.grad = torch.full_like(layer.weight, gradient)
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    if kind == "sgd" and not decay:
        torch.testing.assert_close(ours.weight, torch.full((1, 3), 1 - 0.05 + 0.025))


def test_gradients_of_parts_add_up_to_those_of_the_whole():
    """The loss is a sum over tokens, so batches of any size can be added up and divided once."""
    lengths = [(3, 5), (6, 2), (1, 1), (4, 4), (2, 7)]
    plan = random_plan(0, lengths)
    model = seeded(lambda: text_model(replace(MODEL, dropout=0.0, layers=2), WORDS, WORDS))
    (model(plan.collate(reverse_source=True), 0.1).smoothed / plan.target_tokens).backward()
    whole = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for rows in ([0, 3], [1], [2, 4]):
        part = replace(plan, rows=plan.rows[rows])
        (model(part.collate(reverse_source=True), 0.1).smoothed / plan.target_tokens).backward()
    for parameter, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-5)

"""The usual tutorial in plain PyTorch, to compare with: float32, padded batches, every step through nn.LSTM, and
translation sentence by sentence. It shares nothing with the project but the vocabulary's numbers."""

import time

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from data.tokenizer import BOS_ID, EOS_ID, PAD_ID

Pairs = list[tuple[list[int], list[int]]]
State = tuple[Tensor, Tensor]


class PlainTranslator(nn.Module):
    """Two stacks of LSTM layers, no attention."""

    def __init__(self, source: int, target: int, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source, embedding, PAD_ID)
        self.target_embedding = nn.Embedding(target, embedding, PAD_ID)
        between = dropout if layers > 1 else 0.0
        self.encoder = nn.LSTM(embedding, hidden, layers, dropout=between, batch_first=True)
        self.decoder = nn.LSTM(embedding, hidden, layers, dropout=between, batch_first=True)
        self.output = nn.Linear(hidden, target)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, state = self.encoder(self.dropout(self.source_embedding(source)))
        outputs, _ = self.decoder(self.dropout(self.target_embedding(target)), state)
        logits: Tensor = self.output(self.dropout(outputs))
        return logits

    @torch.no_grad()
    def greedy(self, source: list[int], length: int) -> list[int]:
        """`length` words for one sentence: an untrained model stops anywhere, so it is not asked when to stop."""
        _, state = self.encoder(self.source_embedding(torch.tensor([source])))
        return _words(self.target_embedding, self.decoder, self.output, state, length)


def _words(embedding: nn.Embedding, decoder: nn.LSTM, output: nn.Linear, state: State, length: int) -> list[int]:
    word, words = BOS_ID, []
    for _ in range(length):
        outputs, state = decoder(embedding(torch.tensor([[word]])), state)
        word = int(output(outputs)[0, 0].argmax().item())
        words.append(word)
    return words


class PlainCaptioner(nn.Module):
    """One stack of LSTM layers, whose first input is the image."""

    def __init__(self, features: int, target: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.image = nn.Linear(features, embedding)
        self.embedding = nn.Embedding(target, embedding, PAD_ID)
        self.decoder = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, target)

    @torch.no_grad()
    def greedy(self, features: Tensor, length: int) -> list[int]:
        """`length` words for the features (1 x size) of one image."""
        _, state = self.decoder(self.image(features)[:, None])
        return _words(self.embedding, self.decoder, self.output, state, length)


def train_plainly(model: PlainTranslator, pairs: Pairs, rows: int, updates: int, warm: int) -> float:
    """Target words a second, the end token included, over so many updates after `warm` untimed ones."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss_of = nn.CrossEntropyLoss(ignore_index=PAD_ID)
    ordered = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    batches = [ordered[i : i + rows] for i in range(0, len(ordered), rows)]
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(1)).tolist()
    model.train()
    words, began = 0, time.perf_counter()
    for update in range(warm + updates):
        if update == warm:
            words, began = 0, time.perf_counter()
        batch = batches[order[update % len(order)]]
        source = pad_sequence([torch.tensor(one[::-1]) for one, _ in batch], True, PAD_ID)
        target = pad_sequence([torch.tensor([BOS_ID, *one]) for _, one in batch], True, PAD_ID)
        labels = pad_sequence([torch.tensor([*one, EOS_ID]) for _, one in batch], True, PAD_ID)
        loss = loss_of(model(source, target).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        words += sum(len(one) + 1 for _, one in batch)
    return words / (time.perf_counter() - began)

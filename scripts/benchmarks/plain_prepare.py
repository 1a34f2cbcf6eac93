"""Preparing text as tutorials do, to compare with: line by line, all of it in lists in memory.

Run as a command of its own, with the file to prepare (TSV) and the language of its second column; it writes nothing."""

import sys
from collections import Counter
from pathlib import Path

import sacremoses

_LEAST = 2  # times a word must stand in the text


def main(path: Path, language: str) -> None:
    moses = [sacremoses.MosesTokenizer(lang=each) for each in ("en", language)]
    rows = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").split("\n") if line]
    ids = []
    for side, tokenizer in enumerate(moses):
        sentences = [tokenizer.tokenize(row[side]) for row in rows]
        counts = Counter(word for sentence in sentences for word in sentence)
        known = {word: i for i, word in enumerate(word for word, count in counts.items() if count >= _LEAST)}
        ids.append([[known.get(word, 0) for word in sentence] for sentence in sentences])
    assert len(ids[0]) == len(ids[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

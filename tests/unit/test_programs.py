"""Generated programs are what they are said to be, and print what their targets say."""

import ast
import operator
import random
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.programs import difficulty, make_program, run_program, write_programs

SEEDS = st.integers(0, 2**32)
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
}
SIZES = {"train": 300, "valid": 30, "test": 60}


def value(node: ast.expr, variables: dict[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return variables[name]
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            return OPERATORS[type(op)](value(left, variables), value(right, variables))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return value(body if value(test, variables) else orelse, variables)
    raise AssertionError(ast.dump(node))


def interpret(tree: ast.Module) -> int:
    """What the last statement prints, by an interpreter that knows no other statements than the generator's."""
    variables: dict[str, int] = {}
    for statement in tree.body[:-1]:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=expression):
                variables[name] = value(expression, variables)
            case ast.For(
                iter=ast.Call(args=[rounds]), body=[ast.AugAssign(target=ast.Name(id=name), op=op, value=change)]
            ):
                for _ in range(value(rounds, variables)):
                    variables[name] = OPERATORS[type(op)](variables[name], value(change, variables))
            case _:
                raise AssertionError(ast.dump(statement))
    last = tree.body[-1]
    assert isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and last.value.func.id == "print"
    return value(last.value.args[0], variables)


@given(SEEDS, st.integers(1, 5), st.integers(1, 6))
def test_targets_are_right_and_programs_keep_to_their_limits(seed, length, nesting):
    one = make_program(random.Random(seed), length, nesting)
    assert one.group == f"{length}/{nesting}"
    tree = ast.parse(one.source.replace(";", "\n"))
    assert str(interpret(tree)) == one.target
    nodes = list(ast.walk(tree))
    assert sum(isinstance(node, ast.BinOp | ast.IfExp | ast.For) for node in nodes) == nesting
    numbers = [node.value for node in nodes if isinstance(node, ast.Constant)]
    assert min(numbers) >= 1 and max(numbers) <= max(10**length - 1, 4 * length)
    small = [node.iter.args[0].value for node in nodes if isinstance(node, ast.For)]
    for node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            small.append(min(each.value for each in (node.left, node.right) if isinstance(each, ast.Constant)))
    assert max(small, default=0) <= 4 * length


def test_python_itself_prints_the_targets():
    rng = random.Random(5)
    made = [make_program(rng, rng.randint(1, 4), rng.randint(1, 4)) for _ in range(100)]
    program = "\n".join(one.source.replace(";", "\n") for one in made)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [one.target for one in made]


def test_every_kind_of_operation_comes_up():
    rng = random.Random(1)
    text = "".join(make_program(rng, 2, 2).source for _ in range(100))
    assert all(sign in text for sign in ("+", "-", "*", "for x in range(", "+=", "-=", " if ", ">", "<", "print("))


def test_a_program_reaches_nothing_else():
    for source in ("print(open('x'))", "import os", "print(1", "__import__('os')"):
        with pytest.raises(ValueError, match="does not run"):
            run_program(source)


def test_curricula_are_as_difficult_as_they_say():
    """Section 4 of the paper, for a target of length 3 and nesting 2."""
    rng = random.Random(1)
    shares = [i / 600 for i in range(600)]
    found = {
        name: [difficulty(name, share, 3, 2, rng) for share in shares]
        for name in ("baseline", "naive", "mix", "combined")
    }
    every = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    assert set(found["baseline"]) == {(3, 2)}
    assert found["naive"] == [step for step in every for _ in range(100)]
    for part in (found["mix"][:300], found["mix"][300:]):
        assert set(part) == set(every) and max(map(part.count, every)) < 2.5 * min(map(part.count, every))
    naive = sum(one == other for one, other in zip(found["combined"], found["naive"], strict=True)) / 600
    assert naive == pytest.approx(1 / 2 + 1 / 2 / 6, abs=0.07)


def read(folder, split, suffix):
    return (folder / f"{split}.{suffix}").read_text().splitlines()


def test_files_of_all_curricula_share_what_is_held_out(tmp_path):
    for curriculum in ("baseline", "naive", "mix", "combined"):
        folder = tmp_path / curriculum
        write_programs(folder, SIZES, 1, curriculum=curriculum, length=2, nesting=2)
        for split, size in SIZES.items():
            assert {len(read(folder, split, suffix)) for suffix in ("source", "target", "group")} == {size}
        for split in ("valid", "test"):
            assert read(folder, split, "source") == read(tmp_path / "baseline", split, "source")
            assert len(set(read(folder, split, "source"))) == SIZES[split]
            assert set(read(folder, split, "group")) == {"1/1", "2/1", "1/2", "2/2"}
            assert not set(read(folder, split, "source")) & set(read(folder, "train", "source"))
        assert run_program(read(folder, "test", "source")[0]) == read(folder, "test", "target")[0]
    assert len({tuple(read(tmp_path / name, "train", "source")) for name in ("baseline", "naive", "mix")}) == 3
    order = [
        (int(depth), int(digits))
        for digits, _, depth in (one.partition("/") for one in read(tmp_path / "naive", "train", "group"))
    ]
    assert all(one <= other for one, other in pairwise(order)) and order[0] < order[-1]


def test_the_seed_decides(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_programs(tmp_path / name, SIZES, seed, curriculum="mix", length=2, nesting=1)
    one, again, other = (read(tmp_path / name, "train", "source") for name in "abc")
    assert one == again != other


def test_more_programs_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr("data.programs.TRIES", 1)
    with pytest.raises(ValueError, match=r"asked for 300 programs of test, but only [\d,]+ came up"):
        write_programs(tmp_path, {"test": 300}, 1, curriculum="mix", length=1, nesting=1)

"""What reading the source backwards is worth, with and without attention, over several seeds."""

import shlex
import sys
from pathlib import Path

from scripts.command import Parser, run
from scripts.compare import combine, compare, options
from scripts.run import RECIPES, add_stages, assembled

NAME = "reversal_experiment.py"
KEY = "model.reverse_source"
RECIPE = RECIPES / "reversal.yaml"
_SENTENCES = "docs/order_and_voice.de.txt"


def main() -> None:
    from nmt.outcome import SEED, run_name
    from nmt.recipe import command
    from nmt.translation_recipe import TranslationRecipe

    arguments = sys.argv[1:]
    parser = Parser(
        NAME,
        "Train translators that read the source forwards or backwards, with and without attention, with several seeds, "
        "and compare them: scores, BLEU by source length, paired bootstrap; as tables, DIR/comparison.json and "
        f"DIR/comparison.png. The same command goes on with what was interrupted. Settings: {RECIPE.name}, changed by "
        "options.",
        f"{NAME} --data FOLDER --out DIR [--seeds 1,2,3]",
        defaults=[str(RECIPE)],
    )
    parser.add_argument("--out", type=Path, required=True, help="Directory for the runs and their comparison.")
    parser.add_argument(
        "--seeds", type=str, default="1,2,3", help="Seeds of training; more may be added to finished ones."
    )
    add_stages(parser, TranslationRecipe)
    read = parser.read(arguments)
    for key in (KEY, "model.attention", SEED):
        if any(word.partition("=")[0] == f"--{key}" for word in arguments):
            parser.error(f"--{key} is varied here: leave it out" + (", and give --seeds" if key == SEED else ""))
    seeds = str(read.seeds).split(",")
    if len(set(seeds)) < len(seeds) or not all(seed.isdecimal() for seed in seeds):
        parser.error(f"--seeds {read.seeds}: give different whole numbers with commas between them")
    combinations = combine({KEY: ["false", "true"], "model.attention": ["none", "general"], SEED: seeds})
    recipes = [assembled(parser.read([*arguments, *options(varied)]), TranslationRecipe) for varied in combinations]
    compare(RECIPE.stem, combinations, recipes, read, KEY)
    print("\nMaps of what the encoders make of sentences that differ in order and voice:")
    for varied in combinations:
        if varied[SEED] == seeds[0]:
            folder = read.out / run_name(varied, list(varied))
            given = shlex.join(["--model", str(folder / "model"), _SENTENCES, "--out", str(folder / "map.png")])
            print(f"  {command('python')} scripts/sentence_map.py {given}")


if __name__ == "__main__":
    run(NAME, main)

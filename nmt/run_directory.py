"""The directory of a training run: its checkpoints, which of them are kept, and the finished model.

checkpoints/update-N/   model directories; the newest also holds state/ to resume from
model/                  the best of them, once training has ended
metrics.jsonl tensorboard/ curves.png
"""

import shutil
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.files import atomic_directory, remove_unfinished
from nmt.checkpoint import TrainedModel, save_model, save_state

_EARLIER_STAGES = {"recipe.yaml", "corpus", "data"}  # what a recipe puts there before training


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"

    def begin(self, *, again: bool = False) -> None:
        """Claim the directory for a new run.

        Args:
            again: A run that died before its first checkpoint may stand there; it starts anew.

        Raises:
            UserError: the directory is not empty; or there is no run at all, and `again` expects one.
        """
        if again and not self.path.is_dir():
            raise UserError(f"{self.path}: no run to resume here: check the path, or start without --resume")
        if self.newest() is not None:
            raise UserError(
                f"{self.path}: holds a run that has reached update {self.newest_update():,}: go on with it with "
                "--resume, or choose another --out"
            )
        try:
            inside = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
            found = sorted(name for name in inside - _EARLIER_STAGES if not name.startswith("."))
            if self.model.exists() or (found and not (again and self.checkpoints.exists())):
                raise UserError(
                    f"{self.path}: is not empty, it holds {', '.join(found[:5])}: choose another --out, or go on with "
                    "the run there with --resume"
                )
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}): choose another --out") from error

    def recover(self) -> None:
        """Tidy up after a run that was killed while it wrote."""
        for folder in (self.path, self.checkpoints):
            remove_unfinished(folder)

    def updates(self) -> list[int]:
        """The updates with a checkpoint, oldest first."""
        names = [path.name.removeprefix("update-") for path in self.checkpoints.glob("update-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def at(self, update: int) -> Path:
        return self.checkpoints / f"update-{update}"

    def newest(self) -> Path | None:
        """The checkpoint to resume from, or None."""
        updates = self.updates()
        return self.at(updates[-1]) if updates else None

    def newest_update(self) -> int:
        return max(self.updates(), default=0)

    def save(
        self, update: int, trained: TrainedModel, metrics: dict[str, Any], state: dict[str, Any], best: list[int]
    ) -> None:
        """Write a checkpoint, then delete what neither resuming nor `best` needs any more.

        The order matters: whenever the process dies, a complete checkpoint with its state is there.
        """
        with atomic_directory(self.at(update), overwrite=True) as folder:
            save_model(folder, trained, metrics)
            save_state(folder, state)
        for other in self.updates():
            if other == update:
                continue
            if other in best:
                shutil.rmtree(self.at(other) / "state", ignore_errors=True)
            else:
                shutil.rmtree(self.at(other))

    def finish(self, best: int) -> None:
        """Copy a checkpoint to model/."""
        with atomic_directory(self.model, overwrite=True) as folder:
            for file in self.at(best).iterdir():
                if file.is_file():
                    shutil.copy2(file, folder)

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
from nmt.checkpoint import TranslationModel, save_model, save_state


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
            UserError: another run stands there; or none at all, and `again` expects one.
        """
        if again and not self.path.is_dir():
            raise UserError(f"{self.path}: no run to resume here: check the path, or start without --resume")
        if self.newest() is not None:
            raise UserError(
                f"{self.path}: holds a run that has reached update {self.newest_update():,}: go on with it with "
                "--resume, or choose another --out"
            )
        if self.model.exists() or (not again and (self.path / "metrics.jsonl").exists()):
            raise UserError(f"{self.path}: holds another run: choose another --out, or go on with it with --resume")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}): choose another --out") from error
        remove_unfinished(self.checkpoints)

    def updates(self) -> list[int]:
        """The updates with a checkpoint, oldest first."""
        return sorted(int(path.name.removeprefix("update-")) for path in self.checkpoints.glob("update-*"))

    def at(self, update: int) -> Path:
        return self.checkpoints / f"update-{update}"

    def newest(self) -> Path | None:
        """The checkpoint to resume from, or None."""
        updates = self.updates()
        return self.at(updates[-1]) if updates else None

    def newest_update(self) -> int:
        return max(self.updates(), default=0)

    def save(
        self, update: int, trained: TranslationModel, metrics: dict[str, Any], state: dict[str, Any], best: list[int]
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
            shutil.copytree(self.at(best), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("state"))

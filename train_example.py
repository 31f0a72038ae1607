"""Trains a small model on annotated photographs and draws its predictions.

    python train_example.py                                    # a detector, on demo photographs
    python train_example.py datamodule=landmarker              # or: teacher
    python train_example.py raw_data_dir=~/wider trainer=gpu   # on your own photographs

Every setting in `conf/` can be overridden on the command line; `--help` lists them. The
checkpoints, the metrics and `predictions.png` are saved in `outputs/DATE/TIME`. The last line that
is printed is the score of the best checkpoint on the validation split.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from training.command import command, exit_statuses

CONF = Path(__file__).resolve().with_name("conf")


# Not pkg://conf: the folder from which the command is run may have a package of that name.
@command(CONF, "train")
@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Do the configured action; return the score, which a hyperparameter search compares.

    Raises:
        SystemExit: a setting is wrong, the data is, or a signal stopped the run. The status is
            that of docs/settings.md.
    """
    # Imported here, because torch and Lightning take seconds, and --help needs neither.
    with exit_statuses():
        from training.settings import check_settings

        check_settings(cfg)
        if cfg.action in ("predict", "export"):
            from training.answers import answer
            from training.saved_run import build_saved_run

            answer(cfg.action, build_saved_run(cfg))
            return None
        from training.build import build
        from training.run import act

        return act(cfg.action, build(cfg), demo_images=cfg.demo_images)


if __name__ == "__main__":
    main()

"""Times training steps of our program beside anomalib's; called by training.sh."""

import argparse
import csv
import logging
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from inference import cpu_name

IMAGES = 16


class Anomalib:
    """Anomalib's training step on images in memory: nothing is read or drawn."""

    def __init__(self, model_size: str) -> None:
        from anomalib.models.image.efficient_ad.torch_model import (
            EfficientAdModel,
            EfficientAdModelSize,
        )

        size = {"small": EfficientAdModelSize.S, "medium": EfficientAdModelSize.M}[model_size]
        self.model = EfficientAdModel(teacher_out_channels=384, model_size=size, padding=False)
        self.model.train()
        self.optimizer = torch.optim.Adam(
            [*self.model.student.parameters(), *self.model.ae.parameters()], lr=1e-4,
            weight_decay=1e-5)
        self.image = torch.rand(1, 3, 256, 256)
        self.penalty = torch.rand(1, 3, 256, 256)

    def times(self, steps: int) -> list[float]:
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            self.optimizer.zero_grad()
            losses = self.model(batch=self.image, batch_imagenet=self.penalty)
            sum(losses).backward()
            [loss.item() for loss in losses]
            self.optimizer.step()
            times.append(time.perf_counter() - start)
        return times


def our_times(folder: Path, model_size: str, steps: int, options: list[str]) -> list[float]:
    """Seconds from step to step, with reading, jitter, penalty images and the log, from the log.
    The teacher's outputs on the images are known after the statistics that come first."""
    with tempfile.TemporaryDirectory() as output:
        command = [os.environ["EFFICIENTAD"], "train", "--dataset", "folder", "--data", folder,
                   "--output", Path(output) / "run", "--model-size", model_size, "--teacher",
                   "random", "--steps", steps + 1, "--device", "cpu", "--precision", "fp32",
                   "--log-level", "error", *options]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        with open(Path(output) / "run" / "train_log.csv", newline="") as file:
            at = [float(row["seconds"]) for row in csv.DictReader(file)]
    return [after - before for before, after in zip(at, at[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["small", "medium"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps of each in a round")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    threads = ["--threads", arguments.threads]

    print(f"{cpu_name()}, {arguments.threads} threads, {time.strftime('%Y-%m-%d')}, batch 1, "
          f"256x256, float32, {arguments.rounds} rounds of {arguments.steps} steps each\n")
    print("| model | program | ms a step, median of rounds | its time / ours, median of rounds "
          "| lowest, highest |")
    print("|---|---|---|---|---|")
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "normal").mkdir()
        random = np.random.default_rng(0)
        for i in range(IMAGES):
            pixels = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "normal" / f"{i:02}.png")
        for model_size in arguments.sizes:
            anomalib = Anomalib(model_size)
            anomalib.times(2)
            programs = {
                "ours": lambda: our_times(folder, model_size, arguments.steps, threads),
                "ours, --plain-step": lambda: our_times(folder, model_size, arguments.steps,
                                                        ["--plain-step", *threads]),
                "anomalib": lambda: anomalib.times(arguments.steps),
            }
            medians = {program: [] for program in programs}
            for _ in range(arguments.rounds):
                for program, run in programs.items():
                    medians[program].append(statistics.median(run()))
            for program, of_program in medians.items():
                ratios = [theirs / own for theirs, own in zip(of_program, medians["ours"])]
                print(f"| {model_size} | {program} | {1000 * statistics.median(of_program):.0f} "
                      f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} |",
                      flush=True)


if __name__ == "__main__":
    main()

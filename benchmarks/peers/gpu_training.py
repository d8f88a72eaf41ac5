"""Times training steps on a GPU: anomalib's EfficientAD and ours, batch 1, 256x256.

Ours is all of a step, with jitter, penalty images and the log, from train_log.csv; anomalib's is its
network's losses, gradients and optimiser on images in the GPU's memory, as its training step
computes them (float32, which in PyTorch means TF32 in convolutions, and with bf16 autocast). Both
without reading files. What fails is left out; what is measured is written at once.

  EFFICIENTAD=bin/efficientad python3 benchmarks/peers/gpu_training.py --output training.json \
      --anomalib DIR

--anomalib names a folder or wheel with anomalib's sources (2.7.0); of these only
anomalib/models/image/efficient_ad/torch_model.py is read, which needs PyTorch and torchvision alone.
Without it the installed anomalib is imported. EFFICIENTAD= (empty) leaves ours out, --anomalib none
anomalib.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

from gpu_inference import Measurements, synchronize

IMAGES = 16
TORCH_MODEL = "anomalib/models/image/efficient_ad/torch_model.py"


class InferenceBatch(NamedTuple):
    """What torch_model.py imports from the rest of anomalib."""

    pred_score: torch.Tensor | None = None
    pred_label: torch.Tensor | None = None
    anomaly_map: torch.Tensor | None = None
    pred_mask: torch.Tensor | None = None


def load_torch_model(where: str) -> types.ModuleType:
    """Anomalib's module torch_model: installed, or from its sources without the rest."""
    if not where:
        from anomalib.models.image.efficient_ad import torch_model

        return torch_model
    path = Path(where)
    if path.is_file() and zipfile.is_zipfile(path):
        source = zipfile.ZipFile(path).read(TORCH_MODEL).decode()
        name = f"{path}/{TORCH_MODEL}"
    else:
        wheels = sorted(path.glob("anomalib-*.whl"))
        if wheels and not (path / TORCH_MODEL).exists():
            return load_torch_model(str(wheels[-1]))
        name = str(path / TORCH_MODEL)
        source = Path(name).read_text()
    stand_ins = {"anomalib": types.ModuleType("anomalib"),
             "anomalib.data": types.ModuleType("anomalib.data")}
    stand_ins["anomalib"].__path__ = []
    stand_ins["anomalib.data"].InferenceBatch = InferenceBatch
    module = types.ModuleType("anomalib_torch_model")
    module.__file__ = name
    before = {name_of_one: sys.modules.get(name_of_one) for name_of_one in stand_ins}
    sys.modules.update(stand_ins)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, name, "exec"), module.__dict__)
    finally:
        for name_of_one, old in before.items():
            if old is None:
                del sys.modules[name_of_one]
            else:
                sys.modules[name_of_one] = old
    return module


class Anomalib:
    """Anomalib's training step on images in the device's memory."""

    def __init__(self, torch_model: types.ModuleType, model_size: str, device: str,
                 autocast: bool) -> None:
        size = torch_model.EfficientAdModelSize(model_size)
        self.device = device
        self.autocast = autocast
        self.model = torch_model.EfficientAdModel(
            teacher_out_channels=384, model_size=size, padding=False).to(device)
        # Known, as in training; where all are 0, the model takes them for unknown.
        self.model.mean_std["mean"].data.fill_(0.01)
        self.model.mean_std["std"].data.fill_(1)
        self.model.train()
        self.optimizer = torch.optim.Adam(
            [*self.model.student.parameters(), *self.model.ae.parameters()], lr=1e-4,
            weight_decay=1e-5)
        self.images = torch.rand(IMAGES, 1, 3, 256, 256, device=device)
        self.penalty = torch.rand(IMAGES, 1, 3, 256, 256, device=device)

    def step(self, index: int) -> list[torch.Tensor]:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.autocast):
            losses = self.model(batch=self.images[index % IMAGES],
                                batch_imagenet=self.penalty[index % IMAGES])
        sum(losses).backward()
        self.optimizer.step()
        return losses

    def milliseconds(self, warmup: int, steps: int) -> float:
        for i in range(warmup):
            self.step(i)
        synchronize(self.device)
        start = time.perf_counter()
        for i in range(steps):
            losses = self.step(i)
        synchronize(self.device)
        taken = 1000 * (time.perf_counter() - start) / steps
        if not all(torch.isfinite(loss) for loss in losses):
            raise RuntimeError(f"losses {losses}")
        return taken


def our_milliseconds(folder: Path, model_size: str, warmup: int, steps: int,
                     options: list, limit: float) -> float:
    """A step after the first `warmup`, by the clock of the log (hundredths of a second)."""
    with tempfile.TemporaryDirectory() as output:
        command = [os.environ["EFFICIENTAD"], "train", "--dataset", "folder", "--data", folder,
                   "--normal-dir", "normal", "--penalty-images", folder / "penalty",
                   "--output", Path(output) / "run", "--model-size", model_size, "--teacher",
                   "random", "--steps", warmup + steps, "--workers", "4", "--log-level", "warn",
                   *options]
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        try:
            problem = process.communicate(timeout=limit)[1]
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise RuntimeError(f"exit status {process.returncode}: {problem.strip()[-400:]}")
        for line in problem.splitlines():
            if "warn" in line:
                print(line, file=sys.stderr, flush=True)
        with open(Path(output) / "run" / "train_log.csv", newline="") as file:
            at = {int(row["step"]): float(row["seconds"]) for row in csv.DictReader(file)}
    return 1000 * (at[warmup + steps] - at[warmup]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--anomalib", default="", help="folder or wheel; none: leave it out")
    parser.add_argument("--sizes", nargs="+", default=["small", "medium"],
                        choices=["small", "medium"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="*", default=["bf16", "fp32"],
                        help="of ours; with auto, what the program takes for the device")
    parser.add_argument("--plain", action="store_true", help="also ours with --plain-step, fp32")
    parser.add_argument("--no-autocast", action="store_true", help="anomalib in float32 alone")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--limit", type=float, default=60, help="seconds for a run of ours")
    arguments = parser.parse_args()
    # So that what was started ends with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = {"torch": torch.__version__, "device": "cpu", "date": time.strftime("%Y-%m-%d"),
             "batch": 1, "image": "256x256"}
    if arguments.device != "cpu":
        if not torch.cuda.is_available():
            sys.exit("there is no CUDA device")
        about["device"] = torch.cuda.get_device_name()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    out = Measurements(arguments.output, about)

    def attempt(model_size: str, program: str, function) -> None:
        result = {"model_size": model_size, "program": program}
        start = time.perf_counter()
        try:
            milliseconds = function()
            result |= {"ms_per_step": milliseconds, "steps_per_second": 1000 / milliseconds,
                       "steps": arguments.steps}
        except Exception as error:  # Whatever it is, the other measurements go on.
            result["error"] = f"{type(error).__name__}: {str(error)[:500]}"
        out.add({**result, "all_seconds": time.perf_counter() - start})

    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        for kind in ("normal", "penalty"):
            (folder / kind).mkdir()
            for i in range(IMAGES):
                pixels = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / kind / f"{i:02}.png")

        def ours(model_size: str, program: str, *options) -> None:
            if os.environ.get("EFFICIENTAD"):
                attempt(model_size, program, lambda: our_milliseconds(
                    folder, model_size, arguments.warmup, arguments.steps,
                    ["--device", arguments.device, *options], arguments.limit))

        def anomalib(model_size: str, program: str, autocast: bool) -> None:
            if arguments.anomalib != "none":
                attempt(model_size, program, lambda: Anomalib(
                    load_torch_model(arguments.anomalib), model_size, arguments.device,
                    autocast).milliseconds(arguments.warmup, arguments.steps))
                if arguments.device != "cpu":
                    torch.cuda.empty_cache()

        for model_size in arguments.sizes:
            anomalib(model_size, "anomalib, fp32", autocast=False)
            for precision in arguments.precisions:
                ours(model_size, f"ours, {precision}", "--precision", precision, "--device-step",
                     "on")
        for model_size in arguments.sizes:
            if not arguments.no_autocast:
                anomalib(model_size, "anomalib, bf16 autocast", autocast=True)
            if arguments.plain:
                ours(model_size, "ours, fp32, --plain-step", "--precision", "fp32", "--plain-step")
    sys.exit(1 if any("error" in result for result in out.content["results"]) else 0)


if __name__ == "__main__":
    main()

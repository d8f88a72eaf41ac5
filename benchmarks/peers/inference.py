"""Times CPU inference of our program beside its peers; called by inference.sh."""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file


def anomalib_model(path: Path, model_size: str) -> torch.nn.Module:
    """Anomalib's network with the weights of one of our files."""
    from anomalib.models.image.efficient_ad.torch_model import (
        EfficientAdModel,
        EfficientAdModelSize,
    )

    size = {"small": EfficientAdModelSize.S, "medium": EfficientAdModelSize.M}[model_size]
    model = EfficientAdModel(teacher_out_channels=384, model_size=size, padding=False)
    ours = {name: tensor.float() for name, tensor in load_file(path).items()}
    state = {}
    for name in model.state_dict():
        network, _, rest = name.partition(".")
        if network in ("teacher", "student"):
            state[name] = ours[name]
        elif network == "ae":
            state[name] = ours["autoencoder." + rest]
    missing = model.load_state_dict(state, strict=False).missing_keys
    left = [name for name in missing if not name.startswith(("mean_std", "quantiles"))]
    if left:
        sys.exit(f"{path}: no weights for {left}")
    model.mean_std["mean"].data = ours["teacher_mean"]
    model.mean_std["std"].data = ours["teacher_std"]
    with safe_open(path, "pt") as file:
        detector = json.loads(file.metadata()["detector"])
    for name, ours_name in {"qa_st": "q_a_st", "qb_st": "q_b_st", "qa_ae": "q_a_ae",
                            "qb_ae": "q_b_ae"}.items():
        model.quantiles[name].data = torch.tensor(float(detector[ours_name]))
    return model.eval()


class MapsOnly(torch.nn.Module):
    """The anomaly map and score as plain tensors, as an exporter wants them."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.model(image)
        return result.anomaly_map, result.pred_score


def peers_of(path: Path, model_size: str, image: torch.Tensor, threads: int, folder: Path) -> dict:
    """Functions that compute the map once, by name."""
    import onnxruntime
    import openvino

    torch.set_num_threads(threads)
    network = MapsOnly(anomalib_model(path, model_size)).eval()
    onnx = folder / f"{model_size}.onnx"
    with torch.no_grad():
        torch.onnx.export(network, (image,), str(onnx), input_names=["image"], opset_version=17,
                          dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(
        openvino.convert_model(str(onnx)), "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
         "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    array = np.ascontiguousarray(image.numpy())

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(image)[0].numpy()

    return {
        "PyTorch eager": eager,
        "ONNX Runtime": lambda: session.run(None, {"image": array})[0],
        "OpenVINO": lambda: request.infer({0: array})[0],
    }


def time_ours(program: str, path: Path, image: Path, threads: int, runs: int) -> dict:
    command = [program, "bench", "--model", path, "--image", image, "--threads", str(threads),
               "--device", "cpu", "--runs", str(runs), "--json", "--log-level", "error"]
    result = subprocess.run([str(part) for part in command], check=True, capture_output=True,
                            text=True)
    return json.loads(result.stdout.splitlines()[-1])


def time_peer(function, runs: int) -> float:
    for _ in range(3):
        function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def difference(program: str, path: Path, folder: Path, map_of_peer: np.ndarray) -> float:
    """Between a peer's map and ours, inside the border, which peers pad before normalisation."""
    import cv2

    subprocess.run([program, "infer", "--model", path, "--output", folder / "ours", "--maps",
                    "--device", "cpu", "--log-level", "error", folder / "image.png"], check=True,
                   capture_output=True)
    ours = cv2.imread(str(next((folder / "ours" / "maps").iterdir())), cv2.IMREAD_UNCHANGED)
    inside = (slice(32, -32), slice(32, -32))
    theirs = map_of_peer.reshape(ours.shape)[inside]
    return float(np.abs(theirs - ours[inside]).max() / np.ptp(theirs))


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=10, help="images of each in a round")
    arguments = parser.parse_args([a for a in sys.argv[1:] if a != "--"])
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    program = os.environ["EFFICIENTAD"]

    print(f"{cpu_name()}, {arguments.threads} threads, {time.strftime('%Y-%m-%d')}, one image of "
          f"256x256, {arguments.rounds} rounds of {arguments.runs} images each\n")
    print("| model | engine | ms, median of rounds | its time / ours, median of rounds "
          "| lowest, highest |")
    print("|---|---|---|---|---|")
    from PIL import Image

    for path in arguments.models:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        model_size = metadata["model_size"]
        if json.loads(metadata["detector"]).get("equalize_exposure"):
            print(f"{path}: the peers do not equalize the exposure; their scores differ",
                  file=sys.stderr)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "image.png")
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
            peers = peers_of(path, model_size, image, arguments.threads, folder)
            maps = {peer: np.asarray(function()) for peer, function in peers.items()}
            times = {peer: [] for peer in ("ours", *peers)}
            for _ in range(arguments.rounds):
                ours = time_ours(program, path, folder / "image.png", arguments.threads,
                                 arguments.runs)
                # The peers' networks end with the map at the image's size.
                times["ours"].append(ours["latency_ms_median"] + ours["finish_ms"])
                for peer, function in peers.items():
                    times[peer].append(time_peer(function, arguments.runs))
            for peer, map_of_peer in maps.items():
                print(f"{model_size}: {difference(program, path, folder, map_of_peer):.1e} is the "
                      f"largest difference between the maps of {peer} and ours, as a share of "
                      "their range", file=sys.stderr)
        for peer, of_peer in times.items():
            ratios = [theirs / own for theirs, own in zip(of_peer, times["ours"])]
            print(f"| {model_size} | {peer} | {statistics.median(of_peer):.1f} "
                  f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} |",
                  flush=True)


if __name__ == "__main__":
    main()

"""Times GPU inference of the same networks in PyTorch: half precision, channels last.

Eager, the same recorded as a CUDA graph, and torch.compile; random weights, 256x256, the map at
64x64. Latency is the paper's: one image from the host's memory (pinned, uint8) to the GPU,
normalisation, networks, maps, and the map back. Throughput: images that are in the GPU's
memory already. What fails is left out; what is measured is written at once. Needs PyTorch alone.

  python3 benchmarks/peers/gpu_inference.py --output peers.json
  python3 benchmarks/peers/gpu_inference.py --output peers.json --sizes small --engines eager graph
  python3 benchmarks/peers/gpu_inference.py --output try.json --device cpu --runs 2 --warmup 1 \
      --batches 1 --engines eager
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

SIDE = 256
CHANNELS = 384
BORDER = 4
ENGINES = {
    "eager": "PyTorch eager",
    "graph": "PyTorch CUDA graph",
    "reduce-overhead": "torch.compile reduce-overhead",
    "max-autotune-no-cudagraphs": "torch.compile max-autotune-no-cudagraphs",
}
COMPILED = ("reduce-overhead", "max-autotune-no-cudagraphs")


def pdn(model_size: str, channels: int) -> nn.Sequential:
    if model_size == "small":
        return nn.Sequential(
            nn.Conv2d(3, 128, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2, 2),
            nn.Conv2d(128, 256, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2, 2),
            nn.Conv2d(256, 256, 3), nn.ReLU(inplace=True), nn.Conv2d(256, channels, 4))
    return nn.Sequential(
        nn.Conv2d(3, 256, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2, 2),
        nn.Conv2d(256, 512, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2, 2),
        nn.Conv2d(512, 512, 1), nn.ReLU(inplace=True), nn.Conv2d(512, 512, 3),
        nn.ReLU(inplace=True), nn.Conv2d(512, channels, 4), nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1))


def autoencoder() -> nn.Sequential:
    layers = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
    layers.append(nn.Conv2d(64, 64, 8))
    for side in (3, 8, 15, 32, 63, 127):
        layers += [nn.Upsample(size=side, mode="bilinear"), nn.Conv2d(64, 64, 4, padding=2),
                   nn.ReLU(inplace=True)]
    layers += [nn.Upsample(size=56, mode="bilinear"), nn.Conv2d(64, 64, 3, padding=1),
               nn.ReLU(inplace=True), nn.Conv2d(64, CHANNELS, 3, padding=1)]
    return nn.Sequential(*layers)


class Networks(nn.Module):
    """From images (float 0 to 1, or uint8) to maps [N, 1, 64, 64], float32."""

    def __init__(self, model_size: str) -> None:
        super().__init__()
        self.teacher = pdn(model_size, CHANNELS)
        self.student = pdn(model_size, 2 * CHANNELS)
        self.autoencoder = autoencoder()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.register_buffer("teacher_mean", torch.full((1, CHANNELS, 1, 1), 0.1))
        self.register_buffer("teacher_std", torch.full((1, CHANNELS, 1, 1), 0.9))
        # q_a and q_b of the student's and of the autoencoder's map.
        self.register_buffer("quantiles", torch.tensor([[0.5, 1.5], [0.4, 1.3]]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.to(self.mean.dtype)
        if image.dtype == torch.uint8:
            x = x / 255
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        teacher = (self.teacher(x) - self.teacher_mean) / self.teacher_std
        student = self.student(x)
        reconstructed = self.autoencoder(x)
        map_st = (teacher - student[:, :CHANNELS]).square().mean(1, keepdim=True)
        map_ae = (reconstructed - student[:, CHANNELS:]).square().mean(1, keepdim=True)
        (a_st, b_st), (a_ae, b_ae) = self.quantiles[0], self.quantiles[1]
        combined = (0.5 * 0.1 * (map_st - a_st) / (b_st - a_st)
                    + 0.5 * 0.1 * (map_ae - a_ae) / (b_ae - a_ae))
        return F.pad(combined, (BORDER,) * 4).float()


def make_networks(model_size: str, device: str, dtype: torch.dtype) -> Networks:
    torch.manual_seed(0)
    networks = Networks(model_size)
    for module in networks.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return networks.to(device=device, dtype=dtype, memory_format=torch.channels_last).eval()


class Graph:
    """A function of one tensor, recorded for the shape and type of `example`."""

    def __init__(self, function, example: torch.Tensor) -> None:
        self.input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(self.input)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(self.input)


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def latency(run, warmup: int, runs: int) -> dict:
    times = []
    for i in range(warmup + runs):
        start = time.perf_counter()
        run()
        if i >= warmup:
            times.append(1000 * (time.perf_counter() - start))
    times.sort()
    return {"latency_ms_mean": statistics.fmean(times), "latency_ms_median": times[len(times) // 2],
            "latency_ms_p99": times[min(len(times) - 1, int(0.99 * len(times)))],
            "latency_ms_min": times[0], "warmup": warmup, "runs": runs}


def throughput(run, batch: int, device: str, seconds: float) -> float:
    """Images a second: the median of three stretches."""
    for _ in range(3):
        run()
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    count = max(1, int(seconds / 3 / max(1e-6, time.perf_counter() - start)))
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(count):
            run()
        synchronize(device)
        rates.append(batch * count / (time.perf_counter() - start))
    return statistics.median(rates)


class Measurements:
    """What is known so far; written after every addition, so that a stopped run keeps it."""

    def __init__(self, path: Path, about: dict) -> None:
        self.path = path
        self.content = {**about, "results": []}
        self.write()

    def add(self, result: dict) -> None:
        self.content["results"].append(result)
        self.write()
        print(json.dumps(result), file=sys.stderr, flush=True)

    def write(self) -> None:
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(temporary, self.path)


def measure(arguments, model_size: str, engine: str, out: Measurements) -> None:
    """One engine and size, in this process."""
    device = arguments.device
    about = {"model_size": model_size, "engine": ENGINES[engine], "precision": arguments.precision}
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[
        arguments.precision]

    def attempt(kind: dict, function) -> None:
        start = time.perf_counter()
        try:
            out.add({**about, **kind, **function(), "all_seconds": time.perf_counter() - start})
        except Exception as error:  # Whatever it is, the other measurements go on.
            out.add({**about, **kind, "error": f"{type(error).__name__}: {str(error)[:500]}"})

    networks = make_networks(model_size, device, dtype)
    function = networks
    if engine in COMPILED:
        torch._dynamo.config.recompile_limit = 32
        function = torch.compile(networks, mode=engine, dynamic=False)
    pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)

    def latency_of(host: torch.Tensor) -> dict:
        if device != "cpu":
            host = host.pin_memory()
        if engine == "graph":
            graph = Graph(function, host.to(device))

            def run() -> torch.Tensor:
                graph.input.copy_(host, non_blocking=True)
                graph.graph.replay()
                return graph.output.cpu()
        else:
            def run() -> torch.Tensor:
                return function(host.to(device, non_blocking=True)).cpu()
        shape = list(run().shape)
        if shape != [1, 1, 64, 64]:
            raise RuntimeError(f"the map has shape {shape}")
        return latency(run, arguments.warmup, arguments.runs)

    def throughput_of(batch: int) -> dict:
        images = torch.rand(batch, 3, SIDE, SIDE, device=device).to(
            dtype, memory_format=torch.channels_last)
        if engine == "graph":
            graph = Graph(function, images)
            run = graph.graph.replay
        else:
            def run() -> None:
                function(images)
        return {"images_per_second": throughput(run, batch, device, arguments.seconds)}

    with torch.inference_mode():
        for kind in arguments.inputs:
            host = pixels if kind == "uint8" else pixels.float() / 255
            attempt({"kind": "latency", "batch": 1, "input": kind}, lambda: latency_of(host))
        for batch in arguments.compile_batches if engine in COMPILED else arguments.batches:
            attempt({"kind": "throughput", "batch": batch}, lambda: throughput_of(batch))
            if device != "cpu":
                torch.cuda.empty_cache()


def in_another_process(arguments, sizes: list[str], engines: list[str], limit: float,
                       out: Measurements) -> None:
    """The same with a limit on the time, and apart, for what may crash."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--output", part, "--here", "--sizes", *sizes,
                   "--engines", *engines, "--device", arguments.device, "--precision",
                   arguments.precision, "--warmup", arguments.warmup, "--runs", arguments.runs,
                   "--seconds", arguments.seconds, "--inputs", *arguments.inputs,
                   "--batches", *arguments.batches,
                   "--compile-batches", *arguments.compile_batches]
        problem = ""
        # Its own session, so that the compiler's helpers end with it.
        process = subprocess.Popen([str(word) for word in command], start_new_session=True)
        try:
            if process.wait(limit) not in (0, 1):
                problem = f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"not done within {limit:g} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            results = json.loads(part.read_text())["results"] if part.exists() else []
            out.content["results"] += results
            # 1 stands for errors that it wrote down.
            if process.returncode == 1 and not any("error" in result for result in results):
                problem = problem or "exit status 1"
            if problem:
                out.add({"model_size": ", ".join(sizes),
                         "engine": ", ".join(ENGINES[engine] for engine in engines),
                         "error": problem})
            out.write()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--sizes", nargs="+", default=["small", "medium"],
                        choices=["small", "medium"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="", choices=["", "fp16", "bf16", "fp32"],
                        help="default fp16, on a CPU fp32")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each throughput")
    parser.add_argument("--inputs", nargs="+", default=["uint8"], choices=["uint8", "float32"],
                        help="type of the image in the host's memory, for latency")
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 16, 32, 64, 128])
    parser.add_argument("--compile-batches", nargs="*", type=int, default=[1, 16, 128],
                        help="batches for torch.compile, which compiles for each")
    parser.add_argument("--limit", type=float, default=60, help="seconds for what does not compile")
    parser.add_argument("--compile-limit", type=float, default=120,
                        help="seconds for an engine and size that compiles")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # So that what was started ends with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.precision = arguments.precision or ("fp32" if arguments.device == "cpu" else "fp16")
    about = {"torch": torch.__version__, "device": "cpu",
             "date": time.strftime("%Y-%m-%d"), "image": f"{SIDE}x{SIDE}"}
    if arguments.device != "cpu":
        if not torch.cuda.is_available():
            sys.exit("there is no CUDA device")
        about |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version()}
        torch.backends.cudnn.benchmark = True
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    out = Measurements(arguments.output, about)
    if arguments.here:
        for model_size in arguments.sizes:
            for engine in arguments.engines:
                measure(arguments, model_size, engine, out)
    else:
        plain = [engine for engine in arguments.engines if engine not in COMPILED]
        if plain:
            in_another_process(arguments, arguments.sizes, plain, arguments.limit, out)
        for engine in arguments.engines:
            for model_size in arguments.sizes:
                if engine in COMPILED:
                    in_another_process(arguments, [model_size], [engine],
                                       arguments.compile_limit, out)
    failed = [result for result in out.content["results"] if "error" in result]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

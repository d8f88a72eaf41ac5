#!/usr/bin/env python3
"""Collects what gpu_check.sh measured; called by it.

  scripts/gpu_check.py describe             the machine, as JSON on stdout
  scripts/gpu_check.py collect LOGS OUTPUT  OUTPUT/gpu_check.json and gpu_check.md; prints the latter

Exit status of collect: 1 if a test, a comparison or a measurement failed. What is missing or cannot
be read is left out of the tables, and the list of parts at the end says why.
"""

import csv
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

SIZES = ("small", "medium")


def output_of(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True,
                              timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def describe() -> dict:
    names = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")
    values = output_of("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader")
    fields = [field.strip() for field in (values.splitlines() or [""])[0].split(",")]
    about = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(),
             "processor": platform.machine(), "python": platform.python_version()}
    about |= dict(zip(("gpu", "driver", "memory", "clock_max", "power_limit"), fields))
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                about["processor"] = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    try:
        import torch

        about |= {"torch": torch.__version__, "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version()}
        if torch.cuda.is_available():
            about["gpu"] = torch.cuda.get_device_name()
            about["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    except Exception as error:  # Without torch the rest is still worth having.
        about["torch_problem"] = str(error)
    return about


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def last_json(path: Path) -> dict:
    """The last line that is an object."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return {}


def read_steps(logs: Path) -> list[dict]:
    try:
        with open(logs / "steps.tsv", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                    if len(row) == 5]
    except OSError:
        return []
    return [{"name": name, "status": int(status) if re.fullmatch(r"\d+", status) else status,
             "seconds": float(seconds), "limit_seconds": int(limit), "command": command}
            for name, status, seconds, limit, command in rows]


def read_tests(logs: Path, step: dict) -> dict:
    """Counts of a GoogleTest program, also of one that crashed."""
    name = step["name"].removeprefix("tests-")
    try:
        text = (logs / f"{step['name']}.out").read_text(errors="replace")
    except OSError:
        text = ""
    ended = {}
    for result, test in re.findall(r"^\[ *(OK|FAILED|SKIPPED) *\] (\S+?\.\S+?)(?:,| \(|$)", text,
                                   re.M):
        ended.setdefault(test, result)
    begun = re.findall(r"^\[ RUN +\] (\S+)", text, re.M)
    tests = {
        "program": name,
        "status": step["status"],
        "passed": sorted(test for test, result in ended.items() if result == "OK"),
        "failed": sorted(test for test, result in ended.items() if result == "FAILED"),
        "skipped": sorted(test for test, result in ended.items() if result == "SKIPPED"),
        "not_ended": [test for test in begun if test not in ended],
    }
    messages = re.findall(r"^\S+:\d+: Failure\n(?:.*\n){1,6}", text, re.M)
    tests["messages"] = [message.strip()[:600] for message in messages[:5]]
    try:
        apart = [line.rsplit(" ", 1)
                 for line in (logs / f"apart-{name}.out").read_text().splitlines()]
        tests["apart"] = {test: int(status) for test, status in apart}
    except (OSError, ValueError):
        pass
    return tests


def read_sanitizer(logs: Path, step: dict) -> dict:
    text = ""
    for kind in ("out", "log"):
        try:
            text += (logs / f"{step['name']}.{kind}").read_text(errors="replace")
        except OSError:
            pass
    found = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    return {"run": step["name"].removeprefix("sanitizer-"), "status": step["status"],
            "errors": int(found[-1]) if found else None,
            "first": re.findall(r"^={9} (Invalid.*(?:\n={9}.*){0,3})", text, re.M)[:1]}


def collect(logs: Path) -> dict:
    steps = read_steps(logs)
    content = {"about": read_json(logs / "about.json"), "called": "", "tests": [], "verify": [],
               "sanitizer": [], "latency": [], "throughput": [], "peers": [], "training": [],
               "auroc": [], "distill": {}, "steps": steps}
    try:
        content["called"] = (logs / "called").read_text().strip()
    except OSError:
        pass
    for step in steps:
        name = step["name"]
        kind, _, rest = name.partition("-")
        result = last_json(logs / f"{name}.out")
        if kind == "tests":
            content["tests"].append(read_tests(logs, step))
        elif kind == "sanitizer":
            content["sanitizer"].append(read_sanitizer(logs, step))
        elif kind == "verify":
            model, precision, batch = rest.rsplit("-", 2)
            content["verify"].append({"model": model, "precision": precision, "batch": int(batch),
                                      "status": step["status"], **result})
        elif kind in ("latency", "throughput") and result:
            size, precision = rest.rsplit("-", 1)
            content["latency"].append({"model_size": size, "precision": precision, "during": kind,
                                       **result})
            if result.get("throughput"):
                content["throughput"].append({"model_size": size, "precision": precision,
                                              "throughput": result["throughput"],
                                              "callers": result.get("callers")})
        elif name.startswith("auroc-") and rest != "train" and result:
            content["auroc"].append({"precision": rest, **{key: result.get(key) for key in (
                "category", "image_auroc", "pixel_auroc", "au_pro", "counts")}})
        elif name == "distill":
            content["distill"] = {"status": step["status"], "seconds": step["seconds"], **result}
    for name in ("peers", "peers-compiled", "peers-autotuned"):
        content["peers"] += read_json(logs / f"{name}.json").get("results", [])
    content["training"] = read_json(logs / "training.json").get("results", [])
    content["problems"] = problems_of(content)
    content["ratios"] = ratios_of(content)
    return content


def problems_of(content: dict) -> list[str]:
    """Why the exit status is 1."""
    problems = []
    for tests in content["tests"]:
        bad = tests["failed"] + tests["not_ended"]
        if bad or tests["status"] != 0 or not tests["passed"]:
            what = f"{', '.join(bad)}" if bad else "no test passed" if not tests["passed"] else ""
            problems.append(f"{tests['program']}: status {tests['status']} {what}".strip())
    for verify in content["verify"]:
        if verify["status"] != 0 or not verify.get("equal"):
            problems.append(f"verify {verify['model']} {verify['precision']} batch "
                            f"{verify['batch']}: status {verify['status']}, largest difference of "
                            f"maps {number(verify.get('map_difference_max'), '.1e')}, scores "
                            f"{number(verify.get('score_difference_max'), '.1e')}")
    for sanitizer in content["sanitizer"]:
        if sanitizer["errors"]:
            problems.append(f"compute-sanitizer, {sanitizer['run']}: {sanitizer['errors']} errors")
    for step in content["steps"]:
        if step["name"].startswith(("latency-", "throughput-", "sanitizer-")) and \
                step["status"] not in (0, "skipped"):
            problems.append(f"{step['name']}: status {step['status']}")
    for latency in content["latency"]:
        if latency.get("engine") == "cuda" and not latency.get("orders_ms"):
            problems.append(f"{latency['during']} {latency['model_size']} {latency['precision']}: "
                            "not recorded as a CUDA graph")
    return problems


def latency_of(content: dict, size: str, engine: str) -> float | None:
    """Mean of the mean latencies at batch 1, for ours (fp16, or what there is) or a peer."""
    if engine == "ours":
        half = [entry for entry in content["latency"] if entry["model_size"] == size
                and entry["precision"] in ("fp16", content_precision(content))]
        times = [entry["latency_ms_mean"] for entry in half if entry.get("latency_ms_mean")]
        return sum(times) / len(times) if times else None
    times = [entry["latency_ms_mean"] for entry in content["peers"]
             if entry.get("model_size") == size and entry.get("engine") == engine
             and entry.get("latency_ms_mean")]
    return min(times) if times else None


def content_precision(content: dict) -> str:
    """What ours is compared in: fp16, or without a GPU what there is."""
    kinds = [entry["precision"] for entry in content["latency"]]
    return "fp16" if "fp16" in kinds or not kinds else kinds[0]


def ratios_of(content: dict) -> dict:
    ratios = {}
    for size in SIZES:
        ours = latency_of(content, size, "ours")
        eager = latency_of(content, size, "PyTorch eager")
        if ours and eager:
            ratios[f"latency_{size}_eager_over_ours"] = eager / ours
        steps = {entry["program"]: entry["steps_per_second"] for entry in content["training"]
                 if entry.get("model_size") == size and entry.get("steps_per_second")}
        for program, rate in steps.items():
            if program.startswith("ours") and steps.get("anomalib, fp32"):
                ratios[f"training_{size}_{program}_over_anomalib"] = rate / steps["anomalib, fp32"]
    return ratios


def number(value, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines) + "\n"


def markdown(content: dict) -> str:
    about = content["about"]
    parts = [f"# On a GPU: {about.get('gpu') or 'none'}\n",
             f"{about.get('date', '')}, driver {about.get('driver', '–')}, torch "
             f"{about.get('torch', '–')}, CUDA {about.get('cuda', '–')}, cuDNN "
             f"{about.get('cudnn', '–')}, {about.get('cores', '–')} cores of "
             f"{about.get('processor', '–')}\n\n    {content['called']}\n"]
    if content["problems"]:
        parts.append("**Failed:**\n\n" + "\n".join(f"- {what}" for what in content["problems"])
                     + "\n")

    if content["latency"] or content["peers"]:
        rows = []
        for size in SIZES:
            ours = latency_of(content, size, "ours")
            mine = [entry for entry in content["latency"] if entry["model_size"] == size]
            for entry in mine:
                rows.append([size, "ours" if entry["during"] == "latency" else "ours, again",
                             entry["precision"], entry])
            rows += [[size, entry["engine"] + (", image in float32" if entry.get("input") ==
                                               "float32" else ""), entry["precision"], entry]
                     for entry in content["peers"]
                     if entry.get("model_size") == size and entry.get("kind") == "latency"
                     and "error" not in entry]
            for row in rows:
                if not isinstance(row[-1], dict):
                    continue
                entry = row.pop()
                mean = entry.get("latency_ms_mean")
                row += [number(mean, ".3f"), number(entry.get("latency_ms_median"), ".3f"),
                        number(entry.get("latency_ms_p99"), ".3f"),
                        number(mean / ours if mean and ours else None, ".2f"),
                        number(entry.get("image_to_score_ms"), ".2f")]
        parts.append("## Latency, batch 1\n\nFrom an image (256x256, uint8) in the host's memory to "
                     "its map there, milliseconds; last, from a decoded image of 1024x1024 px to "
                     "its score, resized on the GPU both ways.\n\n"
                     + table(["model", "engine", "precision", "mean", "median", "99 % are below",
                              "mean / ours", "1024 px to score"], rows))

        rows = [[entry["model_size"], entry["precision"], order, number(milliseconds, ".3f"),
                 "yes" if order == entry.get("order") else ""]
                for entry in content["latency"] if entry["during"] == "latency"
                for order, milliseconds in entry.get("orders_ms", {}).items()]
        if rows:
            parts.append("Orders of the networks (the PDNs, whose order is the inner one, and the "
                         "autoencoder) that were tried when the graph was recorded:\n\n"
                         + table(["model", "precision", "order", "ms", "used"], rows))

        rates = {}
        for entry in content["throughput"]:
            key = (entry["model_size"], f"ours, {entry.get('callers') or 1} callers")
            rates[key] = {row["batch"]: row["images_per_second"] for row in entry["throughput"]}
            watts = {row["batch"]: row["watts"] for row in entry["throughput"] if row.get("watts")}
            if watts:
                rates[(entry["model_size"], "ours, watts")] = watts
        for entry in content["peers"]:
            if entry.get("kind") == "throughput" and "error" not in entry:
                rates.setdefault((entry["model_size"], entry["engine"]), {})[
                    entry["batch"]] = entry["images_per_second"]
        if rates:
            batches = sorted({batch for rate in rates.values() for batch in rate})
            rows = [[size, engine, *(number(rate.get(batch), ".0f") for batch in batches)]
                    for (size, engine), rate in sorted(
                        rates.items(), key=lambda item: SIZES.index(item[0][0]))]
            parts.append("## Throughput\n\nImages a second by batch; ours from the host's memory to "
                         "maps there, the others' images are in the GPU's memory already and their "
                         "maps stay there.\n\n"
                         + table(["model", "engine", *map(str, batches)], rows))

    if content["verify"]:
        rows = [[entry["model"], entry["precision"], str(entry["batch"]),
                 *(number(entry.get(key), ".1e") for key in (
                     "map_difference_p99", "map_difference_max", "score_difference_p99",
                     "score_difference_max")),
                 number(entry.get("tolerance"), "g"),
                 "yes" if entry["status"] == 0 and entry.get("equal") else "**no**"]
                for entry in sorted(content["verify"], key=lambda entry: (
                    entry["model"] != "small", entry["model"], entry["precision"],
                    entry["batch"]))]
        parts.append("## Against the CPU's reference engine\n\nDifferences as shares of the "
                     "reference's range.\n\n"
                     + table(["model", "precision", "batch", "maps, 99 % below", "maps, largest",
                              "scores, 99 % below", "scores, largest", "tolerance", "within"],
                             rows))

    if content["training"]:
        rows = []
        for size in SIZES:
            of_size = [entry for entry in content["training"] if entry.get("model_size") == size]
            base = [entry.get("steps_per_second") for entry in of_size
                    if entry["program"] == "anomalib, fp32"]
            for entry in of_size:
                rate = entry.get("steps_per_second")
                rows.append([size, entry["program"], number(rate, ".1f"),
                             number(entry.get("ms_per_step"), ".2f"),
                             number(rate / base[0] if rate and base and base[0] else None, ".2f")])
        parts.append("## Training, batch 1\n\n"
                     + table(["model", "program", "steps/s", "ms a step", "times anomalib, fp32"],
                             rows))

    if content["auroc"]:
        rows = [[entry["precision"], number(entry["image_auroc"], ".5f"),
                 number(entry["pixel_auroc"], ".5f")] for entry in content["auroc"]]
        parts.append(f"## Accuracy, {content['auroc'][0]['category']}\n\n"
                     + table(["precision", "image AUROC", "pixel AUROC"], rows))

    if content["distill"]:
        distill = content["distill"]
        parts.append(f"## Distillation\n\nStatus {distill['status']} after {distill['seconds']} s, "
                     f"explained variance {number(distill.get('explained_variance'), '.3f')}\n")

    if content["tests"] or content["sanitizer"]:
        rows = [[tests["program"], *(str(len(tests[key])) for key in (
            "passed", "failed", "skipped", "not_ended")), str(tests["status"]),
            ", ".join(f"{test}: {'passes' if status == 0 else f'status {status}'}"
                      for test, status in tests.get("apart", {}).items())]
            for tests in content["tests"]]
        parts.append("## Tests\n\n" + table(["program", "passed", "failed", "skipped", "not ended",
                                             "status", "apart"], rows))
        parts += [f"- {message.splitlines()[0]} {' '.join(message.split()[2:])[:300]}\n"
                  for tests in content["tests"] for message in tests["messages"]]
        parts += [f"compute-sanitizer memcheck, {run['run']}: "
                  f"{'not done' if run['errors'] is None else str(run['errors']) + ' errors'} (status "
                  f"{run['status']})\n" for run in content["sanitizer"]]

    errors = [entry for entry in content["peers"] + content["training"] if "error" in entry]
    bad = [step for step in content["steps"] if step["status"] != 0]
    if errors or bad:
        parts.append("## Not measured\n\n" + "".join(
            [f"- {step['name']}: status {step['status']} after {step['seconds']} of "
             f"{step['limit_seconds']} s\n" for step in bad]
            + [f"- {entry.get('model_size')}, {entry.get('engine') or entry.get('program')}"
               f"{', batch ' + str(entry['batch']) if 'batch' in entry else ''}: "
               f"{' '.join(entry['error'].split())[:200]}\n" for entry in errors]))
    return "\n".join(parts)


def main() -> None:
    if sys.argv[1:] == ["describe"]:
        print(json.dumps(describe()))
        return
    if len(sys.argv) != 4 or sys.argv[1] != "collect":
        sys.exit(__doc__)
    content = collect(Path(sys.argv[2]))
    output = Path(sys.argv[3])
    output.mkdir(parents=True, exist_ok=True)
    text = markdown(content)
    for name, written in (("gpu_check.json", json.dumps(content, indent=1) + "\n"),
                          ("gpu_check.md", text)):
        (output / f"{name}.part").write_text(written)
        os.replace(output / f"{name}.part", output / name)
    print(text)
    sys.exit(1 if content["problems"] else 0)


if __name__ == "__main__":
    main()

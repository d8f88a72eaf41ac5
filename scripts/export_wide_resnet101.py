#!/usr/bin/env python3
"""Writes the paper's backbone, WideResNet-101-2 with ImageNet weights, as TorchScript for
`efficientad distill --backbone wide_resnet101_2.pt --target patch`.

Needs torch and torchvision, and torchvision's weights (a download, or a file given by --weights).
The module maps ImageNet-normalised images [N, 3, 512, 512] to the outputs of layer2 and layer3:
[N, 512, 64, 64] and [N, 1024, 32, 32].

  python3 -m venv /tmp/export && . /tmp/export/bin/activate && pip install torch torchvision
  scripts/export_wide_resnet101.py wide_resnet101_2.pt
"""
import argparse

import torch
import torchvision


class Layers(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.stem = torch.nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool,
                                        network.layer1)
        self.layer2 = network.layer2
        self.layer3 = network.layer3

    def forward(self, x):
        finer = self.layer2(self.stem(x))
        return finer, self.layer3(finer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("output")
    parser.add_argument("--weights", help="state dict of torchvision's wide_resnet101_2 (.pth)")
    arguments = parser.parse_args()
    if arguments.weights:
        network = torchvision.models.wide_resnet101_2(weights=None)
        network.load_state_dict(torch.load(arguments.weights, weights_only=True))
    else:
        network = torchvision.models.wide_resnet101_2(weights="IMAGENET1K_V1")
    module = torch.jit.script(Layers(network.eval()))
    module.save(arguments.output)
    finer, coarser = torch.jit.load(arguments.output)(torch.zeros(1, 3, 512, 512))
    print(arguments.output, tuple(finer.shape), tuple(coarser.shape))


if __name__ == "__main__":
    main()

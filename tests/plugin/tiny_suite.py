"""A suite that takes a moment: two convolutions and a linear layer on 8 x 8 noise, labelled by the model itself."""

from pytest_ptq import Suite, Variant

CALIBRATION, EVALUATION = 32, 64


class Tiny:
    def build(self, weights=None):
        import torch
        from torch import nn

        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
        ).eval()  # fmt: skip


class Noise:
    name = "noise"

    def load(self, argument=None):
        import torch

        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(CALIBRATION + EVALUATION, 3, 8, 8, generator=generator)
        with torch.no_grad():
            self.labels = Tiny().build()(self.images).argmax(1)
        return self

    def calibration(self):
        return list(self.images[:CALIBRATION].split(16))

    def evaluation(self):
        return list(zip(self.images[CALIBRATION:].split(16), self.labels[CALIBRATION:].split(16), strict=True))

    def fingerprints(self):
        split = self.images[:CALIBRATION], self.images[CALIBRATION:]
        return tuple((str(image.tolist()) for image in images) for images in split)


suite = Suite(
    name="tiny",
    variants={"embedded": Variant(model=Tiny(), data=Noise())},
    latency_shape=(1, 3, 8, 8),
)

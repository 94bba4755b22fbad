"""A baseline file as it stands in a project, for tests that read and damage it."""

from __future__ import annotations

from pytest_ptq.metrics import ACCURACY_DROP, Measurement

KEY = "avx512_vnni/onednn/2t/torch2.15"
TEXT = """\
{
  "schema": 2,
  "suite": "net",
  "comment": "reviewed by people",
  "data": {
    "embedded": {
      "limits": {
        "x86": {
          "size_reduction_x": 3.5,
          "accuracy_drop_pp": 1.0,
          "comment": "0.5 once the observer is better"
        }
      },
      "tolerances": {
        "latency_ratio": 0.1
      },
      "recorded": {
        "avx512_vnni/onednn/2t/torch2.15": {
          "x86": {
            "accuracy_drop_pp": {
              "value": 0.12,
              "low": -0.1,
              "high": 0.34,
              "samples": 10000,
              "date": "2026-01-30",
              "versions": "torch 2.15.0"
            }
          }
        }
      }
    }
  }
}
"""


def drop(value=0.2):
    return Measurement(ACCURACY_DROP, value, value - 0.1, value + 0.1, samples=500, details={"mcnemar_p": 0.5})


def corrupt(old, new):
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def xfail(value):
    return corrupt('      "tolerances"', f'      "xfail": {value},\n      "tolerances"')

"""The benchmark of transfers to a device, on the CPU and on tiny data."""

import pytest
import torch

from benchmarks import device

CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    # Raised by Lightning's own code.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
]


def test_it_says_that_there_is_no_accelerator(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.main(["--work", str(tmp_path / "work")])
    assert capsys.readouterr().out == "no accelerator\n"
    assert not (tmp_path / "work").exists()


def test_it_checks_and_measures_every_setting(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(device, "SAMPLES", {16: 200, 32: 20})
    monkeypatch.setattr(device, "BATCHES", (8,))
    monkeypatch.setattr(device, "WORKERS", (0, 2))
    monkeypatch.setattr(device, "LINK_BYTES", 1000)
    device.report(tmp_path, CPU, seconds=0.001)
    printed = capsys.readouterr().out
    assert "without waiting for it: not checked on cpu\n" in printed
    assert "training in bf16-mixed: yes\n" in printed
    assert "with device_ids: yes\n" in printed
    assert "reads the rest of its epoch: yes\n" in printed
    assert "the link alone: " in printed
    rows = [line.split(" | ")[:3] for line in printed.splitlines() if line.startswith("| ")]
    settings = [[f"| {size}x{size}", "8", workers] for size in (16, 32) for workers in "02"]
    assert rows[1:] == settings or rows[2:] == settings


def test_shares_of_the_link_are_those_of_the_bytes():
    rate = device.Rate(size=100, batch_size=64, workers=2, images_per_second=1000.0)
    assert rate.bytes_per_second == 3e7
    assert "| 100x100 | 64 | 2 | 1,000 | 0.03 | 50% |" in device.table([rate], link=6e7)

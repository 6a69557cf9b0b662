"""A device is what was asked for, or an error that says why not."""

import psutil
import pytest
import torch

from app.training.device import DeviceError, choose, describe, free_mb, threads


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose("auto") == torch.device("cpu")


def test_auto_is_the_first_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose("auto") == torch.device("cuda:0")
    assert choose("cuda") == torch.device("cuda:0")
    assert choose("cuda:1") == torch.device("cuda:1")
    assert choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("wanted", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused_with_what_to_look_at(monkeypatch, wanted, gpus):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(DeviceError, match=f"got '{wanted}', .* sees {gpus} GPUs here; write auto or cpu"):
        choose(wanted)


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:x", "cuda:-1", "cpu:0", "CUDA", "mps"])
def test_other_words_are_refused_with_the_right_ones(wanted):
    with pytest.raises(DeviceError, match="write auto, cpu, cuda or cuda:N"):
        choose(wanted)


def test_the_cpu_is_described_by_its_name():
    assert describe(torch.device("cpu")) == "cpu"


def test_free_memory_is_this_machine_s_or_the_gpu_s(monkeypatch):
    total = psutil.virtual_memory().total / 2**20
    assert 0 < free_mb(torch.device("cpu")) < total
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (3 * 2**30 + 5, 8 * 2**30))
    assert free_mb(torch.device("cuda", 1)) == 3072


def test_threads_are_set_inside_and_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_no_number_of_threads_leaves_them_alone():
    before = torch.get_num_threads()
    with threads(None):
        assert torch.get_num_threads() == before

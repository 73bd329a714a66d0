from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.channels import built, disturb, outputs
from sartor.errors import PruningError
from sartor.prune.channels import ChannelPlan, fuse, load_small, plan, save_small

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
NAME = "vit-s(depth=2, width=48, heads=4)"


def test_a_small_network_is_the_same_in_a_new_process(tmp_path: Path) -> None:
    dense = disturb(built(NAME))
    made = plan(dense, IMAGE, 0.5)
    small = disturb(made.shrink(dense), seed=4)
    save_small(tmp_path, small, made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "plan.json"]
    save_file({"inputs": IMAGE}, tmp_path / "inputs.safetensors")
    program = f"""
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from sartor.models.build import build_model
from sartor.prune.channels import load_small
torch.set_num_threads(1)
folder = Path({str(tmp_path)!r})
dense = build_model({NAME!r}, classes=10, input_shape=(3, 32, 32), seed=7)
small, _ = load_small(folder, dense)
inputs = load_file(folder / "inputs.safetensors")["inputs"]
with torch.no_grad():
    save_file({{"outputs": small.eval()(inputs)}}, folder / "outputs.safetensors")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert torch.equal(load_file(tmp_path / "outputs.safetensors")["outputs"], outputs(small, IMAGE))


@pytest.mark.parametrize("name", ["resnet8", NAME])
def test_weights_statistics_and_plan_come_back(name: str, tmp_path: Path) -> None:
    dense = disturb(built(name))
    made = plan(dense, IMAGE, 0.5)
    small = disturb(made.shrink(dense), seed=4).bfloat16()
    save_small(tmp_path / "new" / "folder", small, made)
    again, read = load_small(tmp_path / "new" / "folder", built(name, seed=9))
    wanted, found = small.state_dict(), again.state_dict()
    assert list(wanted) == list(found)
    for key, tensor in wanted.items():
        assert tensor.dtype == found[key].dtype
        assert torch.equal(tensor, found[key])
    assert read.groups == made.groups
    assert read.about == made.about
    fused = [fuse(dense, small, either, complement="preserving").state_dict() for either in (made, read)]
    assert all(torch.equal(fused[0][key], fused[1][key]) for key in fused[0])


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = nn.Embedding(20, 8), nn.Linear(8, 8)
            self.out = nn.Linear(8, 20, bias=False)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.inner(self.table(x))))

    dense = Tied()
    made = plan(dense, torch.zeros(1, 3, dtype=torch.int64), 0.5)
    small = disturb(made.shrink(dense))
    save_small(tmp_path, small, made)
    again, _ = load_small(tmp_path, Tied())
    assert isinstance(again, Tied)
    assert again.out.weight is again.table.weight
    assert torch.equal(again.table.weight, small.get_parameter("table.weight"))


def test_what_does_not_belong_together_is_refused_in_words(tmp_path: Path) -> None:
    dense = built("resnet8")
    made = plan(dense, IMAGE[:1], 0.5)
    small = made.shrink(dense)
    with pytest.raises(PruningError, match="is not the small network of the plan"):
        save_small(tmp_path, dense, made)
    with pytest.raises(PruningError, match="there is no plan"):
        load_small(tmp_path, dense)
    save_small(tmp_path, small, made)
    with pytest.raises(
        PruningError, match=r"is not the dense network of the plan: .*make the network with the factory"
    ):
        load_small(tmp_path, built("resnet14"))
    other = plan(dense, IMAGE[:1], 0.25)
    save_file(other.shrink(dense).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(PruningError, match=r"does not fit the plan beside it .*one save_small"):
        load_small(tmp_path, dense)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PruningError, match=r"model.safetensors is missing or damaged .*save_small"):
        load_small(tmp_path, dense)


def test_damaged_plan_files_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan(built("resnet8"), IMAGE[:1], 0.5).save(path)
    text = path.read_text()
    content = json.loads(text)
    for damaged, words in (
        (text[:-100], "is no plan, or a damaged one .*save it anew"),
        ("[1, 2]", "is no plan, or a damaged one"),
        ("{}", "is no plan of format 1 .its format: none.; save it anew"),
        (text.replace('"format": 1', '"format": 9'), "is no plan of format 1 .its format: 9."),
        (json.dumps(content | {"kept": content["kept"][1:]}), "was changed since it was saved, or damaged"),
        (json.dumps(content | {"shapes": {}}), "was changed since it was saved, or damaged"),
    ):
        path.write_text(damaged)
        with pytest.raises(PruningError, match=words) as caught:
            ChannelPlan.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(PruningError, match=r"there is no plan .*plan.save"):
        ChannelPlan.load(tmp_path / "none.json")

"""Quick LoRA layers give peft's results: copies are never stale, groups share what is theirs."""

from copy import deepcopy

import bitsandbytes
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint

from trainer_backend.training.kernels import lora_product
from trainer_backend.training.kernels.lora import quicken_lora
from trainer_backend.training.kernels.lora_product import AdaptedLinears, Operands, Product

IDS = torch.arange(4, 44)[None]


def adapted(make_model, **settings):
    torch.manual_seed(3)
    usual = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    config = LoraConfig(**{**usual, "init_lora_weights": False, **settings})
    return get_peft_model(make_model(), config).train()


def grouped(model):
    """Quicken, let one forward pass show the groups, and form them."""
    quick = quicken_lora(model)
    with torch.no_grad():
        model(input_ids=IDS)
    quick.groups.settle()
    return quick


def loss_of(model, autocast: bool, ids=IDS):
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(input_ids=ids, labels=ids, use_cache=False).loss


def step(model, autocast: bool):
    loss = loss_of(model, autocast)
    loss.backward()
    grads = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return loss.detach(), torch.cat(grads)


def expect_near(quick, plain, autocast: bool):
    """The same in float32; in bf16 no farther from float32 than peft's way is."""
    loss, grads = step(quick, autocast)
    _, others = step(plain, autocast)
    expected, wanted = step(plain, False)
    assert torch.allclose(loss, expected, rtol=5e-2 if autocast else 1e-5)
    assert grads.shape == wanted.shape
    error, noise = (grads - wanted).norm(), (others - wanted).norm()
    assert error <= 1.5 * noise + 1e-5 * wanted.norm()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("autocast", [False, True])
def test_quick_lora(make_model, dropout, autocast):
    plain, quick = (adapted(make_model, lora_dropout=dropout) for _ in range(2))
    assert len(grouped(quick).layers) == 14
    expect_near(quick, plain, autocast)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}], ids=str)
def test_other_layers_go_pefts_way(make_model, settings):
    if "lora_bias" in settings:
        model = adapted(
            lambda: make_model(attention_bias=True), target_modules=["q_proj"], **settings
        )
    else:
        model = adapted(make_model, **settings)
    assert quicken_lora(model).layers == []


def test_a_switched_off_adapter_is_off_and_evaluation_is_pefts(make_model):
    model = adapted(make_model)
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    grouped(model)
    with torch.no_grad():
        assert torch.equal(model.eval()(input_ids=ids).logits, before)
    model.train()
    with model.disable_adapter():
        off = model(input_ids=ids).logits
    assert torch.allclose(off, make_model()(input_ids=ids).logits, atol=1e-6)


# The product


def test_in_bf16_the_product_rounds_where_one_operation_after_the_other_does():
    torch.manual_seed(0)
    half = torch.bfloat16
    x, w, a, b, g = (
        torch.randn(s).to(half) for s in ((40, 32), (48, 32), (4, 32), (48, 4), (40, 48))
    )
    x.requires_grad_()
    masters = [a.float().requires_grad_(), b.float().requires_grad_()]
    product = Product((Operands(w, None, b, 2.0),), a, None)
    (out,) = AdaptedLinears.apply(x, None, product, *masters)
    found = torch.autograd.grad(out, [x, *masters], g)

    with torch.no_grad():
        low, for_low = x @ a.t(), g @ b
        expected = (x @ w.t()).addmm_(low, b.t(), alpha=2.0)
        for_x = (g @ w).addmm_(for_low, a, alpha=2.0)
        for_a, for_b = (for_low.t() @ x).mul_(2.0), (g.t() @ low).mul_(2.0)
    assert torch.equal(out, expected)
    for one, wanted in zip(found, (for_x, for_a.float(), for_b.float()), strict=True):
        assert one.dtype == wanted.dtype
        assert torch.equal(one, wanted)


def test_a_device_that_writes_float32_products_is_asked_once(monkeypatch):
    asked = []

    def mm(left, right, out_dtype):
        asked.append(out_dtype)
        return left.float() @ right.float()

    monkeypatch.setattr(torch, "mm", mm)
    plain = lora_product.writes_float32.__wrapped__
    monkeypatch.setattr(torch, "arange", lambda *n, device, full=torch.arange: full(*n))
    assert plain("cuda", torch.bfloat16)
    monkeypatch.setattr(torch, "mm", lambda left, right, out_dtype: left @ right)
    assert not plain("cuda", torch.bfloat16), "rounded products were taken for float32"
    assert asked == [torch.float32]


# Copies


def by_optimizer(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    model.zero_grad()


def by_loading(model):
    state = {k: v * 1.5 for k, v in model.state_dict().items() if "lora" in k}
    model.load_state_dict(state, strict=False)


def in_place(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.mul_(1.5)


def without_a_trace(model):
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data.mul_(1.5)  # bitsandbytes' optimizers leave the version alone, too


def by_swapping(model):
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data * 1.5


def by_switching(model):
    torch.manual_seed(9)
    settings = {"target_modules": "all-linear", "init_lora_weights": False}
    model.add_adapter("other", LoraConfig(r=2, lora_alpha=6, **settings))
    model.set_adapter("other")


CHANGES = [by_optimizer, by_loading, in_place, without_a_trace, by_swapping, by_switching]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("autocast", [False, True])
def test_copies_are_never_stale(make_model, change, autocast):
    used, fresh = (adapted(make_model) for _ in range(2))
    for model in (used, fresh):
        grouped(model)
    before, _ = step(used, autocast)
    change(used), change(fresh)
    (loss, grads), (expected, wanted) = step(used, autocast), step(fresh, autocast)
    assert loss != before
    assert torch.equal(loss, expected)
    assert torch.equal(grads, wanted)


def test_a_part_called_for_itself_sees_weights_changed_without_a_trace(make_model):
    model, plain = (adapted(make_model) for _ in range(2))
    quick = grouped(model)
    with torch.autocast("cpu", torch.bfloat16):
        step(model, True)
        without_a_trace(model), without_a_trace(plain)
        x = torch.randn(3, quick.layers[0].in_features)
        twin = next(m for m in plain.modules() if type(m) is type(quick.layers[0]))
        close = (quick.layers[0](x) - twin(x)).norm() <= 1e-2 * twin(x).norm()
    assert close


@pytest.mark.parametrize("autocast", [False, True])
def test_two_passes_may_wait_for_one_backward_pass(make_model, autocast):
    model = adapted(make_model)
    grouped(model)
    other = IDS + 100
    expected = []
    for ids in (IDS, other):
        loss_of(model, autocast, ids).backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    both = [loss_of(model, autocast, ids) for ids in (IDS, other)]
    (both[0] + both[1]).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    for one, wanted in zip(found, expected, strict=True):
        assert torch.allclose(one, wanted, rtol=1e-4, atol=1e-6)


def test_the_buffer_is_used_again_once_no_graph_needs_it(make_model):
    model = adapted(make_model)
    quick = grouped(model)
    places = []
    for _ in range(2):
        step(model, True)
        places.append(next(iter(quick.copies.ready.values())).stack.data_ptr())
    kept = loss_of(model, True)
    loss_of(model, True)
    places.append(next(iter(quick.copies.ready.values())).stack.data_ptr())
    assert kept.requires_grad
    assert places[0] == places[1] != places[2]


def test_adapters_are_cast_in_one_call_a_pass(make_model):
    model = adapted(make_model)
    grouped(model)
    step(model, True)
    with torch.profiler.profile() as profile:
        step(model, True)
    calls = [e for e in profile.events() if e.name == "aten::_foreach_copy_"]
    assert len(calls) == 1


def test_a_copied_model_computes_with_its_own_weights(make_model):
    model = adapted(make_model)
    grouped(model)
    step(model, True)
    twin = deepcopy(model)
    before, _ = step(twin, True)
    in_place(twin)
    assert step(twin, True)[0] != before
    assert torch.equal(step(model, True)[0], before)


# Groups


def test_layers_of_one_input_are_found_by_trying(make_model):
    quick = grouped(adapted(make_model))
    sets = [len(layers) for layers in quick.groups.sets()]
    assert sorted(sets) == [1, 1, 1, 1, 2, 2, 3, 3]


def products(model) -> int:
    with torch.profiler.profile() as profile:
        step(model, False)
    return sum(e.name in ("aten::mm", "aten::addmm_", "aten::addmm") for e in profile.events())


def test_a_group_saves_three_products_for_each_layer_after_the_first(make_model):
    alone, together = (adapted(make_model) for _ in range(2))
    quicken_lora(alone)
    grouped(together)
    # two layers of q-k-v and gate-up; nothing learns below the first q-k-v
    assert products(alone) - products(together) == 2 * 3 * 3 - 2


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True, "rank_pattern": {"k_proj": 8, "up_proj": 1}},
        {"alpha_pattern": {"v_proj": 3}, "rank_pattern": {"q_proj": 2}},
        {"target_modules": ["q_proj", "v_proj", "up_proj"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("autocast", [False, True])
def test_ranks_and_scales_may_differ_in_a_group(make_model, settings, autocast):
    plain, quick = (adapted(make_model, **settings) for _ in range(2))
    grouped(quick)
    expect_near(quick, plain, autocast)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_checkpointed_layers_give_the_same(make_model, reentrant, autocast):
    usual, checkpointed = (adapted(make_model) for _ in range(2))
    grouped(usual)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": reentrant})
    checkpointed.enable_input_require_grads()
    grouped(checkpointed)
    (loss, grads), (expected, wanted) = step(checkpointed, autocast), step(usual, autocast)
    close = 1e-5 if not autocast else 5e-2  # a reentrant forward pass is peft's: it has no graph
    assert torch.allclose(loss, expected, rtol=close)
    assert (grads - wanted).norm() <= close * wanted.norm()


class Chooser(torch.nn.Module):
    """Two products of one input, of which a forward pass may need only the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.both = True

    def forward(self, x):
        return self.first(x) * (self.second(x) if self.both else 1.0)


class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Chooser()

    def get_decoder(self):
        return self.inner

    def forward(self, x):
        return self.inner(x)


def chooser():
    torch.manual_seed(0)
    model = Wrapped()
    config = LoraConfig(target_modules=["first", "second"], init_lora_weights=False, r=2)
    return get_peft_model(model, config).train()


def test_a_member_that_is_not_called_gets_no_gradient_and_ends_the_group():
    plain, model = chooser(), chooser()
    x = torch.randn(5, 8)
    quick = quicken_lora(model)
    with torch.no_grad():
        model(x)
    quick.groups.settle()
    for one in (plain, model):
        one.base_model.model.inner.both = False
    for _ in range(3):
        found, wanted = [], []
        for one, grads in ((model, found), (plain, wanted)):
            one(x).square().sum().backward()
            grads += [p.grad for p in one.parameters() if p.requires_grad]
        assert [g is None for g in found] == [g is None for g in wanted]
        assert all(
            torch.allclose(a, b, rtol=1e-4, atol=1e-5)
            for a, b in zip(found, wanted, strict=True)
            if a is not None
        )
        model.zero_grad(), plain.zero_grad()
    assert [len(layers) for layers in quick.groups.sets()] == [1, 1]


def test_an_input_changed_between_two_members_is_multiplied_anew():
    plain, model = chooser(), chooser()
    quick = quicken_lora(model)
    with torch.no_grad():
        model(torch.randn(5, 8))
    quick.groups.settle()
    outs = []
    for one in (model, plain):
        inner, x = one.base_model.model.inner, torch.ones(5, 8)
        first = inner.first.register_forward_hook(lambda m, args, out: args[0].mul_(3.0) and None)
        with torch.no_grad():
            first.remove()
        handle = inner.second.register_forward_pre_hook(lambda m, args: (args[0].mul_(3.0),))
        outs.append(one(x))
        handle.remove()
    assert torch.allclose(*outs, rtol=1e-4, atol=1e-5)


def test_a_checkpointed_group_computes_again():
    model, again = chooser(), chooser()
    x = torch.randn(5, 8, requires_grad=True)
    for one in (model, again):
        quick = quicken_lora(one)
        with torch.no_grad():
            one(x)
        quick.groups.settle()
    model(x).square().sum().backward()
    wanted, x.grad = x.grad, None
    checkpoint(again, x, use_reentrant=False).square().sum().backward()
    assert torch.allclose(x.grad, wanted, rtol=1e-5)


# Four bits


def in_four_bits(make_model, quick: bool, dtype: torch.dtype):
    model = make_model(hidden_size=64, intermediate_size=128).to(dtype)
    for parent in [*model.model.modules()]:
        for name, child in [*parent.named_children()]:
            if type(child) is not torch.nn.Linear:
                continue
            layer = bitsandbytes.nn.Linear4bit(
                child.in_features, child.out_features, bias=False, compute_dtype=dtype
            )
            packed = bitsandbytes.nn.Params4bit(child.weight.data, requires_grad=False)
            layer.weight = packed._quantize("cpu")
            layer.support_avx512bf16_for_cpu = False
            setattr(parent, name, layer)
    model.is_loaded_in_4bit = True
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = adapted(lambda: model, target_modules=names)
    if quick:
        assert len(grouped(model).layers) == 14
    return model


@pytest.mark.parametrize("autocast", [False, True])
def test_layers_in_four_bits(make_model, autocast):
    dtype = torch.bfloat16 if autocast else torch.float32
    plain, quick = (in_four_bits(make_model, quick, dtype) for quick in (False, True))
    expect_near(quick, plain, autocast)


def test_unpacked_weights_are_not_kept_for_the_backward_pass(make_model):
    model = in_four_bits(make_model, True, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        loss_of(model, False)
    assert kept and (128, 64) not in kept and (64, 128) not in kept

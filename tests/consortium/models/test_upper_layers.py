"""Running parts of a model gives what the whole model gives."""

import pytest
import torch
from consortium.models.packing import pack
from consortium.models.upper_layers import top_above
from support.pico import PICO_TYPES, pico_model

SEQUENCES = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17, 18, 19, 20, 21]]
SPLITS = [2, 0, 5]


def whole_model(model, ids):
    """Hidden states after every block, and final ones, of one unpadded sequence."""
    blocks = []
    handles = [
        block.register_forward_hook(lambda _m, _a, out: blocks.append(out[0] if isinstance(out, tuple) else out))
        for block in model.blocks
    ]
    with torch.no_grad():
        final = model.base(input_ids=torch.tensor([ids])).last_hidden_state[0]
    for handle in handles:
        handle.remove()
    return [hidden[0] for hidden in blocks], final


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_top_run_on_its_own_hidden_states_gives_the_whole_models_output(model_type, layer):
    model = pico_model(model_type)
    whole = top_above(model, pack(SEQUENCES, SPLITS), layer)
    for top, numbers in ((whole, [0, 1, 2]), (whole.take([2, 0]), [2, 0])):
        with torch.no_grad():
            final_RSV = top.run(top.hidden_RSV)
        for place, number in enumerate(numbers):
            ids, split = SEQUENCES[number], SPLITS[number]
            _, final = whole_model(model, ids)
            tokens = list(range(split, len(ids)))
            rows, columns = top.suffix_places([place] * len(tokens), tokens)
            torch.testing.assert_close(final_RSV[rows, columns], final[split:], atol=5e-6, rtol=1e-5)


def test_a_change_of_the_suffix_moves_later_tokens_as_in_the_whole_model():
    """Adding δ at one place after block 1 by hook in the whole model, and by Top.run, gives the same."""
    model, ids, split, layer = pico_model("llama"), SEQUENCES[0], 2, 1
    delta = torch.linspace(-1, 1, model.hidden_width)

    def add(_module, _args, out):
        out = out.clone()
        out[0, split] += delta
        return out

    handle = model.blocks[layer].register_forward_hook(add)
    _, expected = whole_model(model, ids)
    handle.remove()
    top = top_above(model, pack([ids], [split]), layer)
    hidden = top.hidden_RSV.clone()
    hidden[0, 0] += delta
    with torch.no_grad():
        torch.testing.assert_close(top.run(hidden)[0], expected[split:], atol=5e-6, rtol=1e-5)

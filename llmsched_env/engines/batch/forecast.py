"""What would be served now: the predicted service time of the first batch of every bin and of `any`.

The times of FIFO bins come from one walk along the queues, since an agent is asked for them at every decision.
"""

from __future__ import annotations

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE
from llmsched_env.core.queues import merged
from llmsched_env.engines.batch.formation import fits
from llmsched_env.engines.batch.prediction import batch_time


@part
def fifo_batch_times(state, record):
    """Write ``record.batch_time`` of every FIFO bin; return that of `any`, or -1.0 where it needs the merged order.

    `any` takes all that wait when its target and the memory allow it: then the order does not matter.
    """
    lane = state.lane
    server = state.servers[max(lane.asked, 0)]
    whole = record.queue_length[lane.num_bins] <= record.target[lane.num_bins]
    first_merged, end_merged = merged(state, 0)
    n_all, prompts_all, squares_all, guess_all, total_all = 0, 0.0, 0.0, 1, 0
    reserved_all, tokens_all, need_all = 0.0, 0.0, 0
    for k in range(lane.num_bins):
        n, prompts, squares, guess, total = 0, 0.0, 0.0, 1, 0
        reserved, tokens, need, closed = 0.0, 0.0, 0, False
        record.batch_time[k] = 0.0
        i = state.bins[k].head
        while i != NONE:
            if not closed and (n == record.target[k] or not fits(state, server, i, n, reserved, tokens)):
                record.batch_time[k] = batch_time(state, server, n, prompts, squares, guess, total)
                closed = True
            if closed and not (whole and first_merged <= k < end_merged):
                break
            request = state.requests[i]
            length, generated, predicted = request.prompt, request.generated, request.predicted
            prompt = float(length + generated)
            n += 1
            prompts += prompt
            squares += prompt * prompt
            guess = max(guess, predicted - generated)
            total = max(total, length + predicted)
            reserved += min(length + predicted, server.eta)
            tokens += predicted
            need = max(need, length + generated + 1)
            i = request.next
        if not closed:
            record.batch_time[k] = batch_time(state, server, n, prompts, squares, guess, total)
        if not first_merged <= k < end_merged:
            continue
        n_all += n
        prompts_all += prompts
        squares_all += squares
        guess_all, total_all, need_all = max(guess_all, guess), max(total_all, total), max(need_all, need)
        reserved_all += reserved
        tokens_all += tokens
    fit = reserved_all <= server.eta and need_all <= server.eta
    if whole and fit and (n_all == 1 or tokens_all <= lane.max_tokens):
        return batch_time(state, server, n_all, prompts_all, squares_all, guess_all, total_all)
    return -1.0

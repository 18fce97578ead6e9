"""Faults of other schedulers and simulators, one test each, on the compiled simulator.

Proved elsewhere and not repeated here (file::test, without the leading test_):
- K = 1 is the single queue bit for bit: equal_runs::one_bin_of_multibin_is_dynamic.
- Bin edges never look at scored arrivals: predictors_bins::edges_of_a_generator_do_not_come_from_the_scored_arrivals
  and ::edges_of_a_trace_come_from_its_first_tenth_only.
- No batch of any scheduler exceeds the memory: properties::every_policy_on_many_requests.
- Inside its band the SLA controller holds a small batch: controllers::inside_the_band_a_small_batch_reproduces_itself.
- Another seed is another world: workload::same_seed_same_bytes_other_seed_or_split_other_bytes.
- Shares and rates have the stated denominators: metrics::shares_and_rates_have_the_stated_denominators.
"""

"""The policy `rollout`: every decision is tried in a simulation of what may follow."""

"""A serving loop in this process: a model of Transformers under the schedulers of two published projects."""

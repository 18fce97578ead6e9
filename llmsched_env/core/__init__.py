"""The simulator's core, which knows no engine: state, queues, clock, controllers, the run loop and the step loop."""

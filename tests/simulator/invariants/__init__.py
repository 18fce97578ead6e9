"""What must hold in every run, whatever the policy answers: conservation, memory, order, and equal runs equal bytes."""

"""What a scheduler sees and answers: the decision record, the observation made of it, the signature of a policy."""

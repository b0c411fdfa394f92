"""What the test's trainer_state.json does not say."""

n_layer = 1
n_head = 2
n_embd = 32
block_size = 16
learning_rate = 2e-2

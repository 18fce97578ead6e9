"""The KV memory of servers whose blocks have names: what a prefix cache is made of."""

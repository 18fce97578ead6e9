"""How an arriving request finds its server: rules in the kernel, or a routing policy that is asked."""

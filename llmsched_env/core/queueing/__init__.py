"""How requests wait: bins and their merge, the overdue ones, and the heap that both are made of."""

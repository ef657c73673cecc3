"""Workers: the actors that hold the model, the pool of them, and which failures end a run."""

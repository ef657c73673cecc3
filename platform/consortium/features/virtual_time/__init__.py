"""Virtual time: devices, who takes part in a round, and when answers come."""

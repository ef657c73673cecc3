"""The run directory: tables, TensorBoard, checkpoints."""

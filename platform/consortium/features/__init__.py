"""What a scenario may ask for beside editing and merging: one package a feature."""

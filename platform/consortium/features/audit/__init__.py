"""The audit: every edit that counts is in exactly one merge of each arm and layer, and anybody can check it."""

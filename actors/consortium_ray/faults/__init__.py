"""What breaks on purpose: processes that are killed, nodes that are lost or cut off."""

"""What was released must go on: histories replay, warehouses are migrated, without loss."""

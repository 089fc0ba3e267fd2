"""What every implementation of an interface must do, whatever lies behind it."""

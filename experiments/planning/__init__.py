"""What points would cost, before anything is trained or downloaded."""

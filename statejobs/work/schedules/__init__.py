"""What is done by the clock: ticks of schedules."""

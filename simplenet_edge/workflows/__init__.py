"""What a command calls when it needs several rooms at once."""

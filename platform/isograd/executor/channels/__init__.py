"""Ways to bring messages from one stage to another: one class a file, chosen by ``executor.channel``."""

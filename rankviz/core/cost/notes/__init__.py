"""What someone could trip over: of an estimate, of an old card, of a checkpoint that is published quantized."""

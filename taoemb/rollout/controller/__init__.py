"""The EncoderRollout resource and its controller."""

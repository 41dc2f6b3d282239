"""Videos: their frames one after the other, through the network and into new videos, by PyAV (extra ``video``)."""
